"""psql, as the examples run it."""

import os
import shutil
import subprocess
import sys

LOCAL_PSQL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".local", "postgresql", "18", "bin", "psql")


def connection():
    """The connection string that the example was called with."""
    if len(sys.argv) != 2:
        sys.exit('usage: run.py "CONNECTION STRING", such as "host=/tmp dbname=test"')
    return sys.argv[1]


def program():
    """The psql that `make` brought in, else the one on the PATH."""
    found = LOCAL_PSQL if os.path.exists(LOCAL_PSQL) else shutil.which("psql")
    return found or sys.exit("psql was not found: run `make server`, or put psql on the PATH")


def show(path):
    """Runs the statements of a file as a person would, in psql; what they include lies beside the file."""
    folder, name = os.path.split(os.path.abspath(path))
    command = [program(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-f", name, connection()]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PGCLIENTENCODING": "UTF8"}, check=False)
    if done.returncode != 0:
        sys.exit("the server gave an error, see above")
