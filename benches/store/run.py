"""Measures vector stores: `make bench-store`.

Ready embeddings through upsert_embeddings beside COPY of the same rows in the same order into the same kind of
partition, and beside the least that can be asked of a server, a plain INSERT … SELECT of rows it has; a document of 200
chunks the first time and unchanged; and what search_embeddings adds to hybrid_search. The sides that are compared take
turns; each figure is the median of the rounds. `--quick` shows in a minute that all runs.
"""

import argparse
import os
import random
import statistics
import struct
import sys
import time
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import measured_server  # noqa: E402
from client import BINARY, TEXT, Client, binary_array, binary_vector, call, copied, statement  # noqa: E402

# Words for made-up chunks of some sixty words, a quarter of them common.
COMMON = "the of and to in is for by with that shall be are on as at from or an this".split()
COLUMNS = "source_type, source_id, chunk_index, content_hash, content_preview, content, embedding, namespace"
# The order in which upsert_embeddings writes: the order matters to an HNSW index, so all sides have it.
IN_ORDER = "ORDER BY source_id, chunk_index"
ROWS_A_CALL = 1000

UPSERT_ALL = """SELECT upsert_embeddings('bench', array_agg(source_type), array_agg(source_id), array_agg(chunk_index),
    array_agg(content), array_agg(embedding), array_agg(namespace)) FROM copied"""


