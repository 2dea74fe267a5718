"""Measures what auditing costs an INSERT of 10,000 ready rows: `make bench-audit`.

Each row has a made-up 384-d embedding, so nothing is embedded. Four tables: that of the regulation store with its
indexes, the same without its HNSW index (as bulk loads do it), the one that create_vector_store makes without a vector
index, with chunks of 60 words, and a plain one. Each is filled without an audit and with one after another in turns, in
new tables each time; the ratios are those of one turn, and the median of the turns counts. Beside enable_audit stand two
audits as one would write them, into a log of the same columns and indexes: a statement trigger with a transition table,
and the row trigger in PL/pgSQL of the regulation store; and, as the least that any log by SQL can cost, one plain
INSERT … SELECT of the same lines into an empty log. With the HNSW index, which takes nearly all of the time, and for the
store of this extension only enable_audit is measured. `--quick` shows in a minute that all runs.
"""

import argparse
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import measured_server  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
BY_EXTENSION = "enable_audit"
IN_SQL = "statement trigger, SQL"

PLAIN = "CREATE TABLE $table (id bigint PRIMARY KEY, embedding vector(384) NOT NULL, body text, metadata jsonb)"
STORE_INDEXES = """
    CREATE INDEX ON $table USING gin (metadata jsonb_path_ops);
    CREATE INDEX ON $table (namespace);
    CREATE INDEX ON $table (source_type, source_id);
    CREATE INDEX ON $table (created_at DESC)"""
HNSW = "CREATE INDEX ON $table USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)"

# A session that has used the extension before, as those of an application have.
WARM = "SELECT rrf_score(1)"

# With chunks of words, since a store keeps the lexemes of a text.
OWN_STORE = """DROP SCHEMA IF EXISTS store CASCADE;
    SELECT create_vector_store('store', 'all-MiniLM-L6-v2', index_kind => 'none');
    SELECT create_namespace('store', 'csrd')"""
OWN_COLUMNS = "source_type, source_id, chunk_index, content_hash, content_preview, content, embedding, metadata, namespace"
OWN_ROWS = """SELECT 'document', md5((number / 20)::text)::uuid, number % 20, md5(words), left(words, 500), words, embedding,
    metadata, 'csrd' FROM ready JOIN chunks USING (number)"""

STORE_COLUMNS = "id, source_type, source_id, chunk_index, content_hash, content_preview, embedding, metadata, namespace"
STORE_ROWS = """SELECT id, 'document', md5((number / 20)::text)::uuid, number % 20, md5(body), body, embedding, metadata,
    'csrd' FROM ready"""

# The audits that one would write by hand, into a log like that of enable_audit.
LOG = """
    CREATE TABLE log_$table (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, operation text NOT NULL,
        table_schema text NOT NULL, table_name text NOT NULL, partition_name text, record_id text COLLATE "C",
        old_data jsonb, new_data jsonb, changed_by text NOT NULL, session_user_name text NOT NULL,
        changed_at timestamptz NOT NULL, transaction_id xid8 NOT NULL);
    CREATE INDEX ON log_$table (record_id) WHERE length(record_id) <= 600;
"""
BY_STATEMENT = LOG + """
    CREATE FUNCTION log_insert_$table() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log_$table (operation, table_schema, table_name, record_id, new_data, changed_by, session_user_name,
            changed_at, transaction_id)
        SELECT 'INSERT', TG_TABLE_SCHEMA, TG_TABLE_NAME, n.id::text, to_jsonb(r), current_user, session_user, now(),
            pg_current_xact_id()
        FROM new_rows AS n, LATERAL (SELECT $kept) AS r;
        RETURN NULL; END $$;
    CREATE TRIGGER log_insert AFTER INSERT ON $table REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION log_insert_$table()"""
