//! Where the server keeps libraries and shared files.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use pgrx::pg_sys;

use crate::settings;

/// Where an installed ONNX Runtime library is looked for before the system's own.
pub fn runtime_libraries() -> Vec<PathBuf> {
    vec![companions().join("libonnxruntime.so")]
}

/// The executable of the embedding process.
pub fn embedder_program() -> PathBuf {
    settings::embedder_program().unwrap_or_else(|| companions().join("vector_tools_embedder"))
}

/// The folder of what the extension needs beside its own library.
fn companions() -> PathBuf {
    // SAFETY: a NUL-terminated array that the server fills once at start.
    let library_folder = unsafe { CStr::from_ptr((&raw const pg_sys::pkglib_path).cast()) };
    Path::new(&*library_folder.to_string_lossy()).join("vector_tools")
}

/// The path of a model's source: as it is when absolute, else inside the model folder.
pub fn resolve_source(source: &str) -> PathBuf {
    model_directory().join(source)
}

fn model_directory() -> PathBuf {
    settings::model_directory().unwrap_or_else(|| share_folder().join("vector_tools/models"))
}

fn share_folder() -> PathBuf {
    let mut buffer = [0; pg_sys::MAXPGPATH as usize];
    // SAFETY: the buffer has the size the function expects, and my_exec_path is set at start.
    let path = unsafe {
        pg_sys::get_share_path((&raw const pg_sys::my_exec_path).cast(), buffer.as_mut_ptr());
        CStr::from_ptr(buffer.as_ptr())
    };
    PathBuf::from(&*path.to_string_lossy())
}
