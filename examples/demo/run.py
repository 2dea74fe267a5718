"""Asks PostgreSQL about itself: `python3 examples/demo/run.py "CONNECTION STRING"`.

Loads the descriptions of the server's own functions and settings into a table made by the extension, embeds them, and
prints ranked answers to questions whose words are hardly in them. A second run finds the table and only asks.
"""

import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import psql  # noqa: E402

ROWS_A_STATEMENT = 100
END_OF_ANSWER = "-- end of answer --"


class Session:
    """One psql that is fed statement by statement, so that progress can be shown in between."""

    def __init__(self, connection):
        command = [psql.program(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", connection]
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, sql):
        """The lines that the SQL gives."""
        try:
            self.psql.stdin.write(f"{sql};\n\\echo {END_OF_ANSWER}\n")
            self.psql.stdin.flush()
        except BrokenPipeError:
            pass
        lines = []
        for line in self.psql.stdout:
            if line.rstrip("\n") == END_OF_ANSWER:
                return lines
            lines.append(line.rstrip("\n"))
        sys.exit("the server gave an error, see above")

    def run_file(self, name):
        """Runs a file that lies beside this one."""
        with open(os.path.join(HERE, name), encoding="utf-8") as file:
            return self.ask(file.read())


def main():
    """Loads what is not loaded, then asks."""
    session = Session(psql.connection())
    session.run_file("prepare.sql")
    session.run_file("descriptions.sql")
    embed_descriptions(session)
    print()
    sys.stdout.flush()
    session.psql.stdin.close()
    session.psql.wait()
    psql.show(os.path.join(HERE, "questions.sql"))


def embed_descriptions(session):
    """Inserts what is missing, a hundred rows a statement; each embeds in one batch."""
    total = int(session.ask("SELECT count(*) FROM descriptions")[0])
    done = int(session.ask("SELECT count(*) FROM server_memories")[0])
    if done == total:
        print(f"{total} descriptions of the server's own functions and settings are embedded already")
        return
    session.ask("TRUNCATE server_memories")
    print(f"embedding {total} descriptions of the server's own functions and settings")
    start = time.monotonic()
    for first in range(1, total + 1, ROWS_A_STATEMENT):
        last = min(first + ROWS_A_STATEMENT - 1, total)
        session.ask(f"EXECUTE load_descriptions({first}, {last})")
        show_progress(last, total, time.monotonic() - start)
    session.ask("ANALYZE server_memories")
    print()


def show_progress(done, total, seconds):
    """A bar that redraws itself on a terminal; elsewhere a line for each tenth."""
    rate = done / max(seconds, 0.001)
    line = f"{done:5} of {total}, {rate:4.0f} a second, {(total - done) / rate:3.0f} s to go"
    if sys.stdout.isatty():
        width = 30 * done // total
        print(f"\r  [{'#' * width}{'.' * (30 - width)}] {line}", end="", flush=True)
    elif done == total or done * 10 // total != (done - ROWS_A_STATEMENT) * 10 // total:
        print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
