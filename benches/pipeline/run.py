"""Measures the pipeline: `make bench-pipeline`.

What enable_search costs those who write (an INSERT of all documents in async mode, an UPDATE of another column), how fast
the queue is embedded beside a plain loop around the same model, how much a statement of many rows gains over one a row in
sync mode, what a text saves that was embedded before, and how long a batch takes to be leased from a queue of a million rows. The sides that
are compared take turns; each figure is the median of the turns, each ratio that of the ratios of a turn. `--quick` shows in
some minutes that all runs; `--only ingest` embeds every document through the queue, by one session, which takes half an hour.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import as_server_user  # noqa: E402
import measured_server  # noqa: E402

MODEL = "all-MiniLM-L6-v2"
DOCUMENTS = os.path.join("eval", "debian.jsonl.gz")
CONTENT = "ARRAY['title', 'body']"
TEXT = "concat_ws(E'\\n\\n', title, body)"
BATCH = 256

# A session that has used the extension before, as those of an application have.
WARM = "SELECT rrf_score(1)"


def main():
    """Makes the rows, measures, and prints the figures in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", default="", metavar="NAME", help="one of: " + ", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="few rows and turns")
    options = parser.parse_args()
    documents = read_documents()
    if documents is None:
        print(f"skipped: no {DOCUMENTS} beside the repository")
        return
    scale = Scale(2 if options.quick else options.turns, options.quick)
    # The sides embed the same texts, so the cache is off but where it is measured; and no worker does what is timed.
    server = measured_server.MeasuredServer("bench-pipeline", shared_buffers="2GB",
                                            **{"vector_tools.embedding_cache_size": 0, "vector_tools.max_workers": 0})
    try:
        make_rows(server, documents)
        describe(server, len(documents), scale.turns)
        for name, measure in MEASURES.items():
            if options.only == name or not options.only and name not in LONG:
                measure(server, scale)
    finally:
        server.stop()


class Scale:
    """How much is measured."""

    def __init__(self, turns, is_quick):
        self.turns = turns
        self.is_quick = is_quick

    def rows(self, many):
        """As many rows, or a tenth where it shall be quick."""
        return many // 10 if self.is_quick else many

    def sides(self, names):
        """The sides of each turn, another one first each time."""
        for turn in range(self.turns):
            start = turn % len(names)
            yield turn, names[start:] + names[:start]


def read_documents():
    """The collection, where it is at hand: beside the repository or where EVALUATION_DATA says."""
    folders = [os.environ.get("EVALUATION_DATA", ""), os.path.join(os.path.dirname(ROOT), "shared")]
    for folder in filter(None, folders):
        path = os.path.join(folder, DOCUMENTS)
        if os.path.exists(path):
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return [json.loads(line) for line in lines]
    return None


def make_rows(server, documents):
    """The documents as a table of their own, from which all tables are filled."""
    server.run("""DROP TABLE IF EXISTS ready, docs_search, docs, plain CASCADE;
        CREATE TABLE ready (number integer PRIMARY KEY, title text, body text)""")
    server.copy("ready", ((number, found["title"], found["text"]) for number, found in enumerate(documents)))
    server.run("VACUUM ANALYZE ready")


def describe(server, documents, turns):
    """What the figures belong to."""
    version = server.rows("SHOW server_version")[0][0]
    print("\n" + measured_server.machine())
    print(f"- PostgreSQL {version}, fsync off; {documents:,} descriptions of Debian packages; medians of {turns} turns\n")
    print_row("measure", "figure", "beside", "ratio", "target")
    print_row(*["---"] * 5)


def make_table(server, name, mode=None, index_kind="hnsw"):
    """An empty table, searchable where a mode is given."""
    sql = f"""SET client_min_messages = error;
        DROP TABLE IF EXISTS {name}_search, {name} CASCADE; DELETE FROM vector_tools.queue;
        CREATE TABLE {name} (id integer PRIMARY KEY, title text, body text, views integer NOT NULL DEFAULT 0)"""
    if mode:
        sql += "; " + enable_sql(name, mode, index_kind)
    server.run(sql)


def enable_sql(name, mode, index_kind):
    """SQL that makes a table searchable, or changes how it is."""
    return f"SELECT enable_search('{name}', {CONTENT}, '{MODEL}', '{mode}', index_kind => '{index_kind}')"


