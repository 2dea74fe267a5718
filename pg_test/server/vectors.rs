//! The vector leg: metrics and forms of indexes, selectivity, pages, fusion, diversity, fallback.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, one, run};
    use pgrx::prelude::*;

    /// Points on a circle, in eight dimensions, with words.
    fn create_points(column_type: &str) {
        run(&format!(
            "CREATE TABLE points (id integer PRIMARY KEY, tag integer, body text, v {column_type}(8), l tsvector)"
        ));
        run("INSERT INTO points SELECT i, i % 100, 'point ' || i,
                 ('[' || 3 * cos(i * 0.01) || ',' || (1 + i % 5) * sin(i * 0.01) || ',' || sin(i * 0.003) || ',1,0,0,' || i % 3 || ',0.5]')::vector(8),
                 to_tsvector('simple', 'point ' || i || ' ' || CASE WHEN i % 10 = 0 THEN 'ten' ELSE 'other' END)
             FROM generate_series(1, 2000) AS i");
    }

    const QUERY: &str = "'[1,2,0.5,1,0,0,1,0.5]'";

    fn ids(call: &str) -> String {
        one(&format!("SELECT coalesce(string_agg(id, ' '), '') FROM {call}"))
    }

    fn nearest(operator: &str, condition: &str) -> String {
        one(&format!(
            "SELECT string_agg(id::text, ' ') FROM (SELECT id FROM points WHERE {condition}
             ORDER BY v {operator} {QUERY}, id LIMIT 10) AS n"
        ))
    }

    fn search(arguments: &str) -> String {
        ids(&format!("semantic_search('points', 'x', 10, query_embedding => {QUERY}{arguments})"))
    }

    #[pg_test]
    fn the_index_says_what_near_means() {
        create_points("vector");
        assert_eq!(search(""), nearest("<=>", "true"));
        for (class, operator) in [
            ("vector_l2_ops", "<->"),
            ("vector_ip_ops", "<#>"),
            ("vector_l1_ops", "<+>"),
            ("vector_cosine_ops", "<=>"),
        ] {
            run(&format!("CREATE INDEX near ON points USING hnsw (v {class})"));
            assert_eq!(search(""), nearest(operator, "true"), "{class}");
            let similarity = format!(
                "SELECT similarity FROM semantic_search('points', 'x', 1, query_embedding => {QUERY})"
            );
            assert!(one::<f64>(&similarity).is_finite());
            run("DROP INDEX near");
        }
        run("CREATE INDEX near ON points USING ivfflat (v vector_l2_ops) WITH (lists = 5)");
        assert_eq!(search(""), nearest("<->", "true"));
    }

    #[pg_test]
    fn shorter_forms_are_ranked_again_exactly() {
        create_points("vector");
        run("SET LOCAL enable_seqscan = off");
        for (expression, class) in
            [("(v::halfvec(8))", "halfvec_cosine_ops"), ("(binary_quantize(v)::bit(8))", "bit_hamming_ops")]
        {
            run(&format!("CREATE INDEX near ON points USING hnsw ({expression} {class})"));
            let explained = format!(
                "SELECT (e->'vector_leg'->>'scan') || ' ' || (e->'vector_leg'->>'rows')
                 FROM explain_search('points', 'x', 10, text_weight => 0, query_embedding => {QUERY}, depth => 300) AS e"
            );
            assert_eq!(one::<String>(&explained), "index 300", "{class}");
            let recalled = format!(
                "SELECT count(*) FROM semantic_search('points', 'x', 10, query_embedding => {QUERY}, depth => 400) AS h
                 WHERE h.id::int IN (SELECT id FROM points ORDER BY v <=> {QUERY}, id LIMIT 10)"
            );
            // Eight signs say little of eight numbers; halves say nearly all.
            let least = if class == "bit_hamming_ops" { 1 } else { 9 };
            assert!(one::<i64>(&recalled) >= least, "{class}");
            run("DROP INDEX near");
        }
    }

    #[pg_test]
    fn half_precision_columns_are_searched() {
        create_points("halfvec");
        run("CREATE INDEX near ON points USING hnsw (v halfvec_cosine_ops)");
        assert_eq!(search(""), nearest("<=>", "true"));
        assert_eq!(search(", diversity => 0.3").split(' ').count(), 10);
    }

    #[pg_test]
    fn few_rows_are_compared_exactly() {
        create_points("vector");
        run("CREATE INDEX near ON points USING hnsw (v vector_cosine_ops)");
        run("ANALYZE points");
        let scan = |filter: &str| {
            one::<String>(&format!(
                "SELECT explain_search('points', 'x', text_weight => 0, query_embedding => {QUERY}, filter => '{filter}')->'vector_leg'->>'scan'"
            ))
        };
        assert_eq!(scan("{\"tag\": 7}"), "exact");
        assert_eq!(scan("{}"), "index");
        assert_eq!(search(", filter => '{\"tag\": 7}'"), nearest("<=>", "tag = 7"));
    }

    #[pg_test]
    fn pages_are_cut_from_one_list() {
        create_points("vector");
        let page = |skip: usize| {
            ids(&format!(
                "hybrid_search('points', 'ten', 5, query_embedding => {QUERY}, skip => {skip}, depth => 200)"
            ))
        };
        let whole =
            ids(&format!("hybrid_search('points', 'ten', 20, query_embedding => {QUERY}, depth => 200)"));
        assert_eq!([0, 5, 10, 15].map(page).join(" "), whole);
        assert_error("SELECT * FROM hybrid_search('points', 'ten', skip => -1)", "22023");
        assert_error("SELECT * FROM hybrid_search('points', 'ten', depth => 3)", "22023");
    }

    #[pg_test]
    fn scores_are_completed_before_they_are_fused() {
        create_points("vector");
        for fusion in ["dbsf", "relative", "linear", "adaptive"] {
            let call = format!(
                "hybrid_search('points', 'ten point', 10, query_embedding => {QUERY}, fusion => '{fusion}')"
            );
            assert!(
                one::<bool>(&format!(
                    "SELECT bool_and(similarity IS NOT NULL AND text_score IS NOT NULL) FROM {call}"
                )),
                "{fusion}"
            );
            assert!(
                one::<bool>(&format!(
                    "SELECT bool_and(score <= last) FROM (SELECT score, lag(score, 1, score) OVER () AS last FROM {call}) AS h"
                )),
                "{fusion}"
            );
        }
        let linear = format!(
            "SELECT bool_and(abs(score - (similarity + text_score / best) / 2) < 1e-9) FROM (
                 SELECT h.*, max(text_score) OVER () AS best
                 FROM hybrid_search('points', 'ten', 1000, query_embedding => {QUERY}, fusion => 'linear', depth => 4000) AS h) AS h"
        );
        assert!(one::<bool>(&linear));
        assert_error("SELECT * FROM hybrid_search('points', 'ten', fusion => 'sum')", "22023");
    }

    #[pg_test]
    fn a_least_similarity_holds_in_both_legs() {
        create_points("vector");
        let call =
            format!("hybrid_search('points', 'ten', 500, query_embedding => {QUERY}, min_similarity => 0.9)");
        assert!(one::<bool>(&format!("SELECT count(*) > 0 AND min(similarity) >= 0.9 FROM {call}")));
        assert_eq!(
            one::<i64>(&format!(
                "SELECT count(*) FROM semantic_search('points', 'x', 10, query_embedding => {QUERY}, min_similarity => 2)"
            )),
            0
        );
    }

    #[pg_test]
    fn diversity_spreads_the_answer() {
        create_points("vector");
        let spread = |diversity: f64| {
            one::<f64>(&format!(
                "SELECT avg(a.v <=> b.v) FROM semantic_search('points', 'x', 10, query_embedding => {QUERY}, diversity => {diversity}) AS h
                 JOIN points AS a ON a.id = h.id::int,
                 semantic_search('points', 'x', 10, query_embedding => {QUERY}, diversity => {diversity}) AS i
                 JOIN points AS b ON b.id = i.id::int"
            ))
        };
        let (near, far) = (spread(0.0), spread(1.0));
        assert!(far > near, "{far} {near}");
        assert_error("SELECT * FROM semantic_search('points', 'x', diversity => 1.1)", "22023");
    }

    #[pg_test]
    fn words_answer_when_the_model_cannot() {
        create_points("vector");
        let call = "hybrid_search('points', 'ten', 5, model => 'no-such-model')";
        assert!(one::<bool>(&format!(
            "SELECT count(*) = 5 AND bool_and(vector_rank IS NULL AND text_rank IS NOT NULL) FROM {call}"
        )));
        assert_error(
            "SELECT * FROM hybrid_search('points', 'ten', model => 'no-such-model', require_vector => true)",
            "42704",
        );
        assert_error("SELECT * FROM semantic_search('points', 'ten', model => 'no-such-model')", "42704");
    }

    #[pg_test]
    fn dimensions_are_checked_first() {
        create_points("vector");
        assert_error("SELECT * FROM hybrid_search('points', 'ten', query_embedding => '[1,2,3]')", "22000");
        assert_error(
            "SELECT * FROM hybrid_search('points', 'ten', model => 'all-MiniLM-L6-v2-int8')",
            "22000",
        );
    }

    #[pg_test]
    fn one_column_is_enough_for_one_leg() {
        run("CREATE TABLE words (id integer PRIMARY KEY, l tsvector)");
        run("INSERT INTO words VALUES (1, 'cat:1')");
        run("CREATE TABLE vectors (id integer PRIMARY KEY, v vector(2))");
        run("INSERT INTO vectors VALUES (1, '[1,0]'), (2, '[0,0]'), (3, NULL)");
        assert_eq!(ids("keyword_search('words', 'cat')"), "1");
        assert_eq!(ids("semantic_search('vectors', 'x', query_embedding => '[1,1]')"), "1");
        assert_error("SELECT * FROM hybrid_search('words', 'cat')", "42703");
        assert_error("SELECT * FROM keyword_search('vectors', 'cat')", "42703");
        run("CREATE TABLE nothing (id integer PRIMARY KEY, v vector(2), l tsvector)");
        assert_eq!(ids("hybrid_search('nothing', 'cat', query_embedding => '[1,1]')"), "");
    }

    #[pg_test]
    fn new_indexes_are_noticed() {
        create_points("vector");
        let metric = || {
            one::<String>(&format!(
                "SELECT explain_search('points', 'x', text_weight => 0, query_embedding => {QUERY})->'vector_leg'->>'metric'"
            ))
        };
        assert_eq!(metric(), "<=>");
        run("CREATE INDEX near ON points USING hnsw (v vector_l2_ops)");
        assert_eq!(metric(), "<->");
        run("ALTER TABLE points RENAME COLUMN v TO w");
        assert_eq!(metric(), "<->");
        run("DROP INDEX near");
        assert_eq!(metric(), "<=>");
    }
}
