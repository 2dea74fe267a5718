//! Keeps pgrx's schema section in the library: nothing refers to it, so the linker would drop it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--no-gc-sections");
}
