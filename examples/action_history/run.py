"""Which past action worked for an alert like this: `python3 examples/action_history/run.py "CONNECTION STRING"`.

Stores alerts, the actions taken and what came of them, each action with its embedding in the same transaction, and asks in one
query what worked before. Every statement is in actions.sql and is shown before its answer. A second run stores nothing twice.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import psql  # noqa: E402

if __name__ == "__main__":
    psql.show(os.path.join(HERE, "actions.sql"))
