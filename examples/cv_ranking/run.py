"""Which of a person's projects to show for a job: `python3 examples/cv_ranking/run.py "CONNECTION STRING"`.

Stores the artifacts of two people with vectors of 1536 dimensions, and ranks those of one of them against a job description.
Every statement is in artifacts.sql. A second run stores nothing twice.
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
    command = [program, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-f", "artifacts.sql", sys.argv[1]]
    done = subprocess.run(command, cwd=HERE, env={**os.environ, "PGCLIENTENCODING": "UTF8"}, check=False)
    if done.returncode != 0:
        sys.exit("the server gave an error, see above")


if __name__ == "__main__":
    main()
