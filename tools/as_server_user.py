"""Runs a command as an account that may run PostgreSQL, which refuses root: `python3 tools/as_server_user.py COMMAND…`.

An ordinary caller runs it as is. Root becomes the account `postgres`, or `nobody` where there is none. Where that
account cannot read the clone (one in the home of root, say), the command keeps the one capability to read files, and no other.
"""

import ctypes
import os
import pwd
import subprocess
import sys

import paths

PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SETPCAP = 1, 2, 8


def account():
    """The account to become, or None when the caller may run PostgreSQL itself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return paths.fail("root may not run PostgreSQL, and there is no account postgres or nobody to run it as: "
                      "add one with `useradd --system postgres`, or call make as an ordinary user")


def caller():
    """The name of the calling account."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return paths.fail(f"user id {os.geteuid()} has no name on this machine, and PostgreSQL needs one: "
                          "run as a user that /etc/passwd lists")


def give(path):
    """Makes the account the owner of a file or folder."""
    user = account()
    if user:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def run(command, **options):
    """subprocess.run as the account, in a folder and with an environment it can use."""
    return subprocess.run(command, preexec_fn=becoming(command), cwd="/", env=environment(options.pop("env", None)),
                          check=False, **options)


def environment(env=None):
    """The environment for a server: nothing that would point PostgreSQL's programs to another one."""
    # With RUST_BACKTRACE the detail of an error would be a backtrace.
    env = {name: value for name, value in (os.environ if env is None else env).items()
           if not name.startswith("PG") and name != "RUST_BACKTRACE"}
    env["LC_ALL"] = "C"
    if account():
        env["HOME"] = account().pw_dir
    return env


def becoming(command):
    """A function for the child before it executes the command, or None when nothing has to change."""
    user = account()
    if user is None:
        return None
    capability = None if _can_reach(user, command) else _capability()
    if capability is not None and not os.environ.get("VECTOR_TOOLS_CAPABILITY_SAID"):
        os.environ["VECTOR_TOOLS_CAPABILITY_SAID"] = "1"
        print(f"note: {user.pw_name} cannot read {paths.ROOT}, so its server keeps root's right to read files "
              "(clone into a folder that everyone may enter to avoid this)", file=sys.stderr, flush=True)
    return lambda: _become(user, capability)


def _become(user, capability):
    libc = ctypes.CDLL(None, use_errno=True)
    if capability is not None:
        # Keeps capabilities over the change of user, and lets access(2) heed them, which PostgreSQL's programs ask.
        _check(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setgroups([user.pw_gid])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    if capability is None:
        return
    mask = 1 << capability
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    # Two triples (effective, permitted, inheritable): the low and the high 32 capabilities.
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _check(libc.capset(header, data))
    _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _check(result):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _can_reach(user, command):
    # Asked in a child that has become the account: the kernel knows better than a sum of mode bits.
    wanted = [paths.LOCAL if os.path.isdir(paths.LOCAL) else paths.ROOT]
    if os.path.isabs(command[0]):
        wanted.append(command[0])
    child = os.fork()
    if child == 0:
        try:
            _become(user, None)
            os._exit(0 if all(os.access(path, os.R_OK | os.X_OK) for path in wanted) else 1)
        finally:
            os._exit(2)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, 1):
        return os.WEXITSTATUS(status) == 0
    return paths.fail(f"could not become the account {user.pw_name}: call make as an ordinary user")


def _capability():
    with open("/proc/self/status", encoding="utf-8") as file:
        held = {name: int(value, 16) for name, value in
                (line.split(":", 1) for line in file if line.startswith(("CapPrm", "CapBnd")))}
    usable = held["CapPrm"] & held["CapBnd"]
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if usable >> capability & 1 and usable >> CAP_SETPCAP & 1:
            return capability
    return paths.fail(f"the account {account().pw_name}, which runs PostgreSQL for root, cannot read {paths.ROOT}: "
                      "clone into a folder that everyone may enter, e.g. below /opt or /tmp")


def main():
    """Replaces this process by the command."""
    command = sys.argv[1:]
    if not command:
        paths.fail("usage: as_server_user.py COMMAND…")
    become = becoming(command)
    if become:
        become()
        os.environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
    try:
        os.execvp(command[0], command)
    except OSError as error:
        paths.fail(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
