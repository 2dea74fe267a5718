"""Measures ranking on collections with judgements, end to end through SQL: `make quality`.

`run.py [FOLDER…]` takes folders in the layout of BEIR: corpus.jsonl(.gz) and queries.jsonl with `_id` and `text`,
and qrels.tsv with a heading (query, document, relevance). Without any, those of ../shared/eval are measured.
`--plot FILE` draws the result. Embeddings are computed once and kept in .local/bench-quality.
"""

import argparse
import glob
import gzip
import json
import math
import os
import random
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import brute_force  # noqa: E402
import measured_server  # noqa: E402
import plot  # noqa: E402

DEPTH = 100

# What stands in FROM: $source is the table, q the row of the query.
METHODS = {
    "BM25": "keyword_search($source, q.body, 100)",
    "vector": "semantic_search($source, q.body, 100, query_embedding => q.embedding)",
    "rrf": "hybrid_search($source, q.body, 100, depth => 100)",
    "dbsf": "hybrid_search($source, q.body, 100, depth => 100, query_embedding => q.embedding, fusion => 'dbsf')",
    "relative": "hybrid_search($source, q.body, 100, depth => 100, query_embedding => q.embedding, "
                "fusion => 'relative')",
    "linear": "hybrid_search($source, q.body, 100, depth => 100, query_embedding => q.embedding, fusion => 'linear')",
    "linear, text 0.3": "hybrid_search($source, q.body, 100, depth => 100, query_embedding => q.embedding, "
                        "fusion => 'linear', text_weight => 0.3)",
    "adaptive": "hybrid_search($source, q.body, 100, depth => 100, query_embedding => q.embedding, "
                "fusion => 'adaptive')",
}
FUSIONS = [name for name in METHODS if name not in ("BM25", "vector")]

# The recipes of tutorials, for comparison: every word required, or any.
RECIPES = {
    "AND + ts_rank": "plainto_tsquery('english', q.body)",
    "OR + ts_rank": "replace(plainto_tsquery('english', q.body)::text, '&', '|')::tsquery",
}

# For each collection, the queries whose keyword leg equals brute force, and all of them.
EXACT = {}

# nDCG@10 that others, or an exact computation outside PostgreSQL, found.
KNOWN = {
    "scifact": {"BM25": 0.689, "vector": 0.649, "rrf": 0.725},
    "cranfield": {"BM25": 0.365, "vector": 0.382, "rrf": 0.414},
    "npl": {"BM25": 0.439, "vector": 0.434, "rrf": 0.499},
    "wikiqa": {"vector": 0.701, "rrf": 0.582},
    "liveqa": {"vector": 0.252, "rrf": 0.451},
}


