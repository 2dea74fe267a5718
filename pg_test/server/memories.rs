//! Domain memories: their table, the triggers that keep its rows true, and the functions.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, error_of, one, run};
    use pgrx::prelude::*;
    use vector_tools_core::memories::create::{MemoriesTable, NEW_ID, NEW_ID_BEFORE_18, Surroundings};
    use vector_tools_core::sql::identifier::{Identifier, QualifiedName};

    /// Three memories of two kinds.
    fn create_startup() {
        run("SELECT create_domain_memories_table('startup')");
        run("SELECT store_memory('Series A funding round completed', 'startup', 'meeting_notes', 0.9, id => 'a'),
                    store_memory('The office lease ends in March', 'startup', 'mail', 0.4, id => 'b'),
                    store_memory('Hired a second backend engineer', 'startup', 'meeting_notes', id => 'c')");
    }

    fn ids(call: &str) -> String {
        one(&format!("SELECT coalesce(string_agg(id, ' '), '') FROM search_memories({call})"))
    }

    #[pg_test]
    fn the_columns_of_the_domain_memories_system_are_there() {
        run("SELECT create_domain_memories_table('startup')");
        let columns = one::<String>(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = 'startup_memories'::regclass AND attnum > 0",
        );
        assert_eq!(
            columns,
            "id character varying(50), content text, embedding vector(384), metadata jsonb, \
             created_at timestamp with time zone, updated_at timestamp with time zone, lexemes tsvector"
        );
        for index in ["embedding", "metadata", "updated", "content", "lexemes"] {
            assert!(
                one::<bool>(&format!("SELECT to_regclass('startup_memories_{index}_idx') IS NOT NULL")),
                "{index}"
            );
        }
    }

    #[pg_test]
    fn rows_embed_themselves() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (content) VALUES ('Series A closed')");
        assert!(one::<bool>("SELECT embedding = embed(content) FROM startup_memories"));
        run("UPDATE startup_memories SET content = 'Series B closed'");
        assert!(one::<bool>("SELECT embedding = embed('Series B closed') FROM startup_memories"));
    }

    #[pg_test]
    fn a_client_s_own_embedding_is_kept() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (id, content, embedding, metadata)
             VALUES ('m1', 'anything', embed('something else'), '{}')");
        assert!(one::<bool>("SELECT embedding = embed('something else') FROM startup_memories"));
        run(
            "UPDATE startup_memories SET content = 'new', embedding = embed('mine'), updated_at = now() WHERE id = 'm1'",
        );
        assert!(one::<bool>("SELECT embedding = embed('mine') FROM startup_memories"));
        // Another column leaves the embedding alone.
        run("UPDATE startup_memories SET metadata = '{\"source\": \"chat\"}'");
        assert!(one::<bool>("SELECT embedding = embed('mine') FROM startup_memories"));
        // An embedding taken away comes back.
        run("UPDATE startup_memories SET embedding = NULL");
        assert!(one::<bool>("SELECT embedding = embed('new') FROM startup_memories"));
    }

    #[pg_test]
    fn updated_at_follows_changes() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (content, updated_at) VALUES ('x', '2001-01-01')");
        run("UPDATE startup_memories SET content = 'y'");
        assert!(one::<bool>("SELECT updated_at = now() FROM startup_memories"));
        run("UPDATE startup_memories SET updated_at = '2002-02-02'");
        assert!(one::<bool>("SELECT updated_at = '2002-02-02' FROM startup_memories"));
    }

    #[pg_test]
    fn a_second_call_leaves_the_table_alone() {
        run("SELECT create_domain_memories_table('startup')");
        run("INSERT INTO startup_memories (content) VALUES ('kept')");
        run("SELECT create_domain_memories_table('startup')");
        assert_eq!(one::<i64>("SELECT count(*) FROM startup_memories"), 1);
        assert_error("SELECT create_domain_memories_table('startup', 'all-MiniLM-L6-v2-int8')", "42P07");
        run("CREATE TABLE other_memories (id integer)");
        assert_error("SELECT create_domain_memories_table('other')", "42P07");
    }

    #[pg_test]
    fn domains_that_are_no_names_are_refused() {
        assert_error("SELECT create_domain_memories_table('')", "42602");
        assert_error("SELECT create_domain_memories_table(repeat('x', 41))", "42602");
        assert_error("SELECT create_domain_memories_table('x', 'nope')", "42704");
        assert!(one::<bool>("SELECT create_domain_memories_table(NULL) IS NULL"));
    }

    // trust 3
    #[pg_test]
    fn hostile_domains_are_only_names() {
        run("CREATE TABLE canary (id integer)");
        for domain in
            ["x\"; DROP TABLE canary; --", "Mixed Case", "select", "ünïcode", "{table}", "it''s", "%I", "$$"]
        {
            run(&format!("SELECT create_domain_memories_table('{domain}')"));
        }
        assert_eq!(
            one::<i64>("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_memories' AND relkind = 'r'"),
            8
        );
        run("INSERT INTO canary VALUES (1)");
    }

    #[pg_test]
    fn the_catalogue_lists_the_table() {
        run("SELECT create_domain_memories_table('startup', 'all-MiniLM-L6-v2-int8', 'simple')");
        let row = one::<String>(
            "SELECT concat_ws(' ', source, content_column, embedding_column, model) FROM vector_tools.embedded_tables",
        );
        assert_eq!(row, "startup_memories content embedding all-MiniLM-L6-v2-int8");
    }

    #[pg_test]
    fn the_triggers_serve_any_table() {
        run("CREATE TABLE articles (n integer PRIMARY KEY, \"Body\" varchar(200), v vector(384))");
        run("CREATE TRIGGER embed_body BEFORE INSERT OR UPDATE ON articles
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('Body', 'v', 'all-MiniLM-L6-v2')");
        run("INSERT INTO articles VALUES (1, 'a text'), (2, NULL)");
        assert!(one::<bool>("SELECT v = embed('a text') FROM articles WHERE n = 1"));
        assert!(one::<bool>("SELECT v IS NULL FROM articles WHERE n = 2"));
        run("CREATE TABLE wrong (n integer)");
        run("CREATE TRIGGER embed_body BEFORE INSERT ON wrong
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('n', 'v', 'all-MiniLM-L6-v2')");
        assert_error("INSERT INTO wrong VALUES (1)", "42804");
        run("CREATE TRIGGER embed_late AFTER INSERT ON articles
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('Body', 'v', 'all-MiniLM-L6-v2')");
        assert_error("INSERT INTO articles VALUES (3, 'x')", "39P01");
    }

    #[pg_test]
    fn the_distance_index_is_built_for_recall() {
        run("SELECT create_domain_memories_table('startup')");
        let definition = one::<String>("SELECT pg_get_indexdef('startup_memories_embedding_idx'::regclass)");
        assert!(
            definition
                .ends_with("USING hnsw (embedding vector_cosine_ops) WITH (m='16', ef_construction='200')"),
            "{definition}"
        );
    }

    #[pg_test]
    fn models_of_any_dimensions_have_a_distance_index() {
        for dimensions in [8, 768, 2000, 3072, 4096, 16_000] {
            let name = |text: &str| Identifier::new(text).expect("a name");
            let around = Surroundings {
                model: "m",
                dimensions,
                pgvector_schema: name("public"),
                extension_schema: name("public"),
                text_configuration: QualifiedName { schema: name("pg_catalog"), name: name("english") },
                new_id: NEW_ID,
            };
            let table = MemoriesTable::new(name("public"), &format!("d{dimensions}")).expect("a name");
            run(&table.creation_sql(&around).expect("names"));
            let vector =
                format!("(SELECT array_agg(sin(i))::vector FROM generate_series(1, {dimensions}) AS i)");
            run(&format!("INSERT INTO d{dimensions}_memories (content, embedding) VALUES ('x', {vector})"));
            let found = one::<String>(&format!(
                "SELECT content FROM hybrid_search('d{dimensions}_memories', 'y', query_embedding => {vector})"
            ));
            assert_eq!(found, "x", "{dimensions} dimensions");
        }
    }

    #[pg_test]
    fn ids_grow_with_time() {
        create_startup();
        run("SELECT store_memory('memory ' || i, 'startup') FROM generate_series(1, 20) AS i");
        let in_order = one::<bool>(
            "SELECT bool_and(id > before) FROM (SELECT id, lag(id) OVER (ORDER BY substr(content, 8)::int) AS before
             FROM startup_memories WHERE content LIKE 'memory %') AS m",
        );
        assert!(in_order);
        for new_id in [NEW_ID, NEW_ID_BEFORE_18] {
            let facts = one::<String>(&format!(
                "SELECT concat_ws(' ', uuid_extract_version(({new_id})::uuid),
                     abs(extract(epoch FROM clock_timestamp() - uuid_extract_timestamp(({new_id})::uuid))) < 10,
                     (SELECT count(DISTINCT {new_id}) FROM generate_series(1, 100)))"
            ));
            assert_eq!(facts, "7 t 100", "{new_id}");
        }
    }

    #[pg_test]
    fn a_memory_is_stored_as_the_domain_memories_system_calls_it() {
        run("SELECT create_domain_memories_table('startup')");
        let id = one::<String>(
            "SELECT store_memory('Series A funding round completed', 'startup', 'meeting_notes', 0.9)",
        );
        assert_eq!(id, one::<String>("SELECT id FROM startup_memories"));
        assert!(one::<bool>("SELECT embedding = embed(content) FROM startup_memories"));
        let metadata =
            one::<String>("SELECT (metadata - 'created_at' - 'updated_at')::text FROM startup_memories");
        assert_eq!(metadata, r#"{"source": "meeting_notes", "importance": 0.9, "chunk_index": 0}"#);
        assert!(one::<bool>(
            "SELECT (metadata->>'created_at')::float8 = date_part('epoch', created_at)
                AND (metadata->>'updated_at')::float8 = date_part('epoch', updated_at)
                AND jsonb_typeof(metadata->'created_at') = 'number' FROM startup_memories"
        ));
    }

    #[pg_test]
    fn what_the_metadata_says_is_kept() {
        run("SELECT create_domain_memories_table('startup')");
        run(
            "SELECT store_memory('x', 'startup', 'chat', metadata =>
                 '{\"chunk_index\": 3, \"created_at\": 1703123456.789, \"source\": \"mail\", \"n\": 1.00000000000000000001}')",
        );
        let metadata = one::<String>("SELECT (metadata - 'updated_at')::text FROM startup_memories");
        assert_eq!(
            metadata,
            r#"{"n": 1.00000000000000000001, "source": "chat", "created_at": 1703123456.789, "chunk_index": 3}"#
        );
    }

    #[pg_test]
    fn the_default_domain_is_a_setting() {
        run("SELECT create_domain_memories_table('default'), create_domain_memories_table('health')");
        run("SELECT store_memory('one')");
        run("SET LOCAL vector_tools.default_domain = 'health'");
        run("SELECT store_memory('two')");
        assert_eq!(one::<String>("SELECT content FROM default_memories"), "one");
        assert_eq!(one::<String>("SELECT content FROM health_memories"), "two");
        assert_eq!(one::<String>("SELECT content FROM search_memories('two')"), "two");
        run("SET LOCAL vector_tools.default_domain = ''");
        assert_error("SELECT store_memory('three')", "42602");
    }

    #[pg_test]
    fn only_what_is_given_changes() {
        create_startup();
        run("UPDATE startup_memories SET created_at = '2001-01-01', updated_at = '2001-01-01',
                 metadata = metadata || '{\"created_at\": 1, \"updated_at\": 1, \"kept\": true}'");
        assert!(one::<bool>("SELECT update_memory('a', importance => 0.2, domain => 'startup')"));
        assert!(one::<bool>(
            "SELECT content = 'Series A funding round completed' AND embedding = embed(content)
                AND metadata = jsonb_build_object('source', 'meeting_notes', 'importance', 0.2, 'chunk_index', 0, 'kept', true,
                    'created_at', 1, 'updated_at', date_part('epoch', now()))
                AND created_at = '2001-01-01' AND updated_at = now()
             FROM startup_memories WHERE id = 'a'"
        ));
        assert!(one::<bool>(
            "SELECT update_memory('b', 'The office lease was extended', 'startup', 'call', metadata => '{\"importance\": 1}')"
        ));
        assert!(one::<bool>(
            "SELECT embedding = embed('The office lease was extended') AND metadata->>'source' = 'call'
                AND metadata->'importance' = '1' FROM startup_memories WHERE id = 'b'"
        ));
        assert_eq!(one::<i64>("SELECT count(*) FROM startup_memories WHERE updated_at = '2001-01-01'"), 1);
        assert!(!one::<bool>("SELECT update_memory('nope', 'x', 'startup')"));
        assert!(one::<bool>("SELECT update_memory(NULL, 'x', 'startup') IS NULL"));
    }

    #[pg_test]
    fn memories_are_deleted_by_id() {
        create_startup();
        assert!(one::<bool>("SELECT delete_memory('a', 'startup')"));
        assert!(!one::<bool>("SELECT delete_memory('a', 'startup')"));
        assert!(one::<bool>("SELECT delete_memory(NULL, 'startup') IS NULL"));
        assert_eq!(one::<String>("SELECT string_agg(id, ' ' ORDER BY id) FROM startup_memories"), "b c");
    }

    #[pg_test]
    fn a_search_is_a_hybrid_search_of_the_domain() {
        create_startup();
        let same = one::<bool>(
            "SELECT array_agg(ROW(s.id, s.content, s.metadata, s.similarity_score, s.score, s.created_at, s.updated_at)::text) =
                 (SELECT array_agg(ROW(h.id, h.content, h.doc->'metadata', h.similarity, h.score,
                      (h.doc->>'created_at')::timestamptz, (h.doc->>'updated_at')::timestamptz)::text)
                  FROM hybrid_search('startup_memories', 'did investors give us money?', 5, fusion => 'adaptive') AS h)
             FROM search_memories('did investors give us money?', 'startup') AS s",
        );
        assert!(same);
        assert_eq!(ids("'did investors give us money?', 'startup', 1"), "a");
        assert_eq!(ids("NULL, 'startup'"), "");
        assert_eq!(ids("'money', 'startup', NULL").len(), 5);
    }

    #[pg_test]
    fn searches_are_filtered() {
        create_startup();
        assert_eq!(ids("'money', 'startup', filter => '{\"source\": \"mail\"}'"), "b");
        assert_eq!(ids("'money', 'startup', min_importance => 0.4"), "a b");
        assert_eq!(ids("'money', 'startup', min_importance => 0.41"), "a");
        assert_eq!(ids("'money', 'startup', filter => '{\"source\": \"mail\"}', min_importance => 0.5"), "");
        assert_error("SELECT * FROM search_memories('x', 'startup', min_importance => 1.5)", "22023");
        assert_error("SELECT * FROM search_memories('x', 'startup', min_importance => 'NaN')", "22023");
        assert_error("SELECT * FROM search_memories('x', 'startup', 0)", "22023");
        assert_error("SELECT * FROM search_memories('x', 'startup', filter => '[]')", "22023");
    }

    #[pg_test]
    fn words_answer_when_asked_to_or_when_no_vector_can_be_had() {
        create_startup();
        let words = "SELECT id || ' ' || similarity_score FROM search_memories('office lease', 'startup', use_vector => false)";
        assert_eq!(one::<String>(words), "b 0");
        assert_eq!(ids("'investors', 'startup', use_vector => false"), "");
        // A model that cannot be loaded: the registry no longer has it.
        run("SET LOCAL client_min_messages = error");
        run("DELETE FROM vector_tools.model_registry");
        assert_eq!(
            one::<String>(
                "SELECT id || ' ' || similarity_score FROM search_memories('office lease', 'startup')"
            ),
            "b 0"
        );
    }

    // trust 23
    #[pg_test]
    fn unknown_domains_list_the_nearest() {
        create_startup();
        run("SELECT create_domain_memories_table('health')");
        for call in [
            "store_memory('x', 'startp')",
            "update_memory('a', 'x', 'startp')",
            "delete_memory('a', 'startp')",
            "search_memories('x', 'startp')",
        ] {
            let (state, message, detail, hint) = error_of(&format!("SELECT {call}"));
            assert_eq!((state.as_str(), message.as_str()), ("42704", "domain \"startp\" does not exist"));
            assert_eq!(detail, "The nearest domains are \"startup\", \"health\".");
            assert_eq!(hint, "Create it with SELECT create_domain_memories_table('startp').");
        }
        run("CREATE SCHEMA elsewhere; SET LOCAL search_path = elsewhere, public");
        run("ALTER TABLE public.health_memories SET SCHEMA elsewhere");
        run("SELECT store_memory('slept well', 'health')");
        run("SET LOCAL search_path = public");
        let (_, _, detail, _) = error_of("SELECT store_memory('x', 'heal')");
        assert_eq!(detail, "The nearest domain is \"startup\".");
    }

    // trust 23
    #[pg_test]
    fn bad_input_of_a_memory_is_refused() {
        create_startup();
        assert_error("SELECT store_memory(NULL, 'startup')", "22004");
        assert_error("SELECT store_memory('x', '')", "42602");
        assert_error("SELECT store_memory('x', repeat('x', 41))", "42602");
        for importance in ["-0.1", "1.1", "'NaN'", "'infinity'"] {
            assert_error(
                &format!("SELECT store_memory('x', 'startup', importance => {importance})"),
                "22023",
            );
            assert_error(
                &format!("SELECT update_memory('a', domain => 'startup', importance => {importance})"),
                "22023",
            );
        }
        for metadata in ["[]", "1", "{\"importance\": 7}", "{\"importance\": \"high\"}"] {
            assert_error(&format!("SELECT store_memory('x', 'startup', metadata => '{metadata}')"), "22023");
            assert_error(
                &format!("SELECT update_memory('a', domain => 'startup', metadata => '{metadata}')"),
                "22023",
            );
        }
        assert_error("SELECT store_memory('x', 'startup', id => 'a')", "23505");
        assert_eq!(error_of("SELECT store_memory('x', 'startup', id => repeat('x', 51))").0, "22001");
        assert_eq!(one::<i64>("SELECT count(*) FROM startup_memories"), 3);
        run("SELECT store_memory('', 'startup'), store_memory('   ', 'startup')");
        assert_eq!(one::<i64>("SELECT count(embedding) FROM startup_memories"), 5);
    }

    // trust 23
    #[pg_test]
    fn very_long_memories_are_stored_while_their_words_fit() {
        create_startup();
        run("SELECT store_memory(repeat('a pump ', 1500000), 'startup', id => 'long')");
        assert_eq!(one::<i32>("SELECT length(content) FROM startup_memories WHERE id = 'long'"), 10_500_000);
        assert_eq!(ids("'pump', 'startup', 1"), "long");
        let words = "(SELECT string_agg('word' || i, ' ') FROM generate_series(1, 200000) AS i)";
        assert_eq!(error_of(&format!("SELECT store_memory({words}, 'startup')")).0, "54000");
    }

    #[pg_test]
    fn other_unique_keys_keep_their_own_error() {
        create_startup();
        run("CREATE UNIQUE INDEX ON startup_memories (content)");
        let (state, message, _, hint) =
            error_of("SELECT store_memory('The office lease ends in March', 'startup')");
        assert_eq!(state, "23505");
        assert!(message.contains("startup_memories_content_idx1"), "{message}");
        assert!(hint.is_empty(), "{hint}");
    }

    // trust 23
    #[pg_test]
    fn tables_that_hold_no_memories_are_refused() {
        run("CREATE TABLE old_memories (id integer, content text)");
        run("CREATE VIEW seen_memories AS SELECT 1 AS id");
        for call in [
            "store_memory('x', 'old')",
            "search_memories('x', 'old')",
            "delete_memory('1', 'old')",
            "drop_domain('old')",
        ] {
            assert_error(&format!("SELECT {call}"), "42809");
        }
        assert_error("SELECT store_memory('x', 'seen')", "42809");
        run("SELECT * FROM old_memories");
    }

    #[pg_test]
    fn a_domain_follows_the_name_of_its_table() {
        create_startup();
        run("ALTER TABLE startup_memories RENAME TO venture_memories");
        assert_error("SELECT store_memory('x', 'startup')", "42704");
        assert_eq!(ids("'money', 'venture', 1"), "a");
        assert_eq!(one::<String>("SELECT string_agg(domain, ' ') FROM vector_tools.domains"), "venture");
        // Its indexes have kept their names.
        let (state, message, ..) = error_of("SELECT create_domain_memories_table('startup')");
        assert_eq!(state, "42P07");
        assert!(message.contains("startup_memories_embedding_idx"), "{message}");
    }

    // trust 21
    #[pg_test]
    fn a_table_without_its_triggers_is_mended() {
        create_startup();
        run("UPDATE startup_memories SET updated_at = '2001-01-01'");
        run(
            "DROP TRIGGER embed_content ON startup_memories; DROP TRIGGER touch_updated_at ON startup_memories",
        );
        run(
            "INSERT INTO startup_memories (id, content, updated_at) VALUES ('d', 'written meanwhile', '2001-01-01')",
        );
        assert_error("SELECT store_memory('x', 'startup')", "55000");
        assert_error("SELECT update_memory('a', 'x', 'startup')", "55000");
        run("SELECT update_memory('c', importance => 1, domain => 'startup')");
        assert_eq!(ids("'office lease', 'startup', 1"), "b");
        // Rows of another model would not be comparable.
        assert_error("SELECT create_domain_memories_table('startup', 'all-MiniLM-L6-v2-int8')", "42P07");
        run("SELECT create_domain_memories_table('startup')");
        assert_eq!(one::<i64>("SELECT count(*) FROM startup_memories WHERE updated_at = '2001-01-01'"), 3);
        assert!(one::<bool>("SELECT embedding = embed(content) FROM startup_memories WHERE id = 'd'"));
        run(
            "SELECT store_memory('stored again', 'startup', id => 'e'); SELECT update_memory('d', 'changed', 'startup')",
        );
        assert!(one::<bool>("SELECT bool_and(embedding = embed(content)) FROM startup_memories"));
        assert_eq!(
            one::<i64>("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'startup_memories'::regclass"),
            2
        );
        run("SELECT create_domain_memories_table('startup')");
    }

    #[pg_test]
    fn domains_are_listed_with_true_counts() {
        create_startup();
        run("SELECT create_domain_memories_table('health', 'all-MiniLM-L6-v2-int8')");
        run("CREATE TABLE articles (content text, embedding vector(384))");
        run("CREATE TRIGGER embed BEFORE INSERT ON articles
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('content', 'embedding', 'all-MiniLM-L6-v2')");
        run("CREATE TEMP TABLE brief_memories (LIKE startup_memories)");
        run("UPDATE startup_memories SET updated_at = '2030-01-01' WHERE id = 'b'");
        run("ALTER TABLE startup_memories DISABLE TRIGGER embed_content");
        run("UPDATE startup_memories SET embedding = NULL WHERE id = 'c'");
        let listed = one::<String>(
            "SELECT string_agg(concat_ws(' ', domain, source, model, memories, embedded, size_bytes > 8192,
                 coalesce((last_update AT TIME ZONE 'UTC')::date::text, 'never')), '; ' ORDER BY domain) FROM vector_tools.domains",
        );
        assert_eq!(
            listed,
            "health health_memories all-MiniLM-L6-v2-int8 0 0 t never; \
             startup startup_memories all-MiniLM-L6-v2 3 2 t 2030-01-01"
        );
    }

    #[pg_test]
    fn a_domain_is_dropped_with_its_table() {
        create_startup();
        assert!(one::<bool>("SELECT drop_domain('startup')"));
        assert!(one::<bool>("SELECT to_regclass('startup_memories') IS NULL"));
        assert!(!one::<bool>("SELECT drop_domain('startup')"));
        assert!(one::<bool>("SELECT drop_domain(NULL) IS NULL"));
        assert_error("SELECT drop_domain('')", "42602");
        create_startup();
        run("CREATE VIEW seen AS SELECT * FROM startup_memories");
        assert_eq!(error_of("SELECT drop_domain('startup')").0, "2BP01");
    }

    #[pg_test]
    fn a_model_of_other_dimensions_serves_a_domain() {
        let source = format!("{}/models/fixtures/hf-last-hidden-state", env!("CARGO_MANIFEST_DIR"));
        run(&format!("SELECT register_model('tiny', '{source}')"));
        run("SELECT create_domain_memories_table('small', 'tiny')");
        let id = one::<String>("SELECT store_memory('a pump', 'small')");
        assert_eq!(one::<i32>("SELECT vector_dims(embedding) FROM small_memories"), 8);
        assert_eq!(ids("'pump', 'small'"), id);
        assert!(one::<bool>("SELECT similarity_score > 0 FROM search_memories('a pump', 'small')"));
    }

    /// The statements of the domain-memories system, as its clients send them once their
    /// parameters are filled in.
    #[pg_test]
    fn the_statements_of_the_domain_memories_system_work_as_they_are() {
        run("SELECT create_domain_memories_table('default')");
        run("CREATE TEMP TABLE vectors AS SELECT embed('quarterly revenue')::text AS other");
        let vector = one::<String>("SELECT other FROM vectors");
        run(&format!(
            "INSERT INTO default_memories (id, content, embedding, metadata)
             VALUES ('m1', 'Revenue grew by ten percent', '{vector}'::vector, '{{\"source\": \"conversation\"}}'::jsonb)"
        ));
        run("INSERT INTO default_memories (id, content, embedding, metadata)
             VALUES ('m2', 'The new logo is blue', NULL::vector, '{\"importance\": 0.8}'::jsonb)");
        assert!(one::<bool>(
            "SELECT embedding = other::vector FROM default_memories, vectors WHERE id = 'm1'"
        ));
        assert!(one::<bool>("SELECT embedding = embed(content) FROM default_memories WHERE id = 'm2'"));
        let nearest = one::<String>(&format!(
            "SELECT id || ' ' || round(similarity_score::numeric, 3) FROM (
             SELECT id, content, metadata,
                    1 - (embedding <=> '{vector}'::vector) AS similarity_score
             FROM default_memories
             WHERE embedding IS NOT NULL
             ORDER BY embedding <=> '{vector}'::vector
             LIMIT 1) AS s"
        ));
        assert_eq!(nearest, "m1 1.000");
        let words = "SELECT id, content, metadata, 0.0 as similarity_score
             FROM default_memories
             WHERE to_tsvector('english', content) @@ plainto_tsquery('english', 'logos')
             ORDER BY updated_at DESC
             LIMIT 5";
        assert_eq!(one::<String>(&format!("SELECT id FROM ({words}) AS s")), "m2");
        run(&format!(
            "UPDATE default_memories
             SET content = 'The new logo is green', embedding = '{vector}'::vector, metadata = '{{}}'::jsonb, updated_at = NOW()
             WHERE id = 'm2'"
        ));
        assert!(one::<bool>(
            "SELECT content = 'The new logo is green' AND embedding = other::vector FROM default_memories, vectors WHERE id = 'm2'"
        ));
        run("SET LOCAL enable_seqscan = off");
        run("CREATE FUNCTION pg_temp.plan_of(query text) RETURNS text LANGUAGE plpgsql AS $body$
             DECLARE line text; plan text := '';
             BEGIN FOR line IN EXECUTE 'EXPLAIN ' || query LOOP plan := plan || line; END LOOP; RETURN plan; END $body$");
        let plan = one::<String>(&format!("SELECT pg_temp.plan_of($query${words}$query$)"));
        assert!(plan.contains("default_memories_content_idx"), "{plan}");
    }
}