def main():
    """Makes the rows, measures, and prints the figures in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows and rounds")
    options = parser.parse_args()
    rows, rounds = (1000, 2) if options.quick else (options.rows, options.rounds)
    server = measured_server.MeasuredServer("bench-store")
    try:
        describe(server, rows, rounds)
        make_rows(server, rows)
        for index_kind in ("none", "hnsw"):
            measure_bulk(server, rows, rounds, index_kind)
        measure_document(server, rounds)
        measure_search(server, rounds * 40)
    finally:
        server.stop()


def describe(server, rows, rounds):
    """What the figures belong to."""
    version = server.rows("SHOW server_version")[0][0]
    print("\n" + measured_server.machine())
    print(f"- PostgreSQL {version}, fsync off; {rows:,} rows of 384 dimensions; medians of {rounds} rounds\n")
    print_row("measure", "figure", "beside", "ratio", "target")
    print_row(*["---"] * 5)


def make_rows(server, rows):
    """A table of ready rows, and the files in which a client would send them."""
    chance = random.Random(7)
    rare = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(4, 10))) for _ in range(20_000)]

    def chunk():
        words = [chance.choice(COMMON) if chance.random() < 0.25 else chance.choice(rare) for _ in range(60)]
        return " ".join(words)

    server.run("DROP TABLE IF EXISTS ready; CREATE TABLE ready (number integer PRIMARY KEY, body text)")
    server.copy("ready", ((number, chunk()) for number in range(rows)))
    server.run("""DROP TABLE IF EXISTS copied; CREATE TABLE copied AS
        SELECT number, 'document'::text AS source_type, md5((number / 20)::text)::uuid AS source_id,
               number % 20 AS chunk_index, encode(sha256(convert_to(body, 'UTF8')), 'hex') AS content_hash,
               left(body, 500) AS content_preview, body AS content,
               (SELECT array_agg(sin(number * 0.37 * n + n * n)::real ORDER BY n) FROM generate_series(1, 384) AS n)::vector
                   AS embedding, 'csrd'::text AS namespace
        FROM ready""")


def make_store(server, index_kind):
    """An empty store with one namespace."""
    server.run(f"""DROP SCHEMA IF EXISTS bench CASCADE; SET client_min_messages = error;
        SELECT create_vector_store('bench', 'all-MiniLM-L6-v2', index_kind => '{index_kind}');
        SELECT create_namespace('bench', 'csrd')""")


def measure_bulk(server, rows, rounds, index_kind):
    """upsert_embeddings beside COPY, from a client that has its messages ready, and inside the server."""
    sides = {
        "COPY": copy_messages(server),
        "text": upsert_messages(server, TEXT),
        "binary": upsert_messages(server, BINARY),
        "arrays": [statement(UPSERT_ALL)],
        "INSERT": [statement(f"INSERT INTO bench.vector_embeddings ({COLUMNS}) SELECT {COLUMNS} FROM copied {IN_ORDER}")],
    }
    seconds, processor = {side: [] for side in sides}, {side: [] for side in sides}
    for turn in range(rounds):
        # Each turn begins with another side, so that none is always the first.
        names = list(sides)
        for side in names[turn % len(names):] + names[:turn % len(names)]:
            make_store(server, index_kind)
            server.run("CHECKPOINT")
            client = Client(server.connection)
            client.send(statement("SELECT rrf_score(1)"))
            began_running, began = running(client), time.perf_counter()
            for messages in sides[side]:
                client.send(messages)
            seconds[side].append(time.perf_counter() - began)
            processor[side].append(running(client) - began_running)
            client.close()
            found = server.rows("SELECT count_embeddings('bench', 'csrd')")[0][0]
            assert int(found) == rows, found
    speed = {side: rows / statistics.median(found) for side, found in seconds.items()}
    said = {side: f"{speed[side]:,.0f} rows/s, {statistics.median(found) / rows * 1e6:,.0f} µs of a core a row"
            for side, found in processor.items()}
    where = "without a vector index" if index_kind == "none" else "with HNSW (staging)"
    asked = "at least 10,000 rows/s" if index_kind == "none" else "at least 0.8 ×"
    for side, what in (("text", "values as text, 1,000 rows a call"), ("binary", "values in binary form, 1,000 rows a call"),
                       ("arrays", "one call, arrays made in the server")):
        ratio = statistics.median(known / found for known, found in zip(seconds["COPY"], seconds[side]))
        print_row(f"upsert_embeddings {where}, {what}", said[side], f"COPY {said['COPY']}", f"{ratio:.2f} ×", asked)
    ratio = statistics.median(known / found for known, found in zip(seconds["COPY"], seconds["INSERT"]))
    print_row(f"plain INSERT … SELECT {where}", said["INSERT"], f"COPY {said['COPY']}", f"{ratio:.2f} ×", "")


def running(client):
    """Seconds that the server's process of a session has had a core, which other work on the machine disturbs less than
    the clock."""
    found = client.send(statement("SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)"))
    return int(found[0]) / 1e9


def copy_messages(server):
    """One COPY and its rows as text. The client has content_hash and content_preview ready."""
    data = server.run(f"COPY (SELECT {COLUMNS} FROM copied {IN_ORDER}) TO STDOUT")
    return [statement(f"COPY bench.vector_embeddings ({COLUMNS}) FROM STDIN"), copied(data.encode())]


def upsert_messages(server, form):
    """Calls of upsert_embeddings. The client has texts and numbers only; hash and preview are the function's work."""
    columns = ("source_type", "source_id", "chunk_index", "content", "embedding", "namespace")
    found = server.rows(f"SELECT {', '.join(columns)} FROM copied {IN_ORDER}")
    names = ("text", "text", "uuid", "int4", "text", "vector", "text")
    arrays = [name if place == 0 else name + "[]" for place, name in enumerate(names)]
    oids = {name: int(server.rows(f"SELECT '{name}'::regtype::oid")[0][0]) for name in {*names, *arrays}}
    messages = []
    for first in range(0, len(found), ROWS_A_CALL):
        values = list(zip(*found[first:first + ROWS_A_CALL]))
        if form == TEXT:
            types = [0] * len(names)
            values = [("{" + ",".join(f'"{value}"' for value in column) + "}").encode() for column in values]
        else:
            types = [oids[name] for name in arrays]
            values = [binary_array(oids[name], [BINARY_FORMS[name](value) for value in column])
                      for name, column in zip(names[1:], values)]
        sql = "SELECT upsert_embeddings($1, $2, $3, $4, $5, $6, $7)"
        messages.append(call(sql, types, [b"bench", *values], form))
    return messages


# Values as drivers with types for them send them.
BINARY_FORMS = {
    "text": str.encode,
    "uuid": lambda text: uuid.UUID(text).bytes,
    "int4": lambda text: struct.pack("!i", int(text)),
    "vector": lambda text: binary_vector([float(number) for number in text.strip("[]").split(",")]),
}