def timed(server, prepare, sql):
    """Milliseconds of a statement by the clock, and of the processor time of its session."""
    # What others have the machine do disturbs the processor time less than the clock.
    processor = "split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8"
    output = server.run(f"""{WARM}; {prepare};
        CREATE TEMP TABLE began AS SELECT clock_timestamp() AS at, {processor} AS processor;
        {sql};
        SELECT 'measured', extract(epoch FROM clock_timestamp() - at) * 1000, ({processor} - processor) / 1e6 FROM began""")
    clock, processor_ms = output.strip().splitlines()[-1].split(",")[1:]
    return float(clock), float(processor_ms)


def ratios(found, side, other):
    """The median of the ratios of a turn, by the clock and by processor time."""
    return [statistics.median(a[place] / b[place] for a, b in zip(found[side], found[other])) for place in (0, 1)]


def said(found, side, rows):
    """Rows a second by the clock."""
    return f"{rows / statistics.median(clock for clock, _ in found[side]) * 1000:,.0f} rows/s"


def measure_insert(server, scale):
    """INSERT of all documents, with enable_search and without."""
    rows = int(server.rows("SELECT count(*) FROM ready")[0][0])
    found = {"plain": [], "async": []}
    for turn, sides in scale.sides(list(found)):
        for side in sides:
            make_table(server, "docs", "async" if side == "async" else None)
            server.run("CHECKPOINT")
            # The first turn only brings everything into memory.
            measured = timed(server, "SELECT count(*) FROM ready", "INSERT INTO docs SELECT number, title, body FROM ready")
            if turn > 0 or scale.is_quick:
                found[side].append(measured)
    clock, processor = ratios(found, "plain", "async")
    print_row(f"INSERT of {rows:,} documents, async", said(found, "async", rows),
              f"without enable_search {said(found, 'plain', rows)}",
              f"{clock:.0%} (by processor time {processor:.0%})", "at least 60 %")


def measure_update(server, scale):
    """UPDATE of a column that is not searched, of 10,000 rows."""
    rows = scale.rows(10_000)
    found = {"plain": [], "async": []}
    for turn, sides in scale.sides(list(found)):
        for side in sides:
            make_table(server, "docs", "async" if side == "async" else None)
            server.run(f"""INSERT INTO docs SELECT number, title, body FROM ready WHERE number < {rows};
                DELETE FROM vector_tools.queue""")
            server.run("VACUUM ANALYZE docs")
            server.run("CHECKPOINT")
            # Several in one session, since one is short.
            for _ in range(3):
                found[side].append(timed(server, "SELECT count(*) FROM docs", "UPDATE docs SET views = views + 1"))
            left = server.rows("SELECT count(*) FROM vector_tools.queue")[0][0]
            assert left == "0", left
    clock, processor = ratios(found, "async", "plain")
    print_row(f"UPDATE of another column, {rows:,} rows", said(found, "async", rows),
              f"without enable_search {said(found, 'plain', rows)}",
              f"{clock - 1:+.0%} (by processor time {processor - 1:+.0%})", "at most +10 %")


