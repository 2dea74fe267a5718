//! embed, embed_query and count_tokens.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, one, run};
    use pgrx::prelude::*;

    #[pg_test]
    fn embed_gives_unit_vectors_of_the_model_s_dimensions() {
        assert_eq!(one::<i32>("SELECT vector_dims(embed('hello'))"), 384);
        let norm = one::<f64>("SELECT vector_norm(embed('hello'))");
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    }

    #[pg_test]
    fn the_vector_is_what_its_text_form_says() {
        // A wrong header would show in pgvector's own output and input functions.
        assert!(one::<bool>("SELECT v::text::vector = v FROM embed('round trip') AS v"));
        assert!(one::<bool>("SELECT (v::real[])::vector = v FROM embed('round trip') AS v"));
    }

    #[pg_test]
    fn null_gives_null() {
        for call in [
            "embed(NULL::text)",
            "embed('x', NULL)",
            "embed(NULL::text[])",
            "embed_query(NULL)",
            "count_tokens(NULL)",
        ] {
            assert!(one::<bool>(&format!("SELECT {call} IS NULL")), "{call}");
        }
    }

    // trust 23
    #[pg_test]
    fn empty_and_blank_text_have_the_vector_of_the_empty_sequence() {
        assert!(one::<bool>("SELECT embed('') = embed(E' \\t\\n ')"));
        assert_eq!(one::<i32>("SELECT count_tokens('  ')"), 2);
        assert!(one::<f64>("SELECT vector_norm(embed(''))") > 0.99);
    }

    #[pg_test]
    fn arrays_keep_order_and_nulls() {
        run("CREATE TEMP TABLE e AS SELECT embed(ARRAY['a cat', NULL, 'a longer text about dogs', '']) AS v");
        assert_eq!(one::<i32>("SELECT array_length(v, 1) FROM e"), 4);
        assert!(one::<bool>("SELECT v[2] IS NULL FROM e"));
        for (place, text) in [(1, "a cat"), (3, "a longer text about dogs"), (4, "")] {
            let apart = one::<f64>(&format!("SELECT v[{place}] <-> embed('{text}') FROM e"));
            assert!(apart < 1e-5, "{text} is {apart} apart alone and in a batch");
        }
        assert_eq!(one::<i32>("SELECT cardinality(embed('{}'::text[]))"), 0);
        assert!(one::<bool>("SELECT (embed(ARRAY[NULL::text]))[1] IS NULL"));
    }

    #[pg_test]
    fn many_texts_in_small_batches_keep_their_order() {
        run("SET LOCAL vector_tools.backend_batch_tokens = 64");
        let wrong = one::<i64>(
            "WITH texts AS (SELECT array_agg(repeat('word ', 1 + i % 7) || i ORDER BY i) AS t FROM generate_series(1, 60) AS i),
                  vectors AS (SELECT t, embed(t) AS v FROM texts)
             SELECT count(*) FROM vectors, generate_subscripts(t, 1) AS i
             WHERE i % 10 = 0 AND (v[i] <-> embed(t[i])) > 1e-5",
        );
        assert_eq!(wrong, 0);
    }

    #[pg_test]
    fn arrays_of_several_dimensions_are_refused() {
        assert_error("SELECT embed(ARRAY[ARRAY['a'], ARRAY['b']])", "2202E");
    }

    #[pg_test]
    fn the_default_model_is_a_setting() {
        run("SET LOCAL vector_tools.default_model = 'all-MiniLM-L6-v2-int8'");
        assert!(one::<bool>("SELECT embed('x') = embed('x', 'all-MiniLM-L6-v2-int8')"));
        assert!(one::<bool>("SELECT embed('x') <> embed('x', 'all-MiniLM-L6-v2')"));
        run("SET LOCAL vector_tools.default_model = 'nope'");
        assert_error("SELECT embed('x')", "42704");
    }

    #[pg_test]
    fn threads_change_nothing_but_speed() {
        run("CREATE TEMP TABLE one_thread AS SELECT embed('the same whatever the threads') AS v");
        run("SET LOCAL vector_tools.backend_threads = 3");
        let apart = one::<f64>("SELECT v <-> embed('the same whatever the threads') FROM one_thread");
        assert!(apart < 1e-5, "{apart}");
    }

    #[pg_test]
    fn a_generated_column_embeds_by_itself() {
        run("CREATE TABLE notes (
                 id integer PRIMARY KEY,
                 body text,
                 embedding vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED
             )");
        run("INSERT INTO notes VALUES (1, 'a cat sleeps'), (2, 'stock markets fell'), (3, NULL)");
        run("UPDATE notes SET body = 'shares lost value' WHERE id = 2");
        assert!(one::<bool>("SELECT embedding = embed(body) FROM notes WHERE id = 2"));
        assert!(one::<bool>("SELECT embedding IS NULL FROM notes WHERE id = 3"));
        let nearest = "SELECT id FROM notes ORDER BY embedding <=> embed_query('kitten') LIMIT 1";
        assert_eq!(one::<i32>(nearest), 1);
    }

    #[pg_test]
    fn an_hnsw_expression_index_serves_a_search() {
        run("CREATE TABLE notes (id integer PRIMARY KEY, body text)");
        run("INSERT INTO notes SELECT i, 'note number ' || i FROM generate_series(1, 50) AS i");
        run("INSERT INTO notes VALUES (99, 'the cat sleeps on the warm roof')");
        run("CREATE INDEX notes_embedding ON notes
             USING hnsw ((embed(body, 'all-MiniLM-L6-v2')::vector(384)) vector_cosine_ops)");
        run("SET LOCAL enable_seqscan = off");
        let search = "SELECT id FROM notes
            ORDER BY embed(body, 'all-MiniLM-L6-v2')::vector(384) <=> embed_query('a kitten naps', 'all-MiniLM-L6-v2') LIMIT 1";
        let plan: String = Spi::connect(|client| {
            let rows = client.select(&format!("EXPLAIN {search}"), None, &[]).expect("a plan");
            rows.map(|row| row.get::<String>(1).ok().flatten().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("\n")
        });
        assert!(plan.contains("Index Scan using notes_embedding"), "{plan}");
        assert_eq!(one::<i32>(search), 99);
    }

    // trust 23
    #[pg_test]
    fn ten_megabytes_are_truncated_at_the_model_s_limit() {
        let start = "SELECT string_agg('word' || i, ' ') FROM generate_series(1, 300) AS i";
        let apart = one::<f64>(&format!(
            "SELECT embed(s || repeat(' more text', 1000000)) <-> embed(s) FROM ({start}) AS t(s)"
        ));
        assert!(apart < 1e-5, "{apart}");
        assert!(one::<bool>("SELECT vector_norm(embed(repeat('x', 10000000))) > 0.99"));
        assert!(one::<bool>("SELECT embed(repeat('東京都', 1000000)) = embed(repeat('東京都', 1000))"));
    }

    #[pg_test]
    fn tokens_are_counted_without_truncation() {
        assert_eq!(one::<i32>("SELECT count_tokens('Hello, world!')"), 6);
        assert_eq!(one::<i32>("SELECT count_tokens(repeat('word ', 600))"), 602);
        assert_eq!(one::<i32>("SELECT count_tokens(repeat('word ', 300000))"), 300_002);
    }

    // trust 23
    #[pg_test]
    fn unknown_models_are_named_with_a_neighbour() {
        let (state, message, detail, hint) =
            crate::server_tests::error_of("SELECT embed('x', 'all-minilm-l6-v2')");
        assert_eq!(state, "42704");
        assert_eq!(message, "model \"all-minilm-l6-v2\" is not registered");
        assert_eq!(detail, "The nearest registered name is \"all-MiniLM-L6-v2\".");
        assert!(hint.contains("vector_tools.models"), "{hint}");
    }
}
