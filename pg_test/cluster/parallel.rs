//! The same results in parallel workers as without them (24).

use crate::database::Database;

const QUESTIONS: [&str; 5] = [
    "SELECT id, embed(body)::text FROM texts ORDER BY id",
    "SELECT id, embed(body, 'all-MiniLM-L6-v2-int8')::text, embed_query(body)::text FROM texts ORDER BY id",
    "SELECT id, count_tokens(body), embed(ARRAY[body, NULL])::text FROM texts ORDER BY id",
    "SELECT item, rrf_score(rank_b, 60), score FROM rrf_fuse(ARRAY['a', 'b'], ARRAY['b', 'a']) ORDER BY item",
    "SELECT * FROM hybrid_search('texts', 'pump number 7', 5, '{\"id\": {\"$lt\": 90}}')",
];

// trust 24
#[test]
fn forced_parallel_plans_change_no_result() {
    let database = Database::with_extension("parallel");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE texts (id int PRIMARY KEY, body text, v vector(384),
             l tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
         INSERT INTO texts SELECT i, 'pump number ' || i FROM generate_series(1, 100) AS i;
         UPDATE texts SET v = embed(body);
         ANALYZE texts",
    );
    let expected: Vec<Vec<String>> = QUESTIONS.iter().map(|question| session.rows(question)).collect();
    session.run(
        "SET debug_parallel_query = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2",
    );
    let plan = session.rows(&format!("EXPLAIN (COSTS off) {}", QUESTIONS[0])).join("\n");
    assert!(plan.contains("Gather"), "expected embed to run in workers, not in this plan:\n{plan}");
    for (question, expected) in QUESTIONS.iter().zip(expected) {
        assert_eq!(session.rows(question), expected, "expected the result of a serial plan for {question}");
    }
    session.still_embeds();
}
