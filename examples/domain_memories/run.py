"""An assistant's memories by domain: `python3 examples/domain_memories/run.py "CONNECTION STRING"`.

Stores two dozen memories in the domains startup and health, and asks, changes and reads them, by the functions and by plain
SQL. Every statement is in memories.sql and is shown before its answer. A second run stores nothing twice.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import psql  # noqa: E402

if __name__ == "__main__":
    psql.show(os.path.join(HERE, "memories.sql"))
