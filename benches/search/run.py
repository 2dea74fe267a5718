"""Measures the speed of searching a large table, beside recipes: `make bench-search ROWS=1000000`.

The table is made of the descriptions of Debian packages in ../shared/eval/debian.jsonl.gz; rows beyond them mix the
sentences and vectors of two. pgbench runs each statement with random questions in one session and in eight, the sides
that are compared taking turns, and notes every latency. `--plot FILE` draws latency by size, `--quick` shows in a minute
that all runs.
"""

import argparse
import glob
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import as_server_user  # noqa: E402
import measured_server  # noqa: E402
import plot  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENTS = os.path.join(ROOT, "..", "shared", "eval", "debian.jsonl.gz")
QUESTIONS = 120
SESSIONS = (1, 8)
# What the regulation store sets, for all that are compared.
SETTINGS = "-c hnsw.ef_search=100 -c work_mem=256MB"

# Statements by name; :question is the number of a random question of $questions, $table the table.
QUESTION = "FROM $questions AS q, LATERAL"
STATEMENTS = {
    "keyword leg": f"SELECT count(*) {QUESTION} keyword_search('$table', q.body, 100) AS h WHERE q.id = :question",
    "OR + ts_rank": f"""SELECT count(*) {QUESTION} (SELECT t.id FROM $table AS t
        WHERE t.lexemes @@ q.any_word ORDER BY ts_rank(t.lexemes, q.any_word) DESC LIMIT 100) AS h WHERE q.id = :question""",
    "vector leg": f"""SELECT count(*) {QUESTION} semantic_search('$table', q.body, 100, depth => 100,
        query_embedding => q.embedding) AS h WHERE q.id = :question""",
    "pgvector": f"""SELECT count(*) {QUESTION} (SELECT t.id FROM $table AS t
        ORDER BY t.embedding <=> q.embedding LIMIT 100) AS h WHERE q.id = :question""",
    "hybrid_search": f"""SELECT count(*) {QUESTION} hybrid_search('$table', q.body, 10,
        query_embedding => q.embedding) AS h WHERE q.id = :question""",
    "hybrid_search, relative": f"""SELECT count(*) {QUESTION} hybrid_search('$table', q.body, 10,
        query_embedding => q.embedding, fusion => 'relative') AS h WHERE q.id = :question""",
    "regulation store": f"""SELECT count(*) {QUESTION} (
        WITH vector_results AS (
            SELECT id, row_number() OVER (ORDER BY embedding <=> q.embedding) AS vector_rank
            FROM $table ORDER BY embedding <=> q.embedding LIMIT 100
        ), text_results AS (
            SELECT id, row_number() OVER (ORDER BY ts_rank(lexemes, q.all_words) DESC) AS text_rank
            FROM $table WHERE lexemes @@ q.all_words LIMIT 100
        ), fused AS (
            SELECT coalesce(v.id, t.id) AS id,
                   coalesce(1.0 / (60 + v.vector_rank), 0) + coalesce(1.0 / (60 + t.text_rank), 0) AS score
            FROM vector_results AS v FULL OUTER JOIN text_results AS t ON v.id = t.id
        )
        SELECT e.id, e.body, f.score FROM fused AS f JOIN $table AS e ON e.id = f.id ORDER BY f.score DESC LIMIT 10
        ) AS h WHERE q.id = :question""",
}
TEXTSEARCH = f"""SELECT count(*) {QUESTION} (SELECT t.id FROM $table AS t
    ORDER BY t.body <@> to_bm25query(q.body, '$table_bm25') LIMIT 100) AS h WHERE q.id = :question"""

FILTERS = {"0.1 %": '{"bucket": 7}', "1 %": '{"bucket": {"$lt": 10}}', "10 %": '{"bucket": {"$lt": 100}}',
           "90 %": '{"bucket": {"$lt": 900}}'}


