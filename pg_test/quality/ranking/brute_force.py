"""The keyword leg's answers beside BM25 computed for every document, by its definition, outside of the extension."""

import math
import sys

K1, B = 1.2, 0.75
DEPTH = 100
# The words of a query without what would be a condition: quotes, leading minus signs and OR.
WORDS = r"""regexp_replace(regexp_replace(q.body, '"|(^|\s)-+', '\1', 'g'), '\mOR\M', 'or', 'g')"""


def differing_queries(server, table):
    """The queries of the table `queries` for which `keyword_search` does not give the DEPTH best documents, and the
    number of all queries."""
    postings, lengths = read_postings(server, table)
    words = {}
    for query, lexeme, occurrences in server.rows(f"""SELECT q.id, w.lexeme, cardinality(w.positions)
            FROM queries AS q, unnest(to_tsvector('english', {WORDS})) AS w"""):
        words.setdefault(query, {})[lexeme] = int(occurrences)
    found = {}
    literal = "'" + table.replace("'", "''") + "'"
    for query, document, score in server.rows(f"""SELECT q.id, k.id, k.score FROM queries AS q,
            LATERAL keyword_search({literal}, {WORDS}, {DEPTH}) AS k"""):
        found.setdefault(query, []).append((document, float(score)))
    queries = [query for (query,) in server.rows("SELECT id FROM queries")]
    different = [query for query in queries
                 if not is_equal(found.get(query, []), scores(words.get(query, {}), postings, lengths))]
    for query in different:
        print(f"{table}: query {query} has other answers than BM25 by its definition", file=sys.stderr, flush=True)
    return different, len(queries)


def read_postings(server, table):
    """For each lexeme its documents and occurrences, and for each document its length."""
    postings, lengths = {}, {document: 0 for (document,) in server.rows(f"SELECT id FROM {table} WHERE lexemes IS NOT NULL")}
    for document, lexeme, occurrences in server.rows(f"""SELECT t.id, w.lexeme, cardinality(w.positions)
            FROM {table} AS t, unnest(t.lexemes) AS w"""):
        postings.setdefault(lexeme, []).append((document, int(occurrences)))
        lengths[document] += int(occurrences)
    return postings, lengths


def scores(words, postings, lengths):
    """The score of every document that has a word of the query."""
    documents = len(lengths)
    average = sum(lengths.values()) / documents
    result = {}
    for lexeme, times in words.items():
        having = postings.get(lexeme, [])
        weight = times * math.log(1 + (documents - len(having) + 0.5) / (len(having) + 0.5))
        for document, occurrences in having:
            norm = K1 * (1 - B + B * lengths[document] / average)
            result[document] = result.get(document, 0.0) + weight * occurrences * (K1 + 1) / (occurrences + norm)
    return result


def is_equal(found, expected):
    """Whether the documents found have the best scores, each its own; which of equal ones were taken does not matter."""
    best = sorted(expected.values(), reverse=True)[:DEPTH]
    return (len(found) == len(best) == len({document for document, _ in found})
            and all(is_close(score, expected.get(document, math.nan)) and is_close(score, wanted)
                    for (document, score), wanted in zip(found, best)))


def is_close(score, other):
    """Equal but for the order in which parts were added up."""
    return abs(score - other) <= 1e-9 * max(1.0, abs(other))
