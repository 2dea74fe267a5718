//! chunk_text, and documents that a store cuts.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, error_of, one, run};
    use pgrx::prelude::*;

    const STRATEGIES: [&str; 5] = ["semantic", "fixed", "sliding", "hierarchical", "markdown"];
    const ONE: &str = "'00000000-0000-0000-0000-000000000001'";

    /// Texts in several scripts, long enough for several chunks.
    const TEXTS: &str = "(VALUES
        ('english', repeat(E'A pump moves water. It needs power, and (sometimes) oil.\n\n', 60)),
        ('windows', repeat(E'A line.\r\nAnother line, which is longer.\r\n\r\n', 80)),
        ('old mac', repeat(E'A line.\rAnother line, which is longer.\r', 80)),
        ('arabic', repeat('المضخة تحرك الماء. ', 100)),
        ('chinese', repeat('水泵输送水。它需要电力，有时还需要油。', 60)),
        ('thai', repeat('ปั๊มน้ำเคลื่อนย้ายน้ำ', 200)),
        ('family', repeat(U&'\\+01F468\\200D\\+01F469\\200D\\+01F467\\200D\\+01F466', 900)),
        ('marks', repeat(U&'e\\0301\\0302', 3000)),
        ('one word', repeat('x', 30000)),
        ('control', repeat(U&'\\0001\\0008 \\007F\\0085', 5000)),
        ('markdown', repeat(E'# Pumps\n\n- a pump\n  - a *small* one\n\n```\n  code\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n', 40)))
        AS texts(name, body)";

    #[pg_test]
    fn offsets_are_characters_of_the_original() {
        for strategy in STRATEGIES {
            let wrong = one::<i64>(&format!(
                "SELECT count(*) FROM {TEXTS}, chunk_text(body, '{strategy}', 64) AS c
                 WHERE c.content IS DISTINCT FROM substring(body FROM start_offset + 1 FOR end_offset - start_offset)
                    OR btrim(c.content, E' \\t\\r\\n') = ''"
            ));
            assert_eq!(wrong, 0, "{strategy}");
            let texts = one::<i64>(&format!(
                "SELECT count(DISTINCT name) FROM {TEXTS}, chunk_text(body, '{strategy}', 64) AS c WHERE chunk_index > 1"
            ));
            assert_eq!(texts, 11, "{strategy}");
        }
    }

    #[pg_test]
    fn tokens_are_those_that_the_model_counts() {
        for strategy in STRATEGIES {
            let wrong = one::<i64>(&format!(
                "SELECT count(*) FROM {TEXTS}, chunk_text(body, '{strategy}', 64) AS c
                 WHERE token_count > 64 OR token_count <> count_tokens(c.content)"
            ));
            assert_eq!(wrong, 0, "{strategy}");
        }
        // The model reads 256 tokens, so that no more are in a chunk.
        let most =
            "SELECT max(token_count) FROM chunk_text(repeat('a pump moves water, ', 500), 'fixed', 100000)";
        assert!((250..=256).contains(&one::<i32>(most)));
    }

    #[pg_test]
    fn the_prefix_of_passages_counts() {
        run("SELECT register_model('prefixed', 'all-MiniLM-L6-v2-int8',
                 options => '{\"passage_prefix\": \"passage: \", \"max_tokens\": 32}')");
        let wrong = one::<i64>(&format!(
            "SELECT count(*) FROM {TEXTS}, chunk_text(body, model => 'prefixed') AS c
             WHERE token_count > 32 OR token_count <> count_tokens('passage: ' || c.content, 'prefixed')"
        ));
        assert_eq!(wrong, 0);
    }

    #[pg_test]
    fn nothing_but_white_space_is_left_out() {
        for strategy in STRATEGIES {
            let lost = one::<i64>(&format!(
                "SELECT count(*) FROM {TEXTS} WHERE btrim(regexp_replace(
                     (SELECT string_agg(letter, '' ORDER BY place) FROM regexp_split_to_table(body, '') WITH ORDINALITY AS l(letter, place)
                      WHERE NOT EXISTS (SELECT FROM covered WHERE covered.name = texts.name
                                        AND place > start_offset AND place <= end_offset)), '\\s', '', 'g'), U&'\\0085') <> ''"
            ).replace("SELECT count(*) FROM", &format!(
                "WITH covered AS MATERIALIZED (SELECT name, start_offset, end_offset FROM {TEXTS}, chunk_text(body, '{strategy}', 250) AS c)
                 SELECT count(*) FROM"
            )));
            assert_eq!(lost, 0, "{strategy}");
        }
    }

    #[pg_test]
    fn children_are_inside_of_their_parents() {
        run(&format!(
            "CREATE TEMP TABLE h AS SELECT name, c.* FROM {TEXTS}, chunk_text(body, 'hierarchical', 128) AS c"
        ));
        let outside = one::<i64>(
            "SELECT count(*) FROM h AS child LEFT JOIN h AS parent
                 ON parent.name = child.name AND parent.chunk_index = child.parent_index
             WHERE child.parent_index IS NOT NULL AND (parent.chunk_index IS NULL OR parent.parent_index IS NOT NULL
                 OR child.start_offset < parent.start_offset OR child.end_offset > parent.end_offset
                 OR child.token_count > 33)",
        );
        assert_eq!(outside, 0);
        let childless = one::<i64>(
            "SELECT count(*) FROM h AS parent WHERE parent_index IS NULL
                 AND NOT EXISTS (SELECT FROM h AS child WHERE child.name = parent.name AND child.parent_index = parent.chunk_index)",
        );
        assert_eq!(childless, 0);
        assert!(one::<bool>("SELECT count(*) > 100 FROM h WHERE parent_index IS NOT NULL"));
    }

    #[pg_test]
    fn neighbours_overlap_as_asked() {
        let text = "(SELECT string_agg('word' || i, ' ') FROM generate_series(100, 999) AS i)";
        for (arguments, least, most) in
            [("'fixed', 102, 0", 0, 0), ("'fixed', 102, 20", 15, 20), ("'sliding', 102, 50", 45, 50)]
        {
            // Each word has the same number of tokens.
            let overlap = |which: &str| {
                one::<i32>(&format!(
                    "SELECT coalesce({which}(count_tokens(substring(t FROM start_offset + 1 FOR before - start_offset)) - 2), 0)::integer
                     FROM (SELECT t, start_offset, lag(end_offset) OVER (ORDER BY chunk_index) AS before
                           FROM {text} AS s(t), chunk_text(t, {arguments})) AS c WHERE before > start_offset"
                ))
            };
            let found = (overlap("min"), overlap("max"));
            assert!(found.0 >= least && found.1 <= most, "{arguments}: {found:?}");
        }
    }

    #[pg_test]
    fn blank_text_has_no_chunks() {
        for text in ["''", "NULL", "E' \\n\\t '", "U&'\\3000\\2003'"] {
            for strategy in STRATEGIES {
                assert_eq!(one::<i64>(&format!("SELECT count(*) FROM chunk_text({text}, '{strategy}')")), 0);
            }
        }
        let short = "SELECT concat_ws('|', chunk_index, content, start_offset, end_offset, token_count) FROM chunk_text(' a pump ')";
        assert_eq!(one::<String>(short), "0|a pump|1|7|4");
        // NULL stands for a default.
        assert_eq!(one::<i64>("SELECT count(*) FROM chunk_text('a pump', NULL, NULL, NULL, NULL)"), 1);
    }

    // trust 23
    #[pg_test]
    fn wrong_sizes_of_chunks_say_which_are_right() {
        for (arguments, sqlstate) in [
            ("'x', 'paragraphs'", "22023"),
            ("'x', ''", "22023"),
            ("'x', max_tokens => 0", "22023"),
            ("'x', max_tokens => -5", "22023"),
            ("'x', max_tokens => 9", "22023"),
            ("'x', max_tokens => 3000000000", "22023"),
            ("'x', overlap => 3000000000", "22023"),
            ("'x', overlap => -1", "22023"),
            ("'x', overlap => 128", "22023"),
            ("'x', 'hierarchical', overlap => 32", "22023"),
            ("'x', model => 'nope'", "42704"),
            ("'x', model => ''", "42704"),
        ] {
            assert_error(&format!("SELECT chunk_text({arguments})"), sqlstate);
        }
        let (_, message, ..) = error_of("SELECT chunk_text('x', overlap => 128)");
        assert_eq!(message, "overlap must be from 0 to 127, half of what the chunks have room for, not 128");
    }

    #[pg_test]
    fn texts_are_cut_for_the_default_model() {
        run("SELECT register_model('short', 'all-MiniLM-L6-v2-int8', options => '{\"max_tokens\": 16}')");
        let chunks = || one::<i64>("SELECT count(*) FROM chunk_text(repeat('a pump. ', 20))");
        assert_eq!(chunks(), 1);
        run("SET LOCAL vector_tools.default_model = 'short'");
        assert!(chunks() > 3);
        // A model registered anew under its name is loaded anew.
        run("SELECT drop_model('short')");
        assert_error("SELECT chunk_text('x')", "42704");
        run("SELECT register_model('short', 'all-MiniLM-L6-v2-int8', options => '{\"max_tokens\": 40}')");
        assert_eq!(chunks(), 2);
    }

    #[pg_test]
    fn an_embedder_s_own_tokenizer_gives_the_same() {
        let chunks = || {
            one::<String>(&format!(
                "SELECT md5(string_agg(name || chunk_index || c.content || token_count, ',' ORDER BY name, chunk_index))
                 FROM {TEXTS}, chunk_text(body, 'sliding', 50, model => 'all-MiniLM-L6-v2-int8') AS c"
            ))
        };
        let alone = chunks();
        run("SELECT embed('x', 'all-MiniLM-L6-v2-int8')");
        assert_eq!(chunks(), alone);
        assert_eq!(chunks(), alone);
    }

    #[pg_test]
    fn a_store_cuts_a_document_and_writes_what_changed() {
        run("SELECT create_vector_store('reg', 'all-MiniLM-L6-v2-int8')");
        let upsert = |text: &str, more: &str| {
            one::<String>(&format!(
                "SELECT concat_ws(' ', inserted, updated, unchanged, deleted)
                 FROM upsert_document('reg', 'document', {ONE}, {text}{more})"
            ))
        };
        let paragraphs = |from: i32, to: i32| {
            format!(
                "(SELECT string_agg('Paragraph ' || i || repeat(' about pumps', 12) || '.', E'\\n\\n' ORDER BY i)
                  FROM generate_series({from}, {to}) AS i)"
            )
        };
        let semantic = ", strategy => 'semantic', max_tokens => 40";
        assert_eq!(upsert(&paragraphs(1, 20), semantic), "20 0 0 0");
        let rows = || {
            one::<String>(
                "SELECT string_agg(ctid::text || xmin, ' ' ORDER BY ctid) FROM reg.vector_embeddings",
            )
        };
        let before = rows();
        assert_eq!(upsert(&paragraphs(1, 20), semantic), "0 0 20 0");
        assert_eq!(rows(), before);
        assert!(one::<bool>(&format!(
            "SELECT count(*) = 20 AND bool_and(e.content = c.content AND e.content_hash = encode(sha256(c.content::bytea), 'hex'))
             FROM reg.vector_embeddings AS e JOIN chunk_text({}, 'semantic', 40, model => 'all-MiniLM-L6-v2-int8') AS c USING (chunk_index)",
            paragraphs(1, 20)
        )));
        // Embeddings that nobody computes again.
        run("UPDATE reg.vector_embeddings SET embedding = embed('marked', 'all-MiniLM-L6-v2-int8')");
        let marked = || {
            one::<i64>(
                "SELECT count(*) FROM reg.vector_embeddings WHERE embedding = embed('marked', 'all-MiniLM-L6-v2-int8')",
            )
        };
        let edited = format!("replace({}, 'Paragraph 7 about', 'Section 7 about')", paragraphs(1, 20));
        assert_eq!(upsert(&edited, semantic), "0 1 19 0");
        assert_eq!(marked(), 19);
        assert_eq!(upsert(&paragraphs(1, 22), semantic), "2 1 19 0");
        assert_eq!(marked(), 19);
        // Each chunk moves by one place, and keeps its embedding.
        assert_eq!(upsert(&paragraphs(2, 22), semantic), "0 21 0 1");
        assert_eq!(marked(), 18);
        assert_eq!(upsert("'short'", semantic), "0 1 0 20");
        assert_eq!(upsert("' '", semantic), "0 0 0 1");
        // Without a strategy the text is one chunk, as it is.
        assert_eq!(upsert("' a short text '", ""), "1 0 0 0");
        assert_eq!(one::<String>("SELECT content FROM reg.vector_embeddings"), " a short text ");
    }

    #[pg_test]
    fn a_store_refuses_what_it_cannot_keep() {
        run("SELECT create_vector_store('reg', 'all-MiniLM-L6-v2-int8')");
        let upsert =
            |more: &str| format!("SELECT upsert_document('reg', 'document', {ONE}, 'a text'::text, {more})");
        assert_error(&upsert("strategy => 'hierarchical'"), "22023");
        assert_error(&upsert("strategy => 'nope'"), "22023");
        assert_error(&upsert("strategy => 'semantic', max_tokens => 1"), "22023");
        let null =
            format!("SELECT upsert_document('reg', 'document', {ONE}, NULL::text, strategy => 'semantic')");
        assert_error(&null, "22004");
        // What is too long for one chunk is cut when asked.
        let long = "repeat(E'A long story. \\n', 150000)";
        assert_error(&format!("SELECT upsert_document('reg', 'document', {ONE}, {long})"), "54000");
        assert!(one::<bool>(&format!("SELECT count(*) > 2000 FROM chunk_text({long})")));
    }
}
