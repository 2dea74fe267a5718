"""Questions to a portal's catalogue and documentation, by a Node.js program: `python3 examples/portal_assistant/run.py "CONNECTION STRING"`.

Brings the pinned packages of package-lock.json into node_modules beside this file, if they are not there, and starts assistant.js.
A second run embeds nothing twice.
"""

import filecmp
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LOCK = os.path.join(HERE, "package-lock.json")
INSTALLED = os.path.join(HERE, "node_modules", "installed-package-lock.json")
# What a caller may take for "not on this machine" rather than for a failure.
CANNOT_RUN_HERE = 77


def main():
    """Installs what is missing, then runs the program as a person would."""
    if len(sys.argv) < 2:
        sys.exit('usage: run.py "CONNECTION STRING", such as "host=/tmp dbname=test"')
    node = _program("node")
    if not (os.path.exists(INSTALLED) and filecmp.cmp(LOCK, INSTALLED, shallow=False)):
        _install(_program("npm"))
    done = subprocess.run([node, "assistant.js", *sys.argv[1:]], cwd=HERE, check=False)
    sys.exit(done.returncode)


def _program(name):
    found = shutil.which(name)
    if not found:
        print(f"{name} was not found: install Node.js 20 or newer with npm, and put both on the PATH", file=sys.stderr)
        sys.exit(CANNOT_RUN_HERE)
    return found


def _install(npm):
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=HERE, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        print(f"{done.stdout}\nthe packages of {os.path.relpath(LOCK)} could not be fetched, see above", file=sys.stderr)
        sys.exit(CANNOT_RUN_HERE)
    shutil.copyfile(LOCK, INSTALLED)


if __name__ == "__main__":
    main()