def measure_document(server, rounds):
    """A document of 200 chunks the first time, unchanged, and with one chunk changed."""
    make_store(server, "hnsw")
    milliseconds = {"first": [], "unchanged": [], "one changed": []}
    for number in range(rounds):
        output = server.run(f"""CREATE TEMP TABLE chunks AS
                SELECT array_agg(body || ' {number}' ORDER BY number) AS chunks FROM ready WHERE number < 200;
            SELECT vector_dims(embed('warm', 'all-MiniLM-L6-v2'));
            {timed("upsert_document('bench', 'document', '00000000-0000-0000-0000-00000000000" + str(number) + "', chunks)",
                   "chunks", 1)}
            {timed("upsert_document('bench', 'document', '00000000-0000-0000-0000-00000000000" + str(number) + "', chunks)",
                   "chunks", 20)}
            UPDATE chunks SET chunks[100] = 'another text';
            {timed("upsert_document('bench', 'document', '00000000-0000-0000-0000-00000000000" + str(number) + "', chunks)",
                   "chunks", 1)}
            SELECT milliseconds FROM measured ORDER BY number""")
        found = [float(line) for line in output.split() if "." in line]
        for name, value in zip(milliseconds, found):
            milliseconds[name].append(value)
    first, unchanged, changed = [statistics.median(found) for found in milliseconds.values()]
    print_row("upsert_document, 200 chunks, unchanged", f"{unchanged:.2f} ms", f"first time {first:,.0f} ms",
              f"{first / unchanged:,.0f} ×", "at least 50 ×")
    print_row("upsert_document, 200 chunks, one of them changed", f"{changed:.1f} ms", f"first time {first:,.0f} ms",
              f"{first / changed:,.0f} ×", "")


def timed(call, table, times):
    """Statements that run a call so often and note the median of its milliseconds."""
    return f"""CREATE TEMP TABLE IF NOT EXISTS measured (number serial, milliseconds float8);
        DO $$
        DECLARE began timestamptz; found float8[] := '{{}}';
        BEGIN
            FOR i IN 1..{times} LOOP
                began := clock_timestamp();
                PERFORM {call} FROM {table};
                found := found || extract(epoch FROM clock_timestamp() - began)::float8 * 1000;
            END LOOP;
            INSERT INTO measured (milliseconds)
            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY f) FROM unnest(found) AS f;
        END $$;"""


def measure_search(server, times):
    """search_embeddings beside hybrid_search with the same filter, in one session, taking turns."""
    make_store(server, "hnsw")
    server.run(f"""{UPSERT_ALL};
        SELECT refresh_search_stats('bench.vector_embeddings'); ANALYZE bench.vector_embeddings""")
    for name, search, hybrid in (
        ("a namespace, embedding given", "'bench', question, 'csrd', 10, query_embedding => embedding",
         "'bench.vector_embeddings', question, 10, '{\"namespace\": \"csrd\"}', query_embedding => embedding"),
        ("a namespace by meaning alone", "'bench', NULL, 'csrd', 10, query_embedding => embedding",
         "'bench.vector_embeddings', '', 10, '{\"namespace\": \"csrd\"}', query_embedding => embedding, text_weight => 0"),
        ("a namespace and a source type, logged", "'bench', question, 'csrd', 10, source_type => 'document', query_embedding => embedding",
         "'bench.vector_embeddings', question, 10, '{\"$and\": [{\"namespace\": \"csrd\"}, {\"source_type\": \"document\"}]}', "
         "query_embedding => embedding"),
    ):
        logging = "on" if "logged" in name else "off"
        output = server.run(f"""SET vector_tools.auto_refresh_statistics = off; SET vector_tools.log_searches = {logging};
            CREATE TEMP TABLE questions AS SELECT row_number() OVER () AS n, split_part(content, ' ', 30) || ' ' ||
                split_part(content, ' ', 31) AS question, embedding FROM copied WHERE number % 19 = 3 LIMIT 50;
            CREATE TEMP TABLE measured (side text, milliseconds float8);
            DO $$
            DECLARE began timestamptz; q record; v vector;
            BEGIN
                FOR i IN 1..{times} LOOP
                    SELECT * INTO q FROM questions WHERE n = i % 50 + 1;
                    began := clock_timestamp();
                    PERFORM count(*) FROM hybrid_search({hybrid.replace("question", "q.question").replace("=> embedding", "=> q.embedding")});
                    INSERT INTO measured SELECT 'hybrid', extract(epoch FROM clock_timestamp() - began) * 1000 WHERE i > 10;
                    began := clock_timestamp();
                    PERFORM count(*) FROM search_embeddings({search.replace("question", "q.question").replace("=> embedding", "=> q.embedding")});
                    INSERT INTO measured SELECT 'store', extract(epoch FROM clock_timestamp() - began) * 1000 WHERE i > 10;
                END LOOP;
            END $$;
            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds) FROM measured GROUP BY side ORDER BY side""")
        hybrid_ms, store_ms = [float(line) for line in output.split()[-2:]]
        print_row(f"search_embeddings, {name}", f"{store_ms:.2f} ms", f"hybrid_search {hybrid_ms:.2f} ms",
                  f"{store_ms - hybrid_ms:+.2f} ms", "at most +0.3 ms")


def print_row(*cells):
    """A row of a table in Markdown."""
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
