"""Runs the tests and sums up which passed: `python3 tools/test.py STAGE…`.

Stages: pure, server, regress, cluster, elsewhere, older, docs, and all of these; and stress, which is not among them:
random load for STRESS_SECONDS with the numbers of STRESS_SEED.
"""

import glob
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

# What the runners of the present stage said last.
CLOSING = []


def main():
    """Runs the stages that were named; ends with an error when one failed."""
    os.umask(0o022)
    wanted = sys.argv[1:] or ["all"]
    if wanted == ["all"]:
        wanted = list(STAGES)
    stages = {**STAGES, "stress": stress}
    for stage in wanted:
        if stage not in stages:
            paths.fail(f"no stage {stage}: choose from {', '.join(stages)}, all")
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


def pure():
    """everything that needs no PostgreSQL"""
    command = ["cargo", "test", "--no-default-features", "--release"]
    # Each bench once, so that none falls behind the code.
    return _call(command) and _call([*command, "--bench", "pure"])


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
    try:
        return _call([*command, "--pgdata", data], env)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def regress():
    """SQL sessions with their expected output, and concurrent ones"""
    _install()
    tests = os.path.join(paths.ROOT, "pg_test", "regress")
    specs = os.path.join(paths.ROOT, "pg_test", "isolation")
    return _regress("regress/pg_regress", tests, "sql/*.sql") and \
        _regress("isolation/pg_isolation_regress", specs, "specs/*.spec")


def cluster():
    """real servers: crash, standby, dump and upgrade"""
    _install()
    return _call(_cluster_test("cluster"))


def elsewhere():
    """real servers again, with the extension in a quoted schema and pgvector in another"""
    _install()
    # What these show does not depend on schemas, or is about the schema public itself.
    skipped = ["shadows", "lifecycle::", "examples::", "upgrade::", "threads::"]
    skips = [word for name in skipped for word in ("--skip", name)]
    return _call([*_cluster_test("cluster"), "--", *skips], {**run.environment(), "TEST_SCHEMAS": "elsewhere"})


def older():
    """real servers again, of the oldest PostgreSQL that is supported"""
    install.install(paths.pg_config(major=OLDEST))
    # They name objects as a later PostgreSQL lists them, or need its extension_control_path.
    skips = ["--skip", "objects::", "--skip", "upgrade::"]
    folder = os.path.relpath(paths.postgresql(major=OLDEST), paths.ROOT)
    return _call([*_cluster_test("cluster"), "--", *skips], {**run.environment(), "TEST_POSTGRESQL": folder})


def docs():
    """every example of the documentation"""
    _install()
    return _call(_cluster_test("docs"))


def stress():
    """random load of several roles, with changes of tables, cancels and kills"""
    _install()
    # Empty is as good as not given: make hands on what it was called with.
    given = {name: os.environ[name] for name in ("STRESS_SECONDS", "STRESS_SEED") if os.environ.get(name)}
    # The seed is told before, so that a run that hangs can be repeated.
    command = [*_cluster_test("cluster"), "--", "--nocapture", "stress::"]
    return _call(command, {**run.environment(), "STRESS_SECONDS": "120", **given})


STAGES = {stage.__name__: stage for stage in (pure, server, regress, cluster, elsewhere, older, docs)}


def _cluster_test(name):
    return ["cargo", "test", "--no-default-features", "--features", "cluster", "--release", "--test", name]


def _install():
    # Without the test functions that `cargo pgrx test` leaves behind.
    install.install(paths.pg_config(TEST_POSTGRESQL))


def _regress(program, folder, pattern):
    names = sorted(os.path.splitext(os.path.basename(path))[0] for path in glob.glob(os.path.join(folder, pattern)))
    if not names:
        print(f"no {pattern} in {os.path.relpath(folder, paths.ROOT)}")
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
