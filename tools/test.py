"""Runs the tests and sums up which passed: `python3 tools/test.py [STAGE…] [-- WORD…]`.

Stages: check, server, regress, again, docs, cluster, elsewhere, older. Without one: check, server, regress, again and docs; `all` is
all of them, and stress, random load for STRESS_SECONDS with the numbers of STRESS_SEED, is not among them. With words,
only the tests run whose names have one of them, and without a stage every stage that has such tests on the current
PostgreSQL.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import as_server_user
import install
import paths
import run

TEST_POSTGRESQL = "postgresql-test"
OLDEST = "16"

# The packages that need no PostgreSQL.
PURE = ["-p", "vector_tools_core", "-p", "vector_tools_embedder"]

# What the runners of the present stage said last.
CLOSING = []

# Parts of the names of the tests that are wanted; all of them where there is none.
WORDS = []


def main():
    """Runs the stages that were named; ends with an error when one failed."""
    os.umask(0o022)
    arguments = sys.argv[1:]
    if "--" in arguments:
        place = arguments.index("--")
        WORDS.extend(arguments[place + 1:])
        arguments = arguments[:place]
    stages = {**STAGES, "stress": stress}
    for stage in arguments:
        if stage not in stages and stage != "all":
            paths.fail(f"no stage {stage}: choose from {', '.join(stages)}, all")
    wanted = list(STAGES) if arguments == ["all"] else arguments or _usual()
    results = []
    for stage in wanted:
        _heading(f"{stage}: {stages[stage].__doc__}")
        began = time.monotonic()
        CLOSING.clear()
        passed = _passes(stages[stage])
        results.append((stage, passed, time.monotonic() - began, list(CLOSING)))
    _heading("summary")
    for stage, passed, seconds, closing in results:
        print(f"{stage:<10}{'passed' if passed else 'FAILED':<8}{seconds:6.0f} s")
        for line in closing:
            print(f"          {line}")
    sys.exit(0 if all(passed for _, passed, *_ in results) else 1)


def _usual():
    if not WORDS:
        return ["check", "server", "regress", "again", "docs"]
    found = [stage for stage, folders in SOURCES.items() if any(_has_tests(folder) for folder in folders)]
    return found or paths.fail(f"no test has {' or '.join(WORDS)} in its name")


def _has_tests(folder):
    """Whether a test below a folder would match: its name is that of its file, and of its function."""
    for where, _, names in os.walk(os.path.join(paths.ROOT, folder)):
        for name in names:
            stem, ending = os.path.splitext(name)
            module = os.path.basename(where) if stem in ("mod", "tests") else stem
            tests = [module]
            if ending == ".rs":
                with open(os.path.join(where, name), encoding="utf-8") as file:
                    tests = [f"{module}::{test}" for test in re.findall(TEST, file.read())]
            if ending in (".rs", ".sql", ".spec", ".md") and any(word in test for test in tests for word in WORDS):
                return True
    return False


def check():
    """format, lints and tests of everything that needs no PostgreSQL"""
    if WORDS:
        return _call(["cargo", "test", *PURE, "--", *WORDS])
    return _call(["cargo", "fmt", "--all", "--check"]) \
        and _call(["cargo", "clippy", *PURE, "--all-targets", "--", "-D", "warnings"]) \
        and _call(["cargo", "test", *PURE])


def server():
    """functions inside a PostgreSQL"""
    config = paths.pg_config(TEST_POSTGRESQL)
    install.install_companions(config)
    env = run.environment("pgrx-test")
    env["USER"] = as_server_user.caller()
    command = ["cargo", "pgrx", "test", f"pg{paths.MAJOR}", "--release"]
    # A short path, because the server's socket goes there, and one of its own account.
    data = tempfile.mkdtemp(prefix="vt-", dir="/tmp")
    as_server_user.give(data)
    user = as_server_user.account()
    if user:
        env["PATH"] = os.path.join(paths.TOOLS, "sudo") + os.pathsep + env["PATH"]
        command += ["--runas", user.pw_name]
    command += ["--pgdata", data]
    try:
        # It takes one word; several of them run one after the other.
        return all([_call([*command, word], env) for word in WORDS] or [_call(command, env)])
    finally:
        shutil.rmtree(data, ignore_errors=True)


def regress():
    """SQL sessions with their expected output, and concurrent ones"""
    _install()
    tests = os.path.join(paths.ROOT, "pg_test", "regress")
    specs = os.path.join(paths.ROOT, "pg_test", "isolation")
    return all([_regress("regress/pg_regress", tests, "sql/*.sql"),
                _regress("isolation/pg_isolation_regress", specs, "specs/*.spec")])


def again():
    """what is built is not built again, whatever was tested in between"""
    if WORDS:
        return True
    built = ["cargo", "test", *PURE, "--no-run", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(built, cwd=paths.ROOT, env=run.environment(), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True, check=False)
    messages = map(json.loads, done.stdout.splitlines())
    compiled = {message["target"]["name"] for message in messages if not message.get("fresh", True)}
    if not install.is_built(paths.pg_config(TEST_POSTGRESQL)):
        compiled.add("the extension")
    CLOSING.append(f"compiled again: {', '.join(sorted(compiled)) or 'nothing'}")
    print(CLOSING[-1])
    return done.returncode == 0 and not compiled


def cluster():
    """real servers: crash, standby, dump and upgrade"""
    _install()
    return _cluster("cluster")


def elsewhere():
    """what touches names, rights and schemas, with the extension in a quoted schema and pgvector in another"""
    _install()
    return _cluster("cluster", only=ABOUT_SCHEMAS, skips=["shadows"], env={"TEST_SCHEMAS": "elsewhere"})


def older():
    """real servers again, of the oldest PostgreSQL that is supported"""
    install.install(paths.pg_config(major=OLDEST))
    # They name objects as a later PostgreSQL lists them, or need its extension_control_path.
    folder = os.path.relpath(paths.postgresql(major=OLDEST), paths.ROOT)
    return _cluster("cluster", skips=["objects::", "upgrade::"], env={"TEST_POSTGRESQL": folder})


def docs():
    """every example of the documentation"""
    _install()
    return _cluster("docs")


def stress():
    """random load of several roles, with changes of tables, cancels and kills"""
    _install()
    # Empty is as good as not given: make hands on what it was called with.
    given = {name: os.environ[name] for name in ("STRESS_SECONDS", "STRESS_SEED") if os.environ.get(name)}
    # The seed is told before, so that a run that hangs can be repeated.
    return _cluster("cluster", only=["stress::"], options=["--nocapture"], env={"STRESS_SECONDS": "120", **given})


STAGES = {stage.__name__: stage for stage in (check, server, regress, again, docs, cluster, elsewhere, older)}

# Where the tests of a stage are; those of `elsewhere` and `older` are those of `cluster`.
SOURCES = {
    "check": ["crates", "pg_test/arguments", "pg_test/embedder", "pg_test/fuzz", "pg_test/layers", "pg_test/quality/reference",
              "pg_test/sql_text", "pg_test/trust"],
    "server": ["pg_test/server"],
    "regress": ["pg_test/regress/sql", "pg_test/isolation/specs"],
    "docs": ["docs", "examples"],
    "cluster": ["pg_test/cluster"],
}
TEST = re.compile(r"#\[(?:pg_)?test\](?:\s|//.*|#\[.*\])*fn (\w+)")

# Parts of the names of tests in pg_test/cluster whose promises touch names, rights or schemas.
ABOUT_SCHEMAS = ["rights", "names", "schema", "access", "isolation::", "views::", "install::", "adoption::", "objects::",
                 "dump", "unbroken_lists", "store::", "memories::", "audit::", "pipeline::", "searchable::", "drift::"]


def _cluster(name, only=(), skips=(), options=(), env=()):
    """Runs tests on real servers: of `only`, those that the words name."""
    command = ["cargo", "test", "-p", "vector_tools_tests", "--test", name, "--"]
    command += WORDS or only
    command += [word for skip in skips for word in ("--skip", skip)]
    return _call([*command, *options], {**run.environment(), **dict(env)})


def _install():
    # Without the test functions that `cargo pgrx test` leaves behind.
    install.install(paths.pg_config(TEST_POSTGRESQL))


def _regress(program, folder, pattern):
    names = sorted(os.path.splitext(os.path.basename(path))[0] for path in glob.glob(os.path.join(folder, pattern)))
    names = [name for name in names if not WORDS or any(word in name for word in WORDS)]
    if not names:
        print(f"no {pattern} in {os.path.relpath(folder, paths.ROOT)} that is wanted")
        return True
    postgresql = paths.postgresql(TEST_POSTGRESQL)
    output = paths.local("log", os.path.basename(folder))
    os.makedirs(output, exist_ok=True)
    name = "test-" + os.path.basename(folder)
    passed = _call([sys.executable, os.path.join(paths.TOOLS, "server.py"), "run", "--name", name,
                    "--postgresql", postgresql, "--",
                    os.path.join(postgresql, "lib/postgresql/pgxs/src/test", program),
                    "--bindir", os.path.join(postgresql, "bin"), "--inputdir", folder, "--outputdir", output,
                    "--dbname", "regression", "--load-extension", "vector", "--load-extension", "vector_tools", *names],
                   errors=subprocess.STDOUT)
    difference = os.path.join(output, "regression.diffs")
    if not passed and os.path.exists(difference):
        with open(difference, encoding="utf-8", errors="replace") as file:
            print("".join(file.readlines()[:200]), flush=True)
    return passed


def _call(command, env=None, errors=None):
    print("$ " + " ".join(os.path.relpath(word) if word.startswith(paths.ROOT) else word for word in command),
          flush=True)
    process = subprocess.Popen(command, cwd=paths.ROOT, env=env or run.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace")
    reader = threading.Thread(target=_pass_on, args=(process.stdout,), daemon=True)
    reader.start()
    code = process.wait()
    # A server that a test left behind may hold the pipe open for ever.
    reader.join(timeout=5)
    return code == 0


def _pass_on(output):
    for line in output:
        print(line, end="", flush=True)
        if re.match(r"test result: |# .*tests? (passed|failed)", line):
            CLOSING.append(line.strip())


def _passes(stage):
    try:
        return stage()
    except SystemExit as ended:
        return not ended.code


def _heading(text):
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    main()