def main():
    """Builds the table, measures, and prints tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--plot", metavar="FILE", help="draw the latency by size, up to that many rows")
    parser.add_argument("--quick", action="store_true", help="few rows, and a second for each measure")
    options = parser.parse_args()
    if not os.path.exists(DOCUMENTS):
        print("bench-search: skipped, since there is no ../shared/eval/debian.jsonl.gz")
        return
    rows = 5000 if options.quick else options.rows
    seconds = 1 if options.quick else 20
    sizes = sorted({size for size in (1000, 10_000, 65_804, 200_000, rows) if size <= rows}) if options.plot else [rows]
    server = measured_server.MeasuredServer("bench-search", shared_buffers="6GB")
    try:
        load_documents(server)
        for size in sizes:
            build(server, size)
        build(server, 1000)
        make_questions(server)
        describe(server, rows)
        measured = measure(server, f"docs_{rows}", seconds)
        print_measured(measured)
        print_short(server, f"docs_{rows}", seconds)
        print_filters(server, f"docs_{rows}", seconds)
        print_recall(server, f"docs_{rows}")
        print_overhead(server, seconds)
        if options.plot:
            draw(server, options.plot, sizes, {rows: measured}, seconds)
    finally:
        server.stop()


def load_documents(server):
    """Stores the documents with their sentences and embeddings, once."""
    if server.rows("SELECT to_regclass('documents') IS NOT NULL") == [["t"]]:
        return
    server.run("""CREATE TABLE documents (number integer PRIMARY KEY, body text, sentences text[],
                      embedding vector(384))""")
    with gzip.open(DOCUMENTS, "rt", encoding="utf-8") as file:
        lines = sorted((json.loads(line) for line in file), key=lambda line: line["_id"])
    server.copy("documents (number, body)",
                ((number, f"{line['title']}\n{line['text']}") for number, line in enumerate(lines)))
    server.fill_embeddings("documents")
    server.run("UPDATE documents SET sentences = string_to_array(replace(body, E'\\n', ' '), '. ')")
    server.run("VACUUM ANALYZE documents")


def build(server, rows):
    """Makes the table of that many rows, unless it is there."""
    table = f"docs_{rows}"
    if server.rows(f"SELECT to_regclass('{table}') IS NOT NULL") == [["f"]]:
        print(f"building {table}", file=sys.stderr, flush=True)
        with open(os.path.join(HERE, "table.sql"), encoding="utf-8") as file:
            script = file.read().replace("$table", table).replace("$rows", str(rows))
        for statement in script.split(";\n"):
            if statement.strip():
                server.run("SET maintenance_work_mem = '3GB'; SET max_parallel_maintenance_workers = 4;" + statement
                           if "CREATE INDEX" in statement else statement)
    if server.rows("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_textsearch'") == [["1"]]:
        server.run(f"""CREATE EXTENSION IF NOT EXISTS pg_textsearch;
            CREATE INDEX IF NOT EXISTS {table}_bm25 ON {table} USING bm25 (body) WITH (text_config = 'english')""")
        STATEMENTS["pg_textsearch"] = TEXTSEARCH
    server.run(f"SELECT refresh_search_stats('{table}')")


def make_questions(server):
    """Questions with their embeddings: titles of documents, and the first word or two of other titles."""
    make_question_table(server, "questions", "title",
                        "number % 400 = 3 AND length(to_tsvector('english', title)) BETWEEN 3 AND 7")
    make_question_table(server, "short_questions",
                        "array_to_string((regexp_split_to_array(title, '\\s+'))[:1 + number / 200 % 2], ' ')",
                        "number % 200 = 5 AND title ~ '^[A-Za-z]{4,}\\s+[a-z]{4,}'")


def make_question_table(server, table, question, condition):
    """A table of that many questions."""
    server.run(f"""DROP TABLE IF EXISTS {table};
        CREATE TABLE {table} AS
        SELECT row_number() OVER (ORDER BY number) AS id, {question} AS body
        FROM (SELECT number, split_part(body, E'\\n', 1) AS title FROM documents) AS d
        WHERE {condition} ORDER BY number LIMIT {QUESTIONS};
        ALTER TABLE {table} ADD PRIMARY KEY (id), ADD embedding vector(384), ADD any_word tsquery, ADD all_words tsquery;
        UPDATE {table} SET embedding = embed_query(body), all_words = plainto_tsquery('english', body),
            any_word = replace(plainto_tsquery('english', body)::text, '&', '|')::tsquery;
        ANALYZE {table}""")


def describe(server, rows):
    """What the figures belong to."""
    version = server.rows("SHOW server_version")[0][0]
    matching = server.rows(f"""SELECT round(avg((SELECT count(*) FROM docs_{rows} AS t WHERE t.lexemes @@ q.any_word)))
                               FROM questions AS q WHERE q.id <= 30""")[0][0]
    print("\n" + measured_server.machine())
    print(f"- PostgreSQL {version}; {rows:,} rows; {QUESTIONS} titles of 3 to 7 lexemes as questions, any of "
          f"which {matching} rows have on average; the question's embedding is given\n- all sessions: `{SETTINGS}`\n")


class Latencies:
    """What pgbench saw: latencies in milliseconds, and transactions a second."""

    def __init__(self):
        self.milliseconds = []
        self.per_second = []

    def at(self, percent):
        """A percentile."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def run_pgbench(server, statement, sessions, seconds, latencies, questions="questions"):
    """Runs a statement with random questions and adds what it took."""
    statement = statement.replace("$questions", questions)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        script = os.path.join(folder, "script.sql")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"\\set question random(1, {QUESTIONS})\n{' '.join(statement.split())};\n")
        os.chmod(folder, 0o777)
        command = [server.program("pgbench"), "-n", "-M", "prepared", "-c", str(sessions), "-j", str(min(sessions, 4)),
                   "-T", str(seconds), "-l", "--random-seed=7", "-f", script, server.connection]
        env = {**as_server_user.environment(), "PGOPTIONS": SETTINGS}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{done.stderr}\n{statement}")
        count = 0
        for path in glob.glob(os.path.join(folder, "pgbench_log.*")):
            with open(path, encoding="utf-8") as file:
                found = [int(line.split()[2]) / 1000 for line in file]
            # The first answer of a session loads libraries and plans.
            latencies.milliseconds += found[1:]
            count += len(found)
        latencies.per_second.append(count / seconds)


