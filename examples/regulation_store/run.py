"""Regulations of several applications in one store: `python3 examples/regulation_store/run.py "CONNECTION STRING"`.

Makes a vector store with a namespace for each application, writes documents into it chunk by chunk, searches, changes and audits
them. Every statement is in store.sql and is shown before its answer. A second run writes what has changed, which is nothing.
"""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LOCAL_PSQL = os.path.join(HERE, "..", "..", ".local", "postgresql", "18", "bin", "psql")


def main():
    """Runs the statements as a person would, in psql."""
    if len(sys.argv) != 2:
        sys.exit('usage: run.py "CONNECTION STRING", such as "host=/tmp dbname=test"')
    program = LOCAL_PSQL if os.path.exists(LOCAL_PSQL) else shutil.which("psql")
    if not program:
        sys.exit("psql was not found: run `make server`, or put psql on the PATH")
    command = [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-f", "store.sql", sys.argv[1]]
    done = subprocess.run(command, cwd=HERE, env={**os.environ, "PGCLIENTENCODING": "UTF8"}, check=False)
    if done.returncode != 0:
        sys.exit("the server gave an error, see above")


if __name__ == "__main__":
    main()
