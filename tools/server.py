"""Starts, stops and shows a PostgreSQL below .local: `python3 tools/server.py start|stop|status|psql|run`.

`start` prints a libpq connection string as the last line of its output; messages go to the error output. Calling it
again is harmless, after a crash too. `run -- COMMAND…` gives a fresh server to one command and removes it afterwards.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import as_server_user
import data_folder
import paths
import progress
import socket_folder

DATABASE = "vector_tools"
PORT = "5432"

# Fit for 2 cores and 4 GB; `--set` overrides them.
SETTINGS = {
    "listen_addresses": "",
    "port": PORT,
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "default_text_search_config": "pg_catalog.english",
}


class Server:
    """One server: its programs, its folder and what is in it."""

    def __init__(self, name="server", postgresql=None, data=None, settings=()):
        if not re.fullmatch(r"(server|test|bench|demo)(-[a-z0-9_-]+)?", name):
            paths.fail(f"a server is called server, test-…, bench-… or demo-…, not {name}")
        self.name = name
        self.programs = os.path.join(os.path.abspath(postgresql or paths.postgresql()), "bin")
        self.folder = paths.local(name)
        self.data = os.path.abspath(data) if data else os.path.join(self.folder, "data")
        self.log = os.path.join(self.folder, "log")
        self.socket = os.path.join(self.folder, "socket")
        self.settings = {**SETTINGS, **dict(settings)}
        if not os.path.exists(self.program("postgres")):
            paths.fail(f"no PostgreSQL in {self.programs}: `make server` brings one, "
                       "`make postgresql-test` the one for tests")

    def program(self, name):
        """The path of one of PostgreSQL's programs."""
        return os.path.join(self.programs, name)

    def connection(self, database=DATABASE):
        """The connection string, as libpq reads it."""
        host = socket_folder.of(self.socket)
        if re.search(r"[\s'\\]", host):
            host = "'" + host.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return f"host={host} port={self.settings['port']} user=postgres dbname={database}"

    def start(self, fresh=False):
        """Makes the data folder if there is none, and the server run with the settings that were asked for."""
        with progress.only_one(self.name):
            if fresh:
                self._remove()
            self._make_folder()
            data_folder.check(self)
            if data_folder.pid(self):
                if not self._is_outdated():
                    say(f"{self.name} runs already")
                    self._make_database()
                    return
                say(f"{self.name} has new settings or a new library: restarting it")
                self._pg_ctl("stop", "-m", "fast")
            data_folder.clear_stale_lock(self)
            if not os.path.exists(os.path.join(self.data, "PG_VERSION")):
                data_folder.initialise(self)
            socket_folder.make(self.socket, int(self.settings["port"]))
            data_folder.configure(self)
            self._launch()
            self._make_database()

    def stop(self, remove=False):
        """Stops the server if it runs."""
        with progress.only_one(self.name):
            if data_folder.pid(self):
                self._pg_ctl("stop", "-m", "fast")
                say(f"{self.name} is stopped")
            else:
                say(f"{self.name} does not run")
            socket_folder.remove(self.socket)
            if remove:
                self._remove()

    def psql(self, *arguments):
        """The command line of psql on this server."""
        return [self.program("psql"), self.connection(), *arguments]

    def _make_folder(self):
        try:
            os.makedirs(self.folder, mode=0o755, exist_ok=True)
            with open(self.log, "ab"):
                os.chmod(self.log, 0o600)
        except PermissionError as error:
            paths.fail(f"{error.filename} belongs to another user: call as that user, or remove {self.folder}")
        as_server_user.give(self.log)

    def _remove(self):
        if data_folder.pid(self):
            self._pg_ctl("stop", "-m", "immediate")
        socket_folder.remove(self.socket)
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_outdated(self):
        if data_folder.configuration(self) != data_folder.configured(self):
            return True
        # Workers keep the library they were started with.
        library = os.path.join(data_folder.library_folder(self), "vector_tools.so")
        started = os.stat(os.path.join(self.data, "postmaster.pid")).st_mtime
        return os.path.exists(library) and os.stat(library).st_mtime > started

    def _launch(self):
        for _ in range(40):
            told = os.path.getsize(self.log)
            done = self._pg_ctl("start", "-l", self.log, check=False)
            if done.returncode == 0:
                say(f"{self.name} accepts connections")
                return
            with open(self.log, encoding="utf-8", errors="replace") as file:
                file.seek(told)
                said = file.read()
            if "is still in use" not in said:
                break
            # After a kill of the postmaster its children need a moment to notice and to go.
            time.sleep(0.5)
        sys.stderr.write(said[-4000:] or done.stdout)
        paths.fail(f"{self.name} did not start; its log is {self.log}")

    def _pg_ctl(self, *arguments, check=True):
        done = as_server_user.run([self.program("pg_ctl"), *arguments, "-D", self.data, "-w", "-t", "120"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True)
        if check and done.returncode != 0:
            paths.fail(f"{done.stdout.strip()}\n{self.name}: its log is {self.log}")
        return done

    def _make_database(self):
        asked = self._sql(f"SELECT count(*) FROM pg_database WHERE datname = '{DATABASE}'")
        if asked == "0":
            self._sql(f"CREATE DATABASE {DATABASE}")

    def _sql(self, statement):
        command = [self.program("psql"), "-XAtq", self.connection("postgres"), "-c", statement]
        done = subprocess.run(command, env=as_server_user.environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            paths.fail(f"{done.stderr.strip()}\n{self.name} runs, but refused a connection; its log is {self.log}")
        return done.stdout.strip()


def say(text):
    """A message that does not disturb the connection string on the standard output."""
    print(text, file=sys.stderr, flush=True)


def main():
    """Does what the first argument names."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--name", default="server", help="the folder below .local (server)")
    options.add_argument("--postgresql", metavar="DIR", help="the PostgreSQL to run (.local/postgresql/18)")
    options.add_argument("--data", metavar="DIR", help="the data folder (.local/NAME/data)")
    options.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of the server")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start", parents=[options], help="start it, made first if need be")
    start.add_argument("--fresh", action="store_true", help="throw away what was there")
    stop = verbs.add_parser("stop", parents=[options], help="stop it")
    stop.add_argument("--remove", action="store_true", help="and throw away its data")
    verbs.add_parser("status", parents=[options], help="tell whether it runs, and how to connect")
    for verb in ("psql", "run"):
        more = verbs.add_parser(verb, parents=[options])
        more.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()

    settings = [tuple(setting.split("=", 1)) for setting in chosen.set]
    if any(len(setting) != 2 for setting in settings):
        paths.fail("--set wants NAME=VALUE")
    server = Server(chosen.name, chosen.postgresql, chosen.data, settings)
    as_server_user.caller()
    if chosen.verb == "start":
        server.start(chosen.fresh)
        print(server.connection(), flush=True)
    elif chosen.verb == "stop":
        server.stop(chosen.remove)
    elif chosen.verb == "status":
        if not data_folder.pid(server):
            say(f"{server.name} does not run")
            sys.exit(3)
        say(f"{server.name} runs, its log is {server.log}")
        print(server.connection())
    elif chosen.verb == "psql":
        if not data_folder.pid(server):
            paths.fail(f"{server.name} does not run: `make server` starts it")
        os.execv(server.program("psql"), server.psql(*_command(chosen)))
    else:
        sys.exit(_run(server, _command(chosen)))


def _command(chosen):
    return chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command


def _run(server, command):
    if not command:
        paths.fail("usage: server.py run [--name NAME] -- COMMAND…")
    # A server that lives for one command has nothing to keep through a power failure.
    server.settings = {"fsync": "off", "full_page_writes": "off", **server.settings}
    server.start(fresh=True)
    env = {**os.environ, "PGHOST": socket_folder.of(server.socket), "PGPORT": server.settings["port"],
           "PGUSER": "postgres", "PGDATABASE": DATABASE}
    code = 1
    try:
        code = subprocess.run(command, env=env, check=False).returncode
    except FileNotFoundError:
        say(f"{command[0]} was not found")
    finally:
        # The log of a failure is what one wants to read next.
        server.stop(remove=code == 0)
        if code != 0:
            say(f"exit {code}: {shlex.join(command)}; the server's log is {server.log}")
    return code


if __name__ == "__main__":
    main()