def measure(server, table, seconds, names=None, rounds=3, sessions=SESSIONS, questions="questions"):
    """Latencies by statement and number of sessions, in rounds in which all take turns."""
    measured = {}
    for count in sessions:
        for _ in range(rounds):
            for name in names or STATEMENTS:
                print(f"{table}: {name}, {count} sessions", file=sys.stderr, flush=True)
                latencies = measured.setdefault((name, count), Latencies())
                statement = STATEMENTS[name].replace("$table", table)
                run_pgbench(server, statement, count, round(seconds / rounds) + 1, latencies, questions)
    return measured


def print_measured(measured):
    """The table of all statements, and what it means for the figures asked for."""
    print_latencies(measured)
    p50 = lambda name: measured[name, 1].at(50)
    p95 = lambda name: measured[name, 1].at(95)
    print()
    goal("keyword leg at least 10 times as fast as OR + ts_rank at p50", p50("OR + ts_rank") / p50("keyword leg"), 10)
    legs = p50("vector leg") + p50("keyword leg")
    goal("hybrid_search p50 at most 1.3 times both legs alone", p50("hybrid_search") / legs, 1.3, at_most=True)
    goal("hybrid_search p95 below the regulation store's", p95("hybrid_search") / p95("regulation store"), 1, at_most=True)


def print_short(server, table, seconds):
    """The same with questions of one and two words, of which any row may have all."""
    names = ["keyword leg", "OR + ts_rank", "hybrid_search", "regulation store"]
    measured = measure(server, table, seconds, names, sessions=(1,), questions="short_questions")
    print("\nquestions of one and two words\n")
    print_latencies(measured)
    p95 = lambda name: measured[name, 1].at(95)
    print()
    goal("hybrid_search p95 below the regulation store's, short questions", p95("hybrid_search") / p95("regulation store"), 1,
         at_most=True)