BY_ROW = LOG + """
    CREATE FUNCTION log_row_$table() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log_$table (operation, table_schema, table_name, record_id, new_data, changed_by, session_user_name,
            changed_at, transaction_id)
        VALUES (TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME, NEW.id::text, to_jsonb(NEW) - 'embedding', current_user,
            session_user, now(), pg_current_xact_id());
        RETURN NEW; END $$;
    CREATE TRIGGER log_row AFTER INSERT ON $table FOR EACH ROW EXECUTE FUNCTION log_row_$table()"""

SIDES = {
    "no audit": "SELECT 1",
    BY_EXTENSION: "SELECT enable_audit('$target', 'log_$table')",
    # Before the library is loaded no hook collects its changes.
    "enable_audit, first statement of a session": "SELECT enable_audit('$target', 'log_$table')",
    IN_SQL: BY_STATEMENT,
    "row trigger, PL/pgSQL": BY_ROW,
}

FLOOR = "the same lines alone, by INSERT … SELECT"
LINE = """operation, table_schema, table_name, partition_name, record_id, old_data, new_data, changed_by, session_user_name,
    changed_at, transaction_id"""


def read_table():
    """The table of the regulation store."""
    with open(os.path.join(HERE, "store.sql"), encoding="utf-8") as file:
        return file.read()


def main():
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--only", default="", metavar="TEXT", help="only tables with this in their name")
    parser.add_argument("--quick", action="store_true", help="few rows, and two turns")
    options = parser.parse_args()
    rows, turns = (500, 2) if options.quick else (options.rows, options.turns)
    store = read_table()
    kept_store = "n.id, n.source_type, n.source_id, n.chunk_index, n.content_hash, n.content_preview, n.embedding_model, " \
        "n.metadata, n.namespace, n.created_at, n.updated_at"
    plain = (PLAIN, "id, embedding, body, metadata", "SELECT number, embedding, body, metadata FROM ready",
             "n.id, n.body, n.metadata", "measured")
    tables = {
        "regulation store with HNSW":
            (store + STORE_INDEXES + ";" + HNSW, STORE_COLUMNS, STORE_ROWS, kept_store, "measured"),
        "vector store of this extension, no vector index":
            (OWN_STORE, OWN_COLUMNS, OWN_ROWS, "", "store.vector_embeddings"),
        "regulation store, no HNSW": (store + STORE_INDEXES, STORE_COLUMNS, STORE_ROWS, kept_store, "measured"),
        "plain table": plain,
    }
    server = measured_server.MeasuredServer("bench-audit", shared_buffers="2GB")
    try:
        make_rows(server, rows)
        describe(server, rows, turns)
        print("| table | audit | ms | processor ms | more than without | by processor time | of the statement trigger's time |")
        print("|---|---|---|---|---|---|---|")
        for name, table in tables.items():
            if options.only not in name:
                continue
            slow, is_own = "with HNSW" in name, table[4] != "measured"
            sides = list(SIDES)[:2 if slow else 3 if is_own else len(SIDES)]
            seconds = measure(server, table, sides, 3 if slow else turns)
            if not slow and not is_own:
                seconds[FLOOR] = [insert_lines(server, table) for _ in range(turns)]
            print_table(name, seconds)
        print("\ntarget: a vector store at most +10 %, other tables no more than the statement trigger in SQL")
    finally:
        server.stop()


def make_rows(server, rows):
    """Rows with embeddings made up, which no model has to compute."""
    server.run(f"""DROP TABLE IF EXISTS ready;
        SELECT setseed(0.5);
        CREATE TABLE ready AS SELECT r.number, gen_random_uuid() AS id,
            (SELECT array_agg(random() - 0.5 + 0 * (r.number + n)) FROM generate_series(1, 384) AS n)::vector AS embedding,
            'chunk ' || r.number || repeat(' of a regulation', 12) AS body,
            jsonb_build_object('page', r.number % 100, 'language', 'en', 'title', 'Regulation ' || r.number % 50) AS metadata
        FROM generate_series(1, {rows}) AS r(number);
        DROP TABLE IF EXISTS chunks;
        CREATE TABLE chunks AS SELECT number, (SELECT string_agg(left(translate(md5(((random() * 20000)::int + 0 * number)::text),
                '0123456789', 'ghijklmnop'), 4 + n % 6), ' ') FROM generate_series(1, 60) AS n) AS words
        FROM ready;
        ANALYZE ready, chunks""")


