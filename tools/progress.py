"""Shows that something long goes on: a line when it starts, one now and then, one when it is done."""

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time

import paths

EVERY = 15


def say(part, text):
    """One line about a part."""
    print(f"{part + ':':<18}{text}", flush=True)


@contextlib.contextmanager
def only_one(name):
    """Lets one process at a time do what is named: two `make` in one clone wait for each other."""
    try:
        os.makedirs(paths.LOCAL, mode=0o755, exist_ok=True)
        lock = open(paths.local(f".{name}.lock"), "w", encoding="utf-8")
    except PermissionError as error:
        paths.fail(f"{error.filename} belongs to another user: call make as that user, or in a clone of your own")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run that is busy with {name}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(part, what, command, env=None, counting=(None, "")):
    """Runs a long command quietly; its output goes to a log, whose end is shown when it fails.

    `counting` is the word that starts the log's lines worth counting, and what they are called.
    """
    os.makedirs(paths.local("log"), mode=0o755, exist_ok=True)
    log = paths.local("log", f"{part}.log")
    say(part, what)
    began = time.monotonic()
    with open(log, "wb") as out:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        except FileNotFoundError:
            paths.fail(f"{command[0]} was not found: install it and try again")
        over = threading.Event()
        shower = threading.Thread(target=_show, args=(part, log, counting, began, over), daemon=True)
        shower.start()
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            over.set()
            shower.join()
    if code != 0:
        with open(log, encoding="utf-8", errors="replace") as file:
            sys.stderr.write("".join(file.readlines()[-40:]))
        paths.fail(f"{part} failed (exit {code}); everything it said is in {log}")


def _show(part, log, counting, began, over):
    while not over.wait(EVERY):
        line = f"… {time.monotonic() - began:.0f} s"
        start, things = counting
        if start:
            with open(log, encoding="utf-8", errors="replace") as file:
                count = sum(1 for text in file if text.strip().startswith(start))
            line += f", {count} {things}"
        say(part, line)
