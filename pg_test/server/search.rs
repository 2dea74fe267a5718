//! hybrid_search, rrf_fuse and rrf_score.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, one, run};
    use pgrx::prelude::*;

    fn create_docs() {
        run("CREATE TABLE docs (
                 id integer PRIMARY KEY,
                 lang text NOT NULL DEFAULT 'en',
                 body text,
                 metadata jsonb DEFAULT '{}',
                 embedding vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED,
                 lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED
             )");
        run("INSERT INTO docs (id, lang, body, metadata) VALUES
             (1, 'en', 'The cat sleeps on the warm roof', '{\"topic\": \"animals\", \"stars\": 5}'),
             (2, 'en', 'Shares fell sharply on Monday', '{\"topic\": \"money\", \"stars\": 3}'),
             (3, 'de', 'Bake the bread for forty minutes', '{\"topic\": \"food\", \"stars\": 4}'),
             (4, 'en', 'Roof tiles must be replaced', '{\"topic\": \"house\"}'),
             (5, 'en', NULL, '{}')");
    }

    fn ids(call: &str) -> String {
        one(&format!("SELECT coalesce(string_agg(id, ' '), '') FROM hybrid_search({call})"))
    }

    #[pg_test]
    fn both_legs_are_fused_and_ranked() {
        create_docs();
        run("CREATE TEMP TABLE hits AS SELECT * FROM hybrid_search('docs', 'kitten on a roof', k => 4)");
        assert_eq!(one::<String>("SELECT id FROM hits LIMIT 1"), "1");
        let score = one::<f64>("SELECT score FROM hits WHERE id = '1'");
        let ranks =
            one::<f64>("SELECT rrf_score(vector_rank) + rrf_score(text_rank) FROM hits WHERE id = '1'");
        assert_eq!(score, ranks);
        assert!(one::<bool>("SELECT text_rank IS NULL AND text_score = 0 FROM hits WHERE id = '2'"));
        assert!(one::<bool>("SELECT bool_and(abs(similarity - (1 - (d.embedding <=> embed_query('kitten on a roof')))) < 1e-6)
                             FROM hits JOIN docs AS d ON d.id = hits.id::int"));
        assert!(one::<bool>(
            "SELECT content = doc->>'body' AND NOT doc ? 'embedding' AND NOT doc ? 'lexemes' FROM hits LIMIT 1"
        ));
    }

    #[pg_test]
    fn words_are_alternatives() {
        create_docs();
        // With every word required nothing would match.
        assert_eq!(ids("'docs', 'which bread was sharply discussed', vector_weight => 0"), "2 3");
    }

    #[pg_test]
    fn filters_hold_in_both_legs() {
        create_docs();
        assert_eq!(ids("'docs', 'roof', filter => '{\"lang\": \"de\"}'"), "3");
        assert_eq!(ids("'docs', 'roof', filter => '{\"topic\": \"house\"}'"), "4");
        assert_eq!(ids("'docs', 'bread', filter => '{\"stars\": {\"$gte\": 4}}'"), "3 1");
        assert_eq!(
            ids("'docs', 'bread', filter => '{\"id\": {\"$in\": [2, 4]}}', text_weight => 0").len(),
            3
        );
        assert_eq!(
            ids(
                "'docs', 'roof', filter => '{\"$or\": [{\"stars\": 3}, {\"topic\": \"food\"}], \"lang\": {\"$ne\": \"en\"}}'"
            ),
            "3"
        );
        assert_eq!(ids("'docs', 'roof', filter => '{\"stars\": {\"$exists\": false}}'"), "4");
        assert_eq!(ids("'docs', 'roof', filter => '{\"body\": {\"$like\": \"%tiles%\"}}'"), "4");
        assert_error(
            "SELECT * FROM hybrid_search('docs', 'x', filter => '{\"stars\": {\"$near\": 1}}')",
            "22023",
        );
        assert_error("SELECT * FROM hybrid_search('docs', 'x', filter => '[]')", "22023");
    }

    #[pg_test]
    fn questions_without_words_are_answered_by_meaning() {
        create_docs();
        for question in ["", "   ", "the of and", "?!", "🙂"] {
            assert_eq!(
                one::<i64>(&format!("SELECT count(*) FROM hybrid_search('docs', '{question}', k => 2)")),
                2
            );
        }
        assert_eq!(ids("'docs', NULL"), "");
    }

    #[pg_test]
    fn any_table_with_the_two_columns_is_searched() {
        run("CREATE SCHEMA \"Odd Schema\"");
        run(
            "CREATE TABLE \"Odd Schema\".\"Odd \"\"Table\" (a integer, b text, \"My Text\" text, v vector(384), l tsvector, PRIMARY KEY (a, b))",
        );
        run(
            "INSERT INTO \"Odd Schema\".\"Odd \"\"Table\" VALUES (1, 'x', 'green apples', embed('green apples'), to_tsvector('english', 'green apples'))",
        );
        let hit = one::<String>(
            "SELECT id || ' ' || content FROM hybrid_search('\"Odd Schema\".\"Odd \"\"Table\"', 'apple', content_column => 'My Text')",
        );
        assert_eq!(hit, "[1, \"x\"] green apples");
    }

    #[pg_test]
    fn partitions_and_materialized_views_are_searched() {
        run(
            "CREATE TABLE parts (id integer, lang text, body text, v vector(384), l tsvector, PRIMARY KEY (id, lang)) PARTITION BY LIST (lang)",
        );
        run("CREATE TABLE parts_en PARTITION OF parts FOR VALUES IN ('en')");
        run("CREATE TABLE parts_de PARTITION OF parts DEFAULT");
        run("INSERT INTO parts SELECT i, l, t, embed(t), to_tsvector('english', t)
             FROM (VALUES (1, 'en', 'red wine'), (2, 'de', 'white wine'), (3, 'de', 'black coffee')) AS r(i, l, t)");
        assert_eq!(one::<i64>("SELECT count(*) FROM hybrid_search('parts', 'wine', k => 3)"), 3);
        assert_eq!(
            one::<String>("SELECT content FROM hybrid_search('parts', 'coffee', k => 1)"),
            "black coffee"
        );
        run("CREATE MATERIALIZED VIEW seen AS SELECT * FROM parts");
        assert_eq!(
            one::<String>("SELECT content FROM hybrid_search('seen', 'coffee', k => 1)"),
            "black coffee"
        );
    }

    #[pg_test]
    fn tables_that_cannot_be_searched_say_why() {
        run("CREATE TABLE no_vector (id integer, l tsvector)");
        run("CREATE TABLE no_lexemes (id integer, v vector(3))");
        run("CREATE TABLE two (id integer, v vector(384), w vector(384), l tsvector)");
        run("CREATE TABLE small (id integer, v vector(3), l tsvector)");
        run("CREATE VIEW seen AS SELECT * FROM small");
        run("CREATE FOREIGN DATA WRAPPER elsewhere");
        run("CREATE SERVER remote FOREIGN DATA WRAPPER elsewhere");
        run("CREATE FOREIGN TABLE far (id integer, v vector(384), l tsvector) SERVER remote");
        assert_error("SELECT * FROM hybrid_search('no_vector', 'x')", "42703");
        assert_error("SELECT * FROM hybrid_search('no_lexemes', 'x')", "42703");
        assert_error("SELECT * FROM hybrid_search('two', 'x')", "42702");
        assert_error("SELECT * FROM hybrid_search('two', 'x', vector_column => 'u')", "42703");
        assert_error("SELECT * FROM hybrid_search('two', 'x', vector_column => 'l')", "42804");
        assert_error("SELECT * FROM hybrid_search('small', 'x')", "22000");
        assert_error("SELECT * FROM hybrid_search('seen', 'x')", "42809");
        assert_error("SELECT * FROM hybrid_search('far', 'x')", "42809");
        assert_error("SELECT refresh_search_stats('far')", "42809");
        assert_eq!(ids("'two', 'x', vector_column => 'w'"), "");
    }

    #[pg_test]
    fn senseless_numbers_are_refused() {
        create_docs();
        for argument in [
            "k => 0",
            "k => -1",
            "k => 1000000",
            "k => 3000000000",
            "skip => 3000000000",
            "depth => 3000000000",
            "rrf_k => -1",
            "vector_weight => -1",
            "text_weight => 'NaN'",
            "vector_weight => 0, text_weight => 0",
        ] {
            assert_error(&format!("SELECT * FROM hybrid_search('docs', 'x', {argument})"), "22023");
        }
        // As drivers send numbers.
        let numbers = "k => 1::bigint, skip => 0::bigint, depth => 100::bigint, match => 1::bigint";
        assert_eq!(one::<i64>(&format!("SELECT count(*) FROM hybrid_search('docs', 'x', {numbers})")), 1);
    }

    #[pg_test]
    fn k_rows_come_back_whatever_the_filter() {
        run("CREATE TABLE many (id integer PRIMARY KEY, lang text, v vector(384), l tsvector)");
        run("INSERT INTO many SELECT i, CASE WHEN i % 100 = 0 THEN 'de' ELSE 'en' END,
                 (SELECT array_agg(sin(i * j))::vector FROM generate_series(1, 384) AS j), to_tsvector('simple', 'word' || i)
             FROM generate_series(1, 1500) AS i");
        run("CREATE INDEX ON many USING hnsw (v vector_cosine_ops)");
        run("SET LOCAL enable_seqscan = off");
        run("SET LOCAL enable_sort = off");
        assert_eq!(
            one::<i64>(
                "SELECT count(*) FROM hybrid_search('many', 'x', k => 15, filter => '{\"lang\": \"de\"}')"
            ),
            15
        );
    }

    #[pg_test]
    fn k_rows_come_back_when_an_index_scan_ends_early() {
        run("CREATE TABLE early (id integer PRIMARY KEY, lang text, v vector(384), l tsvector)");
        run("INSERT INTO early SELECT i, CASE WHEN i % 200 = 0 THEN 'de' ELSE 'en' END,
                 (SELECT array_agg(sin(i * j))::vector FROM generate_series(1, 384) AS j), to_tsvector('simple', 'word' || i)
             FROM generate_series(1, 1000) AS i");
        run("CREATE INDEX ON early USING hnsw (v vector_cosine_ops)");
        run("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off");
        run("SET LOCAL hnsw.max_scan_tuples = 1");
        assert_eq!(
            one::<i64>(
                "SELECT count(*) FROM hybrid_search('early', 'x', k => 5, filter => '{\"lang\": \"de\"}')"
            ),
            5
        );
    }

    #[pg_test]
    fn the_settings_of_the_scan_do_not_outlive_the_call() {
        create_docs();
        run("SELECT '[1]'::vector");
        let before = one::<String>(
            "SELECT current_setting('hnsw.ef_search') || current_setting('hnsw.iterative_scan')",
        );
        ids("'docs', 'cat'");
        let after = one::<String>(
            "SELECT current_setting('hnsw.ef_search') || current_setting('hnsw.iterative_scan')",
        );
        assert_eq!(before, after);
    }

    #[pg_test]
    fn a_configuration_that_was_renamed_is_found() {
        run("CREATE TEXT SEARCH CONFIGURATION own (COPY = english);
             CREATE TABLE notes (id int PRIMARY KEY, content text, \
                 lexemes tsvector GENERATED ALWAYS AS (to_tsvector('own', content)) STORED);
             INSERT INTO notes VALUES (1, 'the pump leaks')");
        let search = "'notes', 'pumps', vector_weight => 0";
        assert_eq!(ids(search), "1");
        run("ALTER TEXT SEARCH CONFIGURATION own RENAME TO renamed");
        assert_eq!(ids(search), "1");
    }

    #[pg_test]
    fn reciprocal_ranks_add_up() {
        assert_eq!(one::<f64>("SELECT rrf_score(1)"), 1.0 / 61.0);
        assert_eq!(one::<f64>("SELECT rrf_score(2, k => 10, weight => 3)"), 3.0 / 12.0);
        assert!(one::<bool>("SELECT rrf_score(NULL) IS NULL"));
        assert_error("SELECT rrf_score(0)", "22023");
        assert_error("SELECT rrf_score(1, -1)", "22023");
    }

    #[pg_test]
    fn two_lists_of_any_type_are_fused() {
        let fused = one::<String>(
            "SELECT string_agg(item, '' ORDER BY place) FROM rrf_fuse(ARRAY['a','b','c'], ARRAY['c','d']) WITH ORDINALITY AS f(item, score, a, b, place)",
        );
        assert_eq!(fused, "cabd");
        assert_eq!(one::<i32>("SELECT item FROM rrf_fuse(ARRAY[1,2], ARRAY[2,3]) LIMIT 1"), 2);
        let weighted = one::<i32>("SELECT item FROM rrf_fuse(ARRAY[1], ARRAY[2], weight_b => 2) LIMIT 1");
        assert_eq!(weighted, 2);
        let repeated = one::<f64>("SELECT score FROM rrf_fuse(ARRAY[7,7], ARRAY[]::integer[])");
        assert_eq!(repeated, 1.0 / 61.0);
        assert_error("SELECT * FROM rrf_fuse(ARRAY[1], ARRAY[2], k => -5)", "22023");
    }
}