def print_latencies(measured):
    """A table of latencies by statement and number of sessions."""
    print_row("statement", "sessions", "p50 ms", "p95 ms", "p99 ms", "queries/s")
    print_row(*["---"] * 6)
    for (name, sessions), found in measured.items():
        print_row(name, str(sessions), *[f"{found.at(percent):.1f}" for percent in (50, 95, 99)],
                  f"{statistics.median(found.per_second):.1f}")


def print_filters(server, table, seconds):
    """Filters that keep ever more rows."""
    print("\nhybrid_search with a filter, one session\n")
    print_row("rows kept", "p50 ms", "p95 ms", "least rows returned")
    print_row(*["---"] * 4)
    for share, filter_json in FILTERS.items():
        call = f"hybrid_search('{table}', q.body, 10, '{filter_json}', query_embedding => q.embedding)"
        found = Latencies()
        run_pgbench(server, f"SELECT count(*) {QUESTION} {call} AS h WHERE q.id = :question", 1, seconds, found)
        least = server.rows(f"""SELECT min((SELECT count(*) FROM {call})) FROM questions AS q""")[0][0]
        print_row(share, f"{found.at(50):.1f}", f"{found.at(95):.1f}", least)
    print("\ntarget: always 10 rows, p95 at most 100 ms")


def print_recall(server, table):
    """How many of the ten nearest rows the vector leg finds at default settings."""
    found = server.rows(f"""SET max_parallel_workers_per_gather = 4;
        WITH exact AS MATERIALIZED (
            SELECT q.id AS question, e.id FROM questions AS q, LATERAL (
                SELECT t.id FROM {table} AS t ORDER BY (t.embedding <=> q.embedding) + 0 LIMIT 10) AS e
            WHERE q.id <= 60
        )
        SELECT round(avg((h.id IS NOT NULL)::integer), 4) FROM exact AS e
        LEFT JOIN (SELECT q.id AS question, h.id::bigint AS id FROM questions AS q,
                   LATERAL semantic_search('{table}', q.body, 10, query_embedding => q.embedding) AS h WHERE q.id <= 60) AS h
          ON h.question = e.question AND h.id = e.id""")[-1][0]
    print()
    goal("recall@10 of the vector leg at default settings", float(found), 0.95)


def print_overhead(server, seconds):
    """What the function adds to its own statements on a small table."""
    table = "docs_1000"
    whole = Latencies()
    run_pgbench(server, STATEMENTS["hybrid_search"].replace("$table", table), 1, round(seconds / 4) + 1, whole)
    steps = server.rows(f"""SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY
            (m->>'vector_leg')::float8 + (m->>'keyword_leg')::float8)
        FROM (SELECT explain_search('{table}', q.body, 10, query_embedding => q.embedding)->'milliseconds' AS m
              FROM questions AS q) AS e""")[0][0]
    print(f"- hybrid_search on 1,000 rows: p50 {whole.at(50):.2f} ms, of which its legs {float(steps):.2f} ms")
    goal("overhead on 1,000 rows at most 0.5 ms", whole.at(50) - float(steps), 0.5, at_most=True)


def draw(server, path, sizes, measured, seconds):
    """Latency by size."""
    names = ["keyword leg", "OR + ts_rank", "vector leg", "hybrid_search", "regulation store"]
    for size in sizes:
        if size not in measured:
            measured[size] = measure(server, f"docs_{size}", max(round(seconds / 4), 1), names, rounds=1, sessions=(1,))
    series = {name: [(size, max(measured[size][name, 1].at(50), 0.01)) for size in sizes] for name in names}
    with open(path, "w", encoding="utf-8") as file:
        file.write(plot.log_lines("Latency by collection size (p50, one session)", "rows", "milliseconds", series))


def goal(what, found, asked, at_most=False):
    """One line about a goal."""
    is_reached = found <= asked if at_most else found >= asked
    print(f"- {'met' if is_reached else 'MISSED'}: {what}: {found:.3g} (target {asked:g})")


def print_row(*cells):
    """A row of a table in Markdown."""
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