def measure_queue(server, scale):
    """The queue, driven by some sessions, beside a plain loop of as many sessions around the same model."""
    rows = scale.rows(1024)
    turns = max(2, scale.turns // 2)
    for drivers in (1, 2):
        for index_kind in ("none", "hnsw"):
            found = {"queue": [], "loop": []}
            make_table(server, "docs", "async", index_kind)
            for turn in range(turns):
                # Each turn has other documents; all begin with the same table.
                queue_documents(server, f"number % {turns} = {turn}", rows)
                for side in ["queue", "loop"] if turn % 2 else ["loop", "queue"]:
                    found[side].append(run_together(server, [
                        DRAIN if side == "queue" else loop_sql(number, drivers) for number in range(drivers)]))
                check_embedded(server, "docs", rows)
            clock, processor = ratios(found, "loop", "queue")
            index = "with HNSW" if index_kind == "hnsw" else "without a vector index"
            print_row(f"queue of {rows:,} documents, {sessions(drivers)}, {index}", said(found, "queue", rows),
                      f"plain loop {said(found, 'loop', rows)}", f"{clock:.0%} (by processor time {processor:.0%})",
                      "at least 90 %")


DRAIN = "CALL run_embedding_jobs()"


def queue_documents(server, condition, rows):
    """Puts documents into the table anew, so that all of them wait."""
    server.run(f"""TRUNCATE docs CASCADE; DELETE FROM vector_tools.queue;
        INSERT INTO docs SELECT number, title, body FROM ready WHERE {condition} LIMIT {rows};
        SELECT warm_up('{MODEL}')""")


def check_embedded(server, table, rows):
    """Nothing is measured that was not done."""
    found = server.rows(f"SELECT count(*) FILTER (WHERE embedding IS NULL), count(*) FROM {table}_search")[0]
    assert found == ["0", str(rows)], found


def measure_ingest(server, scale):
    """Every document, by one session as a worker does, into tables that grow: one with HNSW from the beginning, and one
    that gets it when they are embedded. Sides take turns over parts of the documents, since the machine is not always
    equally fast."""
    rows = scale.rows(int(server.rows("SELECT count(*) FROM ready")[0][0]))
    tables = {"from the beginning": ("docs", "hnsw"), "built at the end": ("later", "none")}
    for table, index_kind in tables.values():
        make_table(server, table, "async", index_kind)
    spent = {side: 0 for side in ("loop", *tables)}
    parts = 8
    for part, sides in Scale(parts, scale.is_quick).sides(list(spent)):
        chosen = f"SELECT number AS id, title, body FROM ready WHERE number < {rows} AND number * {parts} / {rows} = {part}"
        for side in sides:
            if side in tables:
                server.run(f"INSERT INTO {tables[side][0]} {chosen}")
            server.run(f"SELECT warm_up('{MODEL}')")
            clock, _ = run_together(server, [DRAIN if side in tables else loop_sql(0, 1, f"({chosen})")])
            spent[side] += clock
    spent["built at the end"] += timed(server, "SELECT count(*) FROM later_search", enable_sql("later", "async", "hnsw"))[0]
    for side, (table, _) in tables.items():
        check_embedded(server, table, rows)
        print_row(f"ingest of {rows:,} documents, 1 session, HNSW {side}", f"{rows / spent[side] * 1000:,.0f} rows/s",
                  f"plain loop {rows / spent['loop'] * 1000:,.0f} rows/s", f"{spent['loop'] / spent[side]:.0%}",
                  "at least 90 %")


def sessions(count):
    """Words for a number of sessions."""
    return "1 session" if count == 1 else f"{count} sessions"


def loop_sql(number, drivers, documents="docs"):
    """A loop over every so-manieth batch of the same documents in the same order, whose embeddings go nowhere."""
    return f"""DO $$
        DECLARE texts text[]; found vector[];
        BEGIN
            FOR texts IN SELECT array_agg(text ORDER BY place) FROM (
                SELECT {TEXT} AS text, row_number() OVER (ORDER BY id) - 1 AS place FROM {documents} AS c) AS d
                WHERE place / {BATCH} % {drivers} = {number} GROUP BY place / {BATCH} ORDER BY place / {BATCH}
            LOOP
                found := embed(texts, '{MODEL}');
            END LOOP;
        END $$"""


def run_together(server, statements):
    """Runs statements in sessions of their own at the same time: milliseconds by the clock, and of the processor time of
    the sessions and of the embedding process."""
    # Apart from one another, since a procedure commits only where it is called alone.
    command = [server.program("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", server.connection,
               "-c", "SET client_min_messages = error"]
    spent = ["-c", "SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e6"]
    model, began = model_milliseconds(server), time.perf_counter()
    running = [subprocess.Popen([*command, "-c", sql, *spent], env=as_server_user.environment(),
                                stdout=subprocess.PIPE, text=True) for sql in statements]
    outputs = [one.communicate()[0] for one in running]
    clock = (time.perf_counter() - began) * 1000
    assert not any(one.returncode for one in running), "a session failed"
    own = sum(float(output.strip().splitlines()[-1]) for output in outputs)
    return clock, own + model_milliseconds(server) - model


def model_milliseconds(server):
    """Processor time of the embedding process so far."""
    ticks = server.rows("""SELECT sum(t::int) FROM (SELECT DISTINCT process_id FROM vector_tools.embedder_stats) AS e,
        unnest((string_to_array(split_part(pg_read_file(format('/proc/%s/stat', process_id)), ') ', 2), ' '))[12:13]) AS t""")
    return float(ticks[0][0]) * 1000 / os.sysconf("SC_CLK_TCK")


def measure_sync(server, scale):
    """A statement of 1,000 rows in sync mode, beside one statement a row and a loop that embeds one text after another."""
    rows = scale.rows(1000)
    for embedder in ("shared", "backend"):
        for name, body in (("titles", "NULL"), ("whole documents", "body")):
            found = {"batch": [], "rows": [], "loop": []}
            for turn, sides in scale.sides(list(found)):
                chosen = f"""SELECT number AS id, title, {body} AS body FROM ready
                    WHERE number % {scale.turns} = {turn} ORDER BY number LIMIT {rows}"""
                for side in sides:
                    make_table(server, "docs", "sync")
                    found[side].append(timed(server, f"""SET vector_tools.embedder = '{embedder}';
                        SELECT warm_up('{MODEL}'); CREATE TEMP TABLE chosen AS {chosen}""", SYNC_SIDES[side]))
            ratio, _ = ratios(found, "rows", "batch")
            where = "embedding process" if embedder == "shared" else "model in the session, 1 thread"
            loop = statistics.median(b[0] / a[0] for a, b in zip(found["batch"], found["loop"]))
            print_row(f"sync, INSERT of {rows:,} {name} at once, {where}", said(found, "batch", rows),
                      f"an INSERT a row {said(found, 'rows', rows)}; `embed` of one text after another, unwritten "
                      f"{said(found, 'loop', rows)}", f"{ratio:.2f} × ({loop:.2f} ×)", "at least 2 ×")


SYNC_SIDES = {
    "batch": "INSERT INTO docs SELECT id, title, body FROM chosen",
    "rows": """DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM chosen LOOP
        INSERT INTO docs VALUES (r.id, r.title, r.body); END LOOP; END $$""",
    "loop": f"""DO $$ DECLARE r record; v vector; BEGIN FOR r IN SELECT * FROM chosen LOOP
        v := embed({TEXT.replace("title", "r.title").replace("body", "r.body")}, '{MODEL}'); END LOOP; END $$""",
}


def measure_cache(server, scale):
    """Documents that another table has embedded before, beside their first time."""
    rows = scale.rows(1000)
    found = {"first": [], "again": []}
    for turn in range(max(2, scale.turns // 3)):
        server.run("TRUNCATE vector_tools.embedding_cache")
        for side in found:
            make_table(server, "docs", "sync", "none")
            found[side].append(timed(server, f"""SET vector_tools.embedding_cache_size = '1GB'; SELECT warm_up('{MODEL}');
                CREATE TEMP TABLE chosen AS SELECT number, title, body FROM ready WHERE number % 60 = {turn} LIMIT {rows}""",
                                     "INSERT INTO docs SELECT number, title, body FROM chosen"))
    ratio, _ = ratios(found, "first", "again")
    print_row(f"{rows:,} documents that the cache holds, sync, without a vector index", said(found, "again", rows),
              f"first time {said(found, 'first', rows)}", f"{ratio:.0f} ×", "")


def measure_lease(server, scale):
    """A batch leased from a queue of a million rows, in entries of many rows and of one."""
    rows = scale.rows(1_000_000)
    make_table(server, "docs", "manual")
    for name, width in ((f"{BATCH} rows a statement", BATCH), ("a row a statement", 1)):
        lease = f"""SELECT count(*) FROM (SELECT id, keys, attempts FROM vector_tools.queue
            WHERE source = 'docs'::regclass AND NOT gave_up AND next_try <= (SELECT clock_timestamp())
            ORDER BY next_try, id LIMIT {BATCH // width} FOR UPDATE SKIP LOCKED) AS l"""
        server.run(f"""DELETE FROM vector_tools.queue; INSERT INTO vector_tools.queue (source, keys)
            SELECT 'docs'::regclass, array_agg(ARRAY[i::text] ORDER BY i) FROM generate_series(0, {rows} - 1) AS i GROUP BY i / {width}""")
        server.run("VACUUM ANALYZE vector_tools.queue")
        leases, batches = [], []
        for _ in range(max(scale.turns, 5) * 3):
            leases.append(timed(server, lease, lease)[0])
            # No such row is there, so a whole batch is lease, look-up and removal.
            batches.append(timed(server, "SELECT 1", "SELECT gone FROM vector_tools.run_embedding_batch('docs')")[0])
        print_row(f"lease of {BATCH} rows of {rows:,} pending, {name}", f"{statistics.median(leases):.1f} ms",
                  f"a whole batch without a model {statistics.median(batches):.1f} ms", "", "at most 20 ms")


MEASURES = {"insert": measure_insert, "update": measure_update, "lease": measure_lease, "cache": measure_cache,
            "sync": measure_sync, "queue": measure_queue, "ingest": measure_ingest}

# Only where they are named.
LONG = ("ingest",)


def print_row(*cells):
    """A row of a table in Markdown."""
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
