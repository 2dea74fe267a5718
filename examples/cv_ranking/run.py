"""Which of a person's projects to show for a job: `python3 examples/cv_ranking/run.py "CONNECTION STRING"`.

Stores the artifacts of two people with vectors of 1536 dimensions, and ranks those of one of them against a job description.
Every statement is in artifacts.sql. A second run stores nothing twice.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import psql  # noqa: E402

if __name__ == "__main__":
    psql.show(os.path.join(HERE, "artifacts.sql"))
