"""The data folder of a server: making it, its configuration, and whether a server runs on it."""

import locale
import os
import re
import shutil
import subprocess
import sys

import as_server_user
import paths
import socket_folder


def check(server):
    """Ends with advice when the data folder is not one this server can run on."""
    if not os.path.isdir(server.data):
        return
    user = as_server_user.account()
    expected = user.pw_uid if user else os.geteuid()
    owner = os.stat(server.data).st_uid
    if owner != expected:
        paths.fail(f"{server.data} belongs to user id {owner}, but this server would run as {expected}: "
                   "call as its owner, or stop that server and remove the folder to begin anew")
    made_by = _read(os.path.join(server.data, "PG_VERSION"))
    if made_by and made_by != major(server):
        paths.fail(f"{server.data} was made by PostgreSQL {made_by}, but {server.programs} is {major(server)}: "
                   "remove the folder to begin anew, or dump with the old version and restore")


def major(server):
    """The major version of a server's programs."""
    said = subprocess.run([server.program("postgres"), "--version"], capture_output=True, text=True, check=True)
    return re.search(r"(\d+)", said.stdout).group(1)


def library_folder(server):
    """Where the server looks for extensions' libraries."""
    said = subprocess.run([server.program("pg_config"), "--pkglibdir"], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def pid(server):
    """The process id of the server that runs on this data folder, or None."""
    found = _locked_by(server)
    return found if found and _is_server(server, found) else None


def clear_stale_lock(server):
    """Removes the lock of a dead server when another process has its number by now, which PostgreSQL cannot tell."""
    found = _locked_by(server)
    if found and os.path.exists(f"/proc/{found}"):
        os.unlink(os.path.join(server.data, "postmaster.pid"))


def initialise(server):
    """Makes the data folder; a half-made one never has its name."""
    print(f"making the data folder {os.path.relpath(server.data, paths.ROOT)}", file=sys.stderr, flush=True)
    new = server.data + ".new"
    for leftover in (new, server.data):
        shutil.rmtree(leftover, ignore_errors=True)
    os.makedirs(new, mode=0o700)
    as_server_user.give(new)
    command = [server.program("initdb"), "--pgdata", new, "--username", "postgres", "--auth", "peer",
               "--encoding", "UTF8", "--data-checksums", "--no-instructions", *_locale(server)]
    if server.settings.get("fsync") == "off":
        command.append("--no-sync")
    done = as_server_user.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
    if done.returncode != 0:
        paths.fail(f"{done.stdout.strip()}\ninitdb failed (exit {done.returncode})")
    os.rename(new, server.data)


def configure(server):
    """Writes the configuration files."""
    for name, text in configuration(server).items():
        _write(os.path.join(server.data, name), text)


def configured(server):
    """The configuration files as they are."""
    return {name: _read(os.path.join(server.data, name), strip=False) for name in configuration(server)}


def configuration(server):
    """The configuration files as they should be: name → text."""
    settings = {**server.settings, "unix_socket_directories": '"' + socket_folder.of(server.socket) + '"',
                "unix_socket_permissions": "0700"}
    if _is_shared_memory_small():
        # Parallel index builds need more than a container's usual 64 MB.
        settings.setdefault("dynamic_shared_memory_type", "mmap")
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in settings.items()]
    user = as_server_user.account()
    names = {as_server_user.caller()} | ({user.pw_name} if user else set())
    return {
        "postgresql.conf": "# Written by tools/server.py at each start; ALTER SYSTEM overrides it.\n"
                           + "\n".join(lines) + "\n",
        # Not trust: on a machine with other users that would make each of them a superuser.
        "pg_hba.conf": "local all all peer map=owner\nlocal replication all peer map=owner\n",
        "pg_ident.conf": "".join(f'owner "{name}" all\n' for name in sorted(names)),
    }


def _locale(server):
    # The C library's C.UTF-8 is not on every machine; from 17 on PostgreSQL brings its own.
    try:
        kept = locale.setlocale(locale.LC_CTYPE)
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        locale.setlocale(locale.LC_CTYPE, kept)
        options = ["--locale=C.UTF-8"]
    except locale.Error:
        options = ["--locale=C"]
    if int(major(server)) >= 17:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return options


def _is_shared_memory_small():
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return True
    return found.f_blocks * found.f_frsize < 512 << 20


def _locked_by(server):
    text = _read(os.path.join(server.data, "postmaster.pid"))
    first = text.split("\n", 1)[0].strip() if text else ""
    return int(first) if first.isdigit() and int(first) > 0 else None


def _is_server(server, process):
    # A postmaster works in its data folder; a stranger that got the same number does not.
    try:
        return os.path.samefile(f"/proc/{process}/cwd", server.data)
    except FileNotFoundError:
        return False
    except PermissionError:
        return os.stat(f"/proc/{process}").st_uid == os.stat(server.data).st_uid


def _read(path, strip=True):
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
            return text.strip() if strip else text
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        return paths.fail(f"{path} cannot be read by you: call as the user who made it")


def _write(path, text):
    # Renamed into place and never followed, because the folder may belong to another account than the writer.
    new = path + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w",
                   encoding="utf-8") as file:
        file.write(text)
    as_server_user.give(new)
    os.replace(new, path)
