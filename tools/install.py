"""Builds the extension for a PostgreSQL and installs it there: `python3 tools/install.py [--pg-config PATH]`.

With it go the executable of the shared embedder, the ONNX Runtime library and the models, to where the extension looks
for them by default. Files are renamed into place, because running backends have the old library mapped and the embedder
notices by it that there is a new one, and what has not changed is left alone.
"""

import argparse
import filecmp
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess

import paths
import progress
import run
import setup
from progress import say

EMBEDDER = "vector_tools_embedder"
# All that a build depends on.
BUILT_FROM = ("src", "crates", "sql", "Cargo.toml", "Cargo.lock", "build.rs", "vector_tools.control", ".cargo",
              "tools/install.py")


def main():
    """Builds, then installs."""
    os.umask(0o022)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pg-config", default=paths.pg_config(), help="of the PostgreSQL to install into")
    parser.add_argument("--no-build", action="store_true", help="install what was built before, e.g. under sudo")
    parser.add_argument("--only-extension", action="store_true", help="leave ONNX Runtime and the models out")
    parser.add_argument("--uninstall", action="store_true", help="remove what was installed")
    chosen = parser.parse_args()
    if chosen.uninstall:
        uninstall(chosen.pg_config)
        return
    if not chosen.no_build:
        parts = [] if chosen.only_extension else ["onnxruntime", "models"]
        setup.bring_in(parts + (["postgresql"] if _is_ours(chosen.pg_config) else []) + ["libclang"])
    with progress.only_one("install"):
        install(chosen.pg_config, chosen.no_build, chosen.only_extension)


def install(pg_config, no_build=False, only_extension=False):
    """Installs the extension and, unless told otherwise, what it needs at run time."""
    pg_config = os.path.abspath(shutil.which(pg_config) or pg_config)
    if not no_build:
        package(pg_config)
    sources = _package_files(pg_config)
    if not only_extension:
        sources += companions(pg_config)
    put(pg_config, sources)


def install_companions(pg_config):
    """Installs only what the extension needs at run time."""
    package(pg_config)
    embedder = [pair for pair in _package_files(pg_config) if os.path.basename(pair[0]) == EMBEDDER]
    put(pg_config, companions(pg_config) + embedder)


