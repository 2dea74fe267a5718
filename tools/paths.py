"""Where things are: everything `make` brings in lies below .local of the repository."""

import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCAL = os.path.join(ROOT, ".local")
TOOLS = os.path.join(ROOT, "tools")

# What a fresh clone builds for and runs on.
MAJOR = "18"


def local(*parts):
    """A path below .local."""
    return os.path.join(LOCAL, *parts)


def postgresql(kind="postgresql", major=MAJOR):
    """The folder of a PostgreSQL that setup.py unpacked."""
    return local(kind, major)


def pg_config(kind="postgresql", major=MAJOR):
    """The pg_config of a PostgreSQL that setup.py unpacked."""
    return os.path.join(postgresql(kind, major), "bin", "pg_config")


def pins():
    """The pinned downloads."""
    with open(os.path.join(TOOLS, "pins.json"), encoding="utf-8") as file:
        return json.load(file)


def fail(message):
    """Ends the program with a message that says what to do."""
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(1)
