"""Runs a command with the environment that building needs: `python3 tools/run.py cargo build`."""

import os
import shutil
import subprocess
import sys

import paths

# make's job server must not leak into cargo, nor psql's defaults into a test's server.
DROPPED = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGDATA",
           "PGOPTIONS", "PGSERVICE")


def environment(pgrx_home="pgrx"):
    """The environment for cargo and its helpers; `pgrx_home` names a folder below .local."""
    env = {name: value for name, value in os.environ.items() if name not in DROPPED}
    cargo_home = env.get("CARGO_HOME") or os.path.join(os.path.expanduser("~"), ".cargo")
    env["PATH"] = os.pathsep.join([paths.local("cargo", "bin"), env.get("PATH", os.defpath),
                                   os.path.join(cargo_home, "bin")])
    if shutil.which("cargo", path=env["PATH"]) is None:
        paths.fail("no cargo: install Rust (rustup is the usual way) and try again")
    env["PGRX_HOME"] = paths.local(pgrx_home)
    env["LIBCLANG_PATH"] = paths.local("libclang")
    env["BINDGEN_EXTRA_CLANG_ARGS"] = _compiler_headers(env)
    if _links_by_itself():
        # cargo-pgrx would pass its link option to every dependency, and all of them would be built twice.
        env["CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND"] = "1"
    env["ORT_DYLIB_PATH"] = paths.local("onnxruntime", "libonnxruntime.so")
    return env


def _links_by_itself():
    try:
        with open(os.path.join(paths.ROOT, "build.rs"), encoding="utf-8") as file:
            return "--no-gc-sections" in file.read()
    except FileNotFoundError:
        return False


def _compiler_headers(env):
    # The pinned libclang comes without stddef.h and its like; the C compiler's own serve as well.
    compiler = env.get("CC") or "cc"
    if shutil.which(compiler.split()[0], path=env["PATH"]) is None:
        paths.fail(f"no C compiler ({compiler}): install one, e.g. the package gcc or build-essential")
    found = subprocess.run([*compiler.split(), "-print-file-name=include"], capture_output=True, text=True, check=True)
    folder = found.stdout.strip()
    return f'-isystem "{folder}"'


def main():
    """Replaces this process by the command."""
    home = "pgrx"
    command = sys.argv[1:]
    if command[:1] == ["--pgrx-home"]:
        home, command = command[1], command[2:]
    if not command:
        paths.fail("usage: run.py [--pgrx-home NAME] COMMAND…")
    env = environment(home)
    try:
        os.execvpe(command[0], command, env)
    except FileNotFoundError:
        paths.fail(f"{command[0]} was not found")


if __name__ == "__main__":
    main()