def package(pg_config):
    """Builds the release extension into a folder of its own, unless what is there was made from the same files."""
    major = _major(pg_config)
    folder = _package_folder(pg_config)
    key = _sources_key(pg_config)
    if _read(folder + ".stamp") == key:
        say("install", f"the extension for PostgreSQL {major} is built")
        return
    say("install", f"building the extension for PostgreSQL {major} (the first time takes some minutes)")
    library, program = build(pg_config, major)
    shutil.rmtree(folder, ignore_errors=True)
    libraries, shared = _ask(pg_config, "--pkglibdir"), os.path.join(_ask(pg_config, "--sharedir"), "extension")
    _copy(library, folder + os.path.join(libraries, "vector_tools.so"))
    _copy(program, folder + os.path.join(libraries, "vector_tools", EMBEDDER))
    for name, text in extension_files().items():
        path = folder + os.path.join(shared, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    with open(folder + ".stamp", "w", encoding="utf-8") as file:
        file.write(key)


def build(pg_config, major):
    """Compiles the library and the executable that embeds for all sessions; returns where both are."""
    artifacts = _artifacts(pg_config, major)
    files = [path for artifact in artifacts for path in artifact["filenames"]]
    library = [path for path in files if os.path.basename(path) == "libvector_tools.so"]
    program = [path for path in files if os.path.basename(path) == EMBEDDER]
    if not library or not program:
        paths.fail("the extension did not build, see above")
    return library[0], program[0]


def is_built(pg_config):
    """Whether what is there was made from the same files, so that cargo is not even asked: `cargo pgrx test` puts its
    library where cargo looks for this one."""
    return _read(_package_folder(pg_config) + ".stamp") == _sources_key(pg_config)


def _artifacts(pg_config, major):
    env = run.environment()
    if not _is_ours(pg_config):
        # Bindings are made from the headers of the PostgreSQL that is installed into.
        env["PGRX_PG_CONFIG_PATH"] = pg_config
    command = ["cargo", "build", "--release", "--locked", "-p", "vector_tools", "-p", EMBEDDER, "--no-default-features",
               "--features", f"vector_tools/pg{major}", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=paths.ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True, check=False)
    if done.returncode != 0:
        paths.fail("the extension did not build, see above")
    messages = map(json.loads, done.stdout.splitlines())
    return [message for message in messages if message["reason"] == "compiler-artifact"]


def extension_files():
    """What CREATE EXTENSION and ALTER EXTENSION UPDATE read, by name."""
    version = re.search(r'^version = "(.+)"', _text("Cargo.toml"), re.MULTILINE).group(1)
    parts = [_text("sql", name) for name in _text("sql", "install.list").split()]
    files = {"vector_tools.control": _text("vector_tools.control").replace("@CARGO_VERSION@", version),
             f"vector_tools--{version}.sql": "\n".join(parts)}
    for path in glob.glob(os.path.join(paths.ROOT, "sql", "vector_tools--*--*.sql")):
        files[os.path.basename(path)] = _text("sql", os.path.basename(path))
    return files


def _sources_key(pg_config):
    """Changes with every file that goes into the build, and with the PostgreSQL it is for."""
    found = hashlib.sha256(f"{pg_config} {_ask(pg_config, '--version')}".encode())
    for root in BUILT_FROM:
        top = os.path.join(paths.ROOT, root)
        names = [top] if os.path.isfile(top) else [
            os.path.join(where, name) for where, _, names in os.walk(top) for name in names]
        for name in sorted(names):
            with open(name, "rb") as file:
                found.update(os.path.relpath(name, paths.ROOT).encode() + b"\0" + hashlib.sha256(file.read()).digest())
    return found.hexdigest()


def _copy(source, destination):
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    shutil.copyfile(source, destination)


def _text(*path):
    with open(os.path.join(paths.ROOT, *path), encoding="utf-8") as file:
        return file.read()


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None


def companions(pg_config):
    """The ONNX Runtime library and the models: pairs of source and destination."""
    libraries = os.path.join(_ask(pg_config, "--pkglibdir"), "vector_tools")
    models = os.path.join(_ask(pg_config, "--sharedir"), "vector_tools", "models")
    pairs = [(os.path.realpath(paths.local("onnxruntime", "libonnxruntime.so")),
              os.path.join(libraries, "libonnxruntime.so")),
             (paths.local("onnxruntime", "LICENSE"), os.path.join(libraries, "libonnxruntime.LICENSE")),
             (os.path.join(paths.ROOT, "models", "LICENSE"), os.path.join(models, "LICENSE"))]
    for name in sorted(os.listdir(paths.local("models"))):
        if os.path.isdir(paths.local("models", name)):
            pairs += _files(paths.local("models", name), os.path.join(models, name))
    return pairs


def put(pg_config, pairs):
    """Copies each source to its destination unless it is there already."""
    changed = [pair for pair in pairs if not _is_same(*pair)]
    home = os.path.dirname(os.path.dirname(pg_config))
    if not changed:
        say("install", f"{home} is up to date")
        return
    try:
        for source, destination in changed:
            os.makedirs(os.path.dirname(destination), mode=0o755, exist_ok=True)
            new = destination + ".new"
            shutil.copyfile(source, new)
            os.chmod(new, 0o755 if destination.endswith((".so", EMBEDDER)) else 0o644)
            os.replace(new, destination)
    except PermissionError as error:
        paths.fail(f"{error.filename} may not be written by you. The build is done; install it with\n"
                   f"  sudo python3 {os.path.relpath(__file__)} --no-build --pg-config {pg_config}")
    say("install", f"{len(changed)} of {len(pairs)} files were new for {home}")


def uninstall(pg_config):
    """Removes everything that any version of this has installed, and nothing else."""
    libraries, shared = _ask(pg_config, "--pkglibdir"), _ask(pg_config, "--sharedir")
    extension = os.path.join(shared, "extension")
    found = [os.path.join(libraries, "vector_tools.so"), os.path.join(extension, "vector_tools.control"),
             *sorted(glob.glob(os.path.join(glob.escape(extension), "vector_tools--*.sql"))),
             os.path.join(libraries, "vector_tools"), os.path.join(shared, "vector_tools")]
    found = [path for path in found if os.path.lexists(path)]
    try:
        for path in found:
            say("uninstall", f"removing {path}")
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
    except PermissionError as error:
        paths.fail(f"{error.filename} may not be removed by you: run it again under sudo")
    if not found:
        say("uninstall", "nothing is installed there")


def _package_folder(pg_config):
    return paths.local("package", f"{_major(pg_config)}-{hashlib.sha256(pg_config.encode()).hexdigest()[:8]}")


def _package_files(pg_config):
    folder = _package_folder(pg_config)
    if not os.path.isdir(folder):
        paths.fail(f"nothing was built for {pg_config} yet: run `make install PG_CONFIG={pg_config}`")
    return _files(folder, "/")


def _files(folder, destination):
    pairs = []
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            source = os.path.join(where, name)
            pairs.append((source, os.path.join(destination, os.path.relpath(source, folder))))
    return pairs


def _is_same(source, destination):
    return os.path.exists(destination) and filecmp.cmp(source, destination, shallow=False)


def _is_ours(pg_config):
    # Those of the same version in .local are alike, so bindings are made for one of them only.
    return os.path.abspath(pg_config) in (paths.pg_config(kind) for kind in ("postgresql", "postgresql-test"))


def _major(pg_config):
    said = _ask(pg_config, "--version")
    return re.search(r"(\d+)", said).group(1)


def _ask(pg_config, option):
    try:
        return subprocess.run([pg_config, option], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return paths.fail(f"{pg_config} is not a pg_config: give the one of your PostgreSQL, "
                          "e.g. PG_CONFIG=/usr/lib/postgresql/18/bin/pg_config")


if __name__ == "__main__":
    main()
