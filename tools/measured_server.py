"""A server that keeps collections and their embeddings between measurements, and psql on it."""

import csv
import io
import os
import subprocess
import sys

import as_server_user
import paths

SETTINGS = {"shared_buffers": "4GB", "max_wal_size": "16GB", "maintenance_work_mem": "2GB", "fsync": "off",
            "max_connections": "60", "max_worker_processes": "16"}

# Embeddings are computed once for a text, whatever table it is in.
SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector_tools CASCADE;
CREATE TABLE IF NOT EXISTS embedding_cache (
    digest bytea PRIMARY KEY,
    embedding vector(384) NOT NULL
);
CREATE OR REPLACE PROCEDURE fill_embedding_cache(source regclass, worker integer, workers integer)
LANGUAGE plpgsql AS $$
DECLARE
    texts text[];
BEGIN
    LOOP
        EXECUTE format($sql$
            SELECT array_agg(body) FROM (
                SELECT DISTINCT body, length(body) FROM %s
                WHERE abs(hashtext(body)::bigint) %% %s = %s AND NOT EXISTS (
                    SELECT FROM embedding_cache WHERE digest = sha256(convert_to(body, 'UTF8')))
                ORDER BY length(body) LIMIT 256) AS missing $sql$, source, workers, worker) INTO texts;
        EXIT WHEN texts IS NULL;
        INSERT INTO embedding_cache
        SELECT sha256(convert_to(body, 'UTF8')), embedding
        FROM ROWS FROM (unnest(texts), unnest(embed(texts, 'all-MiniLM-L6-v2'))) AS e(body, embedding)
        ON CONFLICT DO NOTHING;
        COMMIT;
    END LOOP;
END $$;
"""


def machine():
    """A line of Markdown that says which machine the figures belong to, and how busy it is."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    with open("/proc/loadavg", encoding="utf-8") as file:
        load = file.read().split()[0]
    return f"- machine: {os.cpu_count()} cores, {processor}; load when it began: {load}"


class MeasuredServer:
    """A running server with the extension as it is installed now, and the embeddings of earlier runs."""

    def __init__(self, name, **settings):
        self.name = name
        command = [sys.executable, os.path.join(paths.TOOLS, "server.py"), "start", "--name", name]
        for setting, value in {**SETTINGS, **settings}.items():
            command += ["--set", f"{setting}={value}"]
        started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        self.connection = started.stdout.strip().splitlines()[-1]
        # Types of the extension are only in its functions, so all else survives.
        self.run("DROP EXTENSION IF EXISTS vector_tools CASCADE")
        self.run(SCHEMA)

    def stop(self):
        """Stops it; its data stays."""
        command = [sys.executable, os.path.join(paths.TOOLS, "server.py"), "stop", "--name", self.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def program(self, name):
        """One of PostgreSQL's own programs."""
        return os.path.join(paths.postgresql(), "bin", name)

    def run(self, sql, copied=None):
        """Runs statements; `copied` is what a COPY FROM STDIN among them reads. Returns their output."""
        command = [self.program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "--csv", self.connection, "-c", sql]
        done = subprocess.run(command, input=copied, capture_output=True, text=True, check=False,
                              env=as_server_user.environment())
        if done.returncode != 0:
            paths.fail(f"{done.stderr.strip()}\n{sql}")
        return done.stdout

    def rows(self, sql):
        """The rows of a query, as lists of texts."""
        return list(csv.reader(io.StringIO(self.run(sql))))

    def copy(self, target, rows):
        """Stores rows in a table with COPY."""
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        self.run(f"COPY {target} FROM STDIN (FORMAT csv)", text.getvalue())

    def fill_embeddings(self, table):
        """Fills the embedding column of a table with columns body and embedding, in as many sessions as cores."""
        missing = f"""SELECT count(DISTINCT body) FROM {table} AS t WHERE NOT EXISTS (
            SELECT FROM embedding_cache AS c WHERE c.digest = sha256(convert_to(t.body, 'UTF8')))"""
        left = int(self.rows(missing)[0][0])
        if left:
            print(f"{table}: embedding {left} texts", file=sys.stderr, flush=True)
            workers = os.cpu_count() or 1
            command = [self.program("psql"), "-XAtq", self.connection, "-c"]
            calls = [subprocess.Popen([*command, f"CALL fill_embedding_cache('{table}', {worker}, {workers})"],
                                      env=as_server_user.environment()) for worker in range(workers)]
            if any([call.wait() for call in calls]):
                paths.fail(f"the texts of {table} could not be embedded")
        self.run(f"""UPDATE {table} AS t SET embedding = c.embedding FROM embedding_cache AS c
                     WHERE t.embedding IS NULL AND c.digest = sha256(convert_to(t.body, 'UTF8'))""")
