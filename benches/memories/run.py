"""Measures what search_memories adds to hybrid_search: `make bench-memories`.

On the memories of the demo (the server's own descriptions), both answer the same questions in one warm session, in turns, and
which of them begins changes from pair to pair. What counts is the median of the differences within pairs, since the machine's
load moves both sides alike.
"""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import as_server_user  # noqa: E402
import measured_server  # noqa: E402

ASKED_MILLISECONDS = 0.3
ROUNDS = 60
QUESTIONS = ["glue strings together with something in between", "throw dice", "shout in capitals", "drop blanks at both ends",
             "largest count of people connected at once", "which day of the week is it", "remove the accents", "read a file",
             "how long until a lock is given up", "area of a circle"]

FILTER = '{"source": "function", "name": {"$like": "%s%"}}'

# What is compared: a name, and the two calls; q is the question.
PAIRS = {
    "by meaning and words": ("hybrid_search('server_memories', q, 5, fusion => 'adaptive')", "search_memories(q, 'server', 5)"),
    "by words alone": ("hybrid_search('server_memories', q, 5, vector_weight => 0, fusion => 'adaptive')",
                       "search_memories(q, 'server', 5, use_vector => false)"),
    "by meaning and words, filtered": (f"hybrid_search('server_memories', q, 5, '{FILTER}', fusion => 'adaptive')",
                                       f"search_memories(q, 'server', 5, '{FILTER}')"),
}

# Counting the rows leaves no column out: the functions make all of them.
MEASURE = """
CREATE TEMP TABLE IF NOT EXISTS pairs (hybrid double precision, memories double precision);
TRUNCATE pairs;
DO $body$
DECLARE
    q text;
    began timestamptz;
    times double precision[];
    first boolean := true;
BEGIN
    FOR round IN 0..{rounds} LOOP
        FOREACH q IN ARRAY ARRAY[{questions}] LOOP
            times := '{{0,0}}';
            FOR turn IN 1..2 LOOP
                began := clock_timestamp();
                IF first = (turn = 1) THEN
                    PERFORM count(*) FROM {hybrid};
                    times[1] := extract(epoch FROM clock_timestamp() - began) * 1000;
                ELSE
                    PERFORM count(*) FROM {memories};
                    times[2] := extract(epoch FROM clock_timestamp() - began) * 1000;
                END IF;
            END LOOP;
            first := NOT first;
            -- The first round loads the model and makes the plans.
            IF round > 0 THEN
                INSERT INTO pairs VALUES (times[1], times[2]);
            END IF;
        END LOOP;
    END LOOP;
END $body$;
SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY hybrid)::numeric, 3),
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY memories)::numeric, 3),
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY memories - hybrid)::numeric, 3),
       round(percentile_cont(0.25) WITHIN GROUP (ORDER BY memories - hybrid)::numeric, 3),
       round(percentile_cont(0.75) WITHIN GROUP (ORDER BY memories - hybrid)::numeric, 3),
       count(*)
FROM pairs"""


def main():
    """Loads the memories once, measures, and prints a table in Markdown."""
    server = measured_server.MeasuredServer("bench-memories", shared_buffers="256MB")
    try:
        demo = os.path.join(ROOT, "examples", "demo", "run.py")
        subprocess.run([sys.executable, demo, server.connection], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, env=as_server_user.environment())
        rows = server.rows("SELECT count(*) FROM server_memories")[0][0]
        print(f"{rows} memories, {ROUNDS * len(QUESTIONS)} pairs for each line\n")
        print("| search | hybrid_search, p50 ms | search_memories, p50 ms | difference, median ms | its quartiles |")
        print("|---|---|---|---|---|")
        is_reached = all([measure(server, name) <= ASKED_MILLISECONDS for name in PAIRS])
        print(f"\n- {'met' if is_reached else 'MISSED'}: overhead at most {ASKED_MILLISECONDS} ms")
    finally:
        server.stop()


def measure(server, name):
    """Prints the line of a pair, and returns the median of its differences."""
    hybrid, memories = PAIRS[name]
    questions = ", ".join(f"'{question}'" for question in QUESTIONS)
    sql = MEASURE.format(rounds=ROUNDS, questions=questions, hybrid=hybrid, memories=memories)
    found = server.rows(sql)[-1]
    print(f"| {name} | {found[0]} | {found[1]} | {found[2]} | {found[3]} to {found[4]} |", flush=True)
    return float(found[2])


if __name__ == "__main__":
    main()
