"""The folder of a server's socket, whose path the kernel limits to 107 bytes."""

import os
import shutil
import sys
import tempfile

import as_server_user
import paths

LIMIT = 107


def of(folder):
    """The path to give to the server and its clients."""
    return os.readlink(folder) if os.path.islink(folder) else folder


def make(folder, port):
    """Makes the folder, or a link to a shorter one in the folder for temporary files."""
    name = f"/.s.PGSQL.{port}"
    if not _fits(folder + name):
        _make_short(folder, name)
    elif os.path.islink(folder):
        os.unlink(folder)
    os.makedirs(of(folder), mode=0o700, exist_ok=True)
    os.chmod(of(folder), 0o700)
    as_server_user.give(of(folder))
    for leftover in (name, name + ".lock"):
        if os.path.lexists(of(folder) + leftover):
            os.unlink(of(folder) + leftover)


def remove(folder):
    """Removes a short folder, which lies outside the clone."""
    if os.path.islink(folder):
        if _is_ours(os.readlink(folder)):
            shutil.rmtree(os.readlink(folder), ignore_errors=True)
        os.unlink(folder)


def _make_short(folder, name):
    if os.path.islink(folder):
        if _is_ours(os.readlink(folder)):
            return
        os.unlink(folder)
    shutil.rmtree(folder, ignore_errors=True)
    # Root's own folder for temporary files may be closed to the account that runs the server.
    bases = ["/tmp"] if as_server_user.account() else [tempfile.gettempdir(), "/tmp"]
    for base in bases:
        if _fits(os.path.join(base, "vector_tools-12345678") + name):
            short = tempfile.mkdtemp(prefix="vector_tools-", dir=base)
            as_server_user.give(short)
            os.symlink(short, folder)
            print(f"the path of this clone is too long for a socket, so it is in {short}", file=sys.stderr, flush=True)
            return
    paths.fail("no folder for temporary files has a path short enough for a socket: clone into a shorter path")


def _is_ours(short):
    user = as_server_user.account()
    try:
        found = os.lstat(short)
    except FileNotFoundError:
        return False
    return os.path.isdir(short) and not os.path.islink(short) and \
        found.st_uid == (user.pw_uid if user else os.geteuid())


def _fits(path):
    return len(os.fsencode(path)) <= LIMIT
