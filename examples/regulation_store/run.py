"""Regulations of several applications in one store: `python3 examples/regulation_store/run.py "CONNECTION STRING"`.

Makes a vector store with a namespace for each application, writes documents into it chunk by chunk, searches, changes and audits
them. Every statement is in store.sql and is shown before its answer. A second run writes what has changed, which is nothing.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import psql  # noqa: E402

if __name__ == "__main__":
    psql.show(os.path.join(HERE, "store.sql"))