def main():
    """Measures, prints tables in Markdown, and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="folders of collections, or names below ../shared/eval")
    parser.add_argument("--plot", metavar="FILE", help="draw nDCG@10 by collection and method")
    options = parser.parse_args()
    folders = [find_folder(folder) for folder in options.folders] or shared_folders()
    if not folders:
        print("quality: skipped, since there is no ../shared/eval; name folders of collections to measure those")
        return
    server = measured_server.MeasuredServer("bench-quality")
    try:
        results = {os.path.basename(folder): measure(server, folder) for folder in folders}
    finally:
        server.stop()
    is_exact = print_tables(results)
    if options.plot:
        series = {name: [mean(result[name]["ndcg"]) for result in results.values()] for name in METHODS}
        with open(options.plot, "w", encoding="utf-8") as file:
            file.write(plot.grouped_bars("Ranking quality by method", "nDCG@10", list(results), series))
    if not is_exact:
        sys.exit("the keyword leg is not exact, see above")


def shared_folders():
    """The collections beside the repository."""
    return sorted(os.path.dirname(path) for path in glob.glob(os.path.join(ROOT, "..", "shared", "eval", "*", "qrels.tsv")))


def find_folder(name):
    """A folder by its path, or by its name among the shared collections."""
    shared = os.path.join(ROOT, "..", "shared", "eval", name)
    return os.path.abspath(name if os.path.isdir(name) else shared)


def measure(server, folder):
    """For each method, nDCG@10 and recall@100 of every judged query, in the order of the queries."""
    name = os.path.basename(folder)
    table = '"' + name.replace('"', '""') + '"'
    judgements = read_judgements(folder)
    load(server, folder, table, judgements)
    different, count = brute_force.differing_queries(server, table)
    EXACT[name] = count - len(different), count
    results = {}
    for method, call in METHODS.items():
        print(f"{name}: {method}", file=sys.stderr, flush=True)
        source = "'" + table.replace("'", "''") + "'"
        found = f"(SELECT id, row_number() OVER () AS rank FROM {call.replace('$source', source)})"
        results[method] = score(server, table, found, judgements)
    for recipe, query in RECIPES.items():
        found = f"""(SELECT t.id, row_number() OVER (ORDER BY ts_rank(t.lexemes, w.query) DESC, t.id) AS rank
                     FROM {table} AS t, (SELECT {query} AS query) AS w WHERE t.lexemes @@ w.query
                     ORDER BY rank LIMIT {DEPTH})"""
        results[recipe] = score(server, table, found, judgements)
    return results


def load(server, folder, table, judgements):
    """Stores a collection and its judged queries in tables, with their embeddings."""
    server.run(f"""DROP TABLE IF EXISTS {table};
        CREATE TABLE {table} (
            id text PRIMARY KEY,
            body text,
            embedding vector(384),
            lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED
        );
        DROP TABLE IF EXISTS queries;
        CREATE TABLE queries (place serial, id text, body text, embedding vector(384))""")
    server.copy(f"{table} (id, body)", ((line["_id"], line["text"]) for line in read_lines(folder, "corpus")))
    queries = [(line["_id"], line["text"]) for line in read_lines(folder, "queries") if line["_id"] in judgements]
    server.copy("queries (id, body)", queries)
    server.fill_embeddings(table)
    server.run(f"""UPDATE queries SET embedding = embed_query(body);
        CREATE INDEX ON {table} USING gin (lexemes)""")
    server.run(f"VACUUM ANALYZE {table}")
    server.run(f"SELECT refresh_search_stats('{table}')")


def read_lines(folder, name):
    """The objects of a file of JSON lines, compressed or not."""
    path = os.path.join(folder, name + ".jsonl")
    opened = open(path, encoding="utf-8") if os.path.exists(path) else gzip.open(path + ".gz", "rt", encoding="utf-8")
    with opened as file:
        for line in file:
            yield json.loads(line)


def read_judgements(folder):
    """The relevant documents of each query with their grades; queries without any are left out, as BEIR does."""
    judgements = {}
    with open(os.path.join(folder, "qrels.tsv"), encoding="utf-8") as file:
        next(file)
        for line in file:
            query, document, grade = line.rstrip("\n").split("\t")
            if float(grade) > 0:
                judgements.setdefault(query, {})[document] = float(grade)
    return judgements


def score(server, table, found, judgements):
    """Runs a method for every query and scores its lists."""
    lists = {}
    for query, document, rank in server.rows(f"SELECT q.id, f.id, f.rank FROM queries AS q, LATERAL {found} AS f"):
        lists.setdefault(query, []).append((int(rank), document))
    ndcg, recall = [], []
    for query in sorted(judgements):
        ranked = [document for _, document in sorted(lists.get(query, []))]
        ndcg.append(normalized_gain(ranked, judgements[query], 10))
        recall.append(sum(document in judgements[query] for document in ranked[:DEPTH]) / len(judgements[query]))
    return {"ndcg": ndcg, "recall": recall}


def normalized_gain(ranked, grades, depth):
    """nDCG at a depth, with the grade as gain and the logarithm of the rank plus one as discount (Järvelin and
    Kekäläinen 2002, as trec_eval computes it)."""
    gain = lambda grades: sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades))
    ideal = gain(sorted(grades.values(), reverse=True)[:depth])
    return gain([grades.get(document, 0.0) for document in ranked[:depth]]) / ideal


def mean(numbers):
    """Their mean."""
    return sum(numbers) / len(numbers)


def interval(numbers, rounds=1000):
    """The 95 % interval of the mean, by bootstrap over the queries with a fixed seed."""
    chance = random.Random(7)
    means = sorted(mean(chance.choices(numbers, k=len(numbers))) for _ in range(rounds))
    return means[round(rounds * 0.025)], means[round(rounds * 0.975) - 1]


def print_tables(results):
    """Prints what was found, and what it means for the figures that were asked; whether the keyword leg is exact."""
    names = list(results)
    methods = [*METHODS, *RECIPES]
    print("\nnDCG@10, with its 95 % interval (bootstrap over queries); in parentheses what was known\n")
    print_row("method", *names, "mean")
    print_row("---", *["---"] * (len(names) + 1))
    for method in methods:
        cells = []
        for name in names:
            low, high = interval(results[name][method]["ndcg"])
            known = KNOWN.get(name, {}).get(method)
            known = f" ({known:.3f})" if known else ""
            cells.append(f"{mean(results[name][method]['ndcg']):.3f}{known} [{low:.2f}, {high:.2f}]")
        print_row(method, *cells, f"{macro(results, method):.4f}")
    print("\nrecall@100\n")
    print_row("method", *names)
    print_row("---", *["---"] * len(names))
    for method in methods:
        print_row(method, *[f"{mean(results[name][method]['recall']):.3f}" for name in names])
    print("\nnDCG@10 beside the better leg of each collection\n")
    print_row("fusion", *names)
    print_row("---", *["---"] * len(names))
    for fusion in FUSIONS:
        print_row(fusion, *[f"{beside_better_leg(results[name], fusion):+.3f}" for name in names])
    print_goals(results)
    return all(equal == count for equal, count in EXACT.values())


def macro(results, method):
    """The mean of the collections."""
    return mean([mean(result[method]["ndcg"]) for result in results.values()])


def beside_better_leg(result, fusion):
    """How far a fusion is above the better of its legs."""
    return mean(result[fusion]["ndcg"]) - max(mean(result[leg]["ndcg"]) for leg in ("BM25", "vector"))


def print_goals(results):
    """Says which of the figures asked for were reached."""
    print()
    for name, (equal, count) in EXACT.items():
        goal(equal == count, f"keyword leg of {name} equal to BM25 by its definition for all queries", f"{equal} of {count}")
    for name, known in KNOWN.items():
        for method in ("BM25", "rrf"):
            if name in results and method in known and name in ("scifact", "cranfield", "npl"):
                found = mean(results[name][method]["ndcg"])
                goal(abs(found - known[method]) <= 0.005, f"{method} on {name} within .005 of {known[method]:.3f}",
                     f"{found:.4f}")
    if "scifact" in results:
        best = max(FUSIONS, key=lambda fusion: mean(results["scifact"][fusion]["ndcg"]))
        goal(mean(results["scifact"][best]["ndcg"]) >= 0.74, "best fusion on scifact at least .74",
             f"{best}, {mean(results['scifact'][best]['ndcg']):.4f}")
    if len(results) > 1:
        best = max(FUSIONS, key=lambda fusion: macro(results, fusion))
        gain = macro(results, best) - macro(results, "rrf")
        goal(gain >= 0.015, "mean of the best fusion at least .015 above rrf", f"{best}, {gain:+.4f}")
        worst = {fusion: min(beside_better_leg(result, fusion) for result in results.values()) for fusion in FUSIONS}
        best = max(worst, key=worst.get)
        goal(worst[best] >= -0.02, "a fusion nowhere more than .02 below its better leg",
             f"{best}, {worst[best]:+.4f}")


def goal(is_reached, what, found):
    """One line about a goal."""
    print(f"- {'met' if is_reached else 'MISSED'}: {what}: {found}")


def print_row(*cells):
    """A row of a table in Markdown."""
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