def describe(server, rows, turns):
    """What the figures belong to."""
    version = server.rows("SHOW server_version")[0][0]
    print("\n" + measured_server.machine())
    print(f"- PostgreSQL {version}; {rows:,} rows in one INSERT … SELECT, committed; {turns} turns, medians\n")


def measure(server, table, sides, turns):
    """Seconds by side, one list a side, its places being the turns."""
    seconds = {side: [] for side in sides}
    for turn in range(turns):
        # Each turn begins with another side, so that none is always the first.
        first = turn % len(sides)
        for side in sides[first:] + sides[:first]:
            seconds[side].append(insert(server, table, SIDES[side], "SELECT 1" if "first" in side else WARM))
    return seconds


def insert(server, table, audit, before):
    """Seconds that one INSERT takes into a new table, its commit included."""
    creation, columns, rows, kept, target = table
    fill = lambda sql: sql.replace("$target", target).replace("$table", "measured").replace("$kept", kept)
    server.run(f"""SET client_min_messages = error; DROP TABLE IF EXISTS measured, log_measured;
        DROP FUNCTION IF EXISTS log_insert_measured, log_row_measured;
        {fill(creation)}; {fill(audit)}; CHECKPOINT""")
    return timed(server, before, f"INSERT INTO {target} ({columns}) {rows}")


def insert_lines(server, table):
    """Seconds that the lines of such an INSERT take by themselves, from a table into an empty log."""
    insert(server, table, SIDES["enable_audit"], WARM)
    server.run(f"""DROP TABLE IF EXISTS lines, empty_log; CREATE TABLE lines AS SELECT {LINE} FROM log_measured;
        CREATE TABLE empty_log (LIKE log_measured INCLUDING ALL); CHECKPOINT""")
    return timed(server, WARM, f"INSERT INTO empty_log ({LINE}) SELECT * FROM lines")


def timed(server, before, statement):
    """Seconds that a statement takes in a session that has run another one, its commit included: by the clock, and of the
    processor's time, which other work on the machine disturbs less."""
    now = "SELECT extract(epoch FROM clock_timestamp()), split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)"
    times = server.rows(f"BEGIN; {before}; COMMIT; {now}; BEGIN; {statement}; COMMIT; {now}")
    (began, began_running), (ended, ended_running) = times[-2], times[-1]
    return float(ended) - float(began), (int(ended_running) - int(began_running)) / 1e9


def print_table(name, seconds):
    """One line a side; ratios of the sides of one turn, the last one of processor time."""
    base, in_sql = seconds["no audit"], seconds.get(IN_SQL)
    for side, found in seconds.items():
        clock, processor = ([times[place] for times in found] for place in (0, 1))
        more = [statistics.median(a[place] / b[place] for a, b in zip(found, base)) - 1 for place in (0, 1)]
        shares = [f"{share:+.0%}" for share in more]
        if side == "no audit":
            shares = ["", ""]
        elif side == FLOOR:
            shares = [f"{share + 1:.0%} of it" for share in more]
        cells = [f"{statistics.median(times) * 1000:.0f}" for times in (clock, processor)]
        is_compared = in_sql is not None and side.startswith(BY_EXTENSION)
        compared = f"{statistics.median(a[1] / b[1] for a, b in zip(found, in_sql)):.0%}" if is_compared else ""
        print("| " + " | ".join([name, side, *cells, *shares, compared]) + " |", flush=True)


if __name__ == "__main__":
    main()
