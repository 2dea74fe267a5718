//! Vector stores: what create_vector_store makes, and what its functions do with it.

#[pgrx::pg_schema]
mod tests {
    use crate::server_tests::{assert_error, error_of, one, run};
    use pgrx::prelude::*;

    const MODEL: &str = "all-MiniLM-L6-v2-int8";
    const ONE: &str = "'00000000-0000-0000-0000-000000000001'";
    const TWO: &str = "'00000000-0000-0000-0000-000000000002'";

    fn create_store() {
        run(&format!("SELECT create_vector_store('reg', '{MODEL}')"));
    }

    fn upsert(source: &str, chunks: &[&str], more: &str) -> String {
        let chunks: Vec<String> = chunks.iter().map(|chunk| format!("'{chunk}'")).collect();
        one(&format!(
            "SELECT concat_ws(' ', inserted, updated, unchanged, deleted) FROM \
             upsert_document('reg', 'document', {source}, ARRAY[{}]::text[]{more})",
            chunks.join(", ")
        ))
    }

    /// SQL for the arguments of upsert_embeddings with `count` made-up rows.
    fn made_up(count: usize) -> String {
        format!(
            "(SELECT array_agg('report'::text) FROM generate_series(1, {count})), \
             (SELECT array_agg(md5(i::text)::uuid) FROM generate_series(1, {count}) AS i), \
             (SELECT array_agg(0) FROM generate_series(1, {count})), \
             (SELECT array_agg('text ' || i) FROM generate_series(1, {count}) AS i), \
             (SELECT array_agg((SELECT array_agg(sin(i * n)) FROM generate_series(1, 384) AS n)::vector ORDER BY i) \
              FROM generate_series(1, {count}) AS i)"
        )
    }

    #[pg_test]
    fn the_columns_of_the_regulation_store_are_there() {
        create_store();
        let columns = |table: &str| {
            one::<String>(&format!(
                "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod)
                     || CASE WHEN attnotnull THEN '!' ELSE '' END, ', ' ORDER BY attnum)
                 FROM pg_attribute WHERE attrelid = 'reg.{table}'::regclass AND attnum > 0"
            ))
        };
        assert_eq!(
            columns("vector_embeddings"),
            "id uuid!, source_type character varying(50)!, source_id uuid!, chunk_index integer!, \
             content_hash character varying(64)!, content_preview text, embedding vector(384)!, \
             embedding_model character varying(100)!, metadata jsonb!, namespace character varying(100)!, \
             created_at timestamp with time zone!, updated_at timestamp with time zone!, content text, \
             lexemes tsvector, collection_id uuid"
        );
        assert_eq!(
            columns("embedding_collections"),
            "id uuid!, name character varying(200)!, description text, namespace character varying(100)!, \
             embedding_model character varying(100)!, dimensions integer!, distance_metric character varying(20)!, \
             metadata jsonb!, created_at timestamp with time zone!, updated_at timestamp with time zone!"
        );
        assert_eq!(
            columns("embedding_jobs"),
            "id uuid!, collection_id uuid, status character varying(20)!, source_type character varying(50)!, \
             source_count integer!, processed_count integer!, failed_count integer!, error_message text, \
             started_at timestamp with time zone, completed_at timestamp with time zone, \
             created_at timestamp with time zone!, namespace character varying(100)!"
        );
        assert_eq!(
            columns("vector_search_logs"),
            "id uuid!, query_embedding vector(384), query_text text, namespace character varying(100), \
             top_k integer, threshold double precision, result_count integer, latency_ms integer, user_id uuid, \
             created_at timestamp with time zone!, caller name"
        );
        assert!(columns("vector_audit_log").contains("record_id text, old_data jsonb, new_data jsonb"));
        let indexes = one::<String>(
            "SELECT string_agg(indexname, ' ' ORDER BY indexname) FROM pg_indexes
             WHERE schemaname = 'reg' AND tablename = 'vector_embeddings'",
        );
        assert_eq!(
            indexes,
            "idx_embeddings_collection idx_embeddings_created idx_embeddings_hnsw_cosine idx_embeddings_lexemes \
             idx_embeddings_metadata idx_embeddings_namespace idx_embeddings_source unique_source_chunk \
             vector_embeddings_pkey"
        );
        assert!(one::<bool>(
            "SELECT indexdef LIKE '%gin (metadata jsonb_path_ops)' FROM pg_indexes
             WHERE schemaname = 'reg' AND indexname = 'idx_embeddings_metadata'"
        ));
    }

    #[pg_test]
    fn a_plain_insert_of_the_regulation_store_works() {
        create_store();
        run(&format!(
            "INSERT INTO reg.vector_embeddings (source_type, source_id, content_hash, content_preview, embedding)
             VALUES ('regulation', {ONE}, repeat('a', 64), 'emissions of factories', embed('emissions', '{MODEL}'))"
        ));
        let hit = one::<String>(
            "SELECT concat_ws(' ', source_type, chunk_index, content_preview, namespace, metadata)
             FROM search_embeddings('reg', 'factories')",
        );
        assert_eq!(hit, "regulation 0 emissions of factories default {}");
    }

    #[pg_test]
    fn presets_storage_and_index_kinds() {
        for (schema, arguments, expected) in [
            ("a", "preset => 'dev'", "384 vector hnsw dev"),
            ("b", "preset => 'staging', storage => 'halfvec'", "384 halfvec hnsw staging"),
            ("c", "preset => 'production'", "384 vector hnsw production"),
            ("d", "index_kind => 'ivfflat', storage => 'halfvec'", "384 halfvec ivfflat"),
            ("e", "index_kind => 'none'", "384 vector none"),
        ] {
            run(&format!("SELECT create_vector_store('{schema}', '{MODEL}', {arguments})"));
            let found = one::<String>(&format!(
                "SELECT concat_ws(' ', dimensions, storage, index_kind, preset) FROM vector_tools.vector_stores
                 WHERE store = '{schema}.vector_embeddings'::regclass AND model = '{MODEL}'"
            ));
            assert_eq!(found, expected);
            run(&format!("SELECT upsert_embeddings('{schema}', {})", made_up(20)));
            run(&format!("SELECT create_namespace('{schema}', 'x')"));
            run(&format!("SELECT upsert_document('{schema}', 'document', {ONE}, 'a pump', 'x')"));
            for namespace in ["default", "x"] {
                let question = format!("search_embeddings('{schema}', 'pump', '{namespace}', 1)");
                assert_eq!(one::<i64>(&format!("SELECT count(*) FROM {question}")), 1, "{question}");
            }
        }
        for arguments in ["preset => 'x'", "storage => 'bit'", "index_kind => 'btree'"] {
            assert_error(&format!("SELECT create_vector_store('f', '{MODEL}', {arguments})"), "22023");
        }
        assert_error("SELECT create_vector_store('f', 'nope')", "42704");
        assert_error("SELECT create_vector_store('')", "42602");
        assert!(one::<bool>("SELECT create_vector_store(NULL) IS NULL"));
    }

    #[pg_test]
    fn lists_follow_the_rows() {
        create_store();
        run(&format!("SELECT upsert_embeddings('reg', {})", made_up(400)));
        run("SELECT index_vector_store('reg', 'ivfflat')");
        let lists = || {
            one::<String>(
                "SELECT string_agg(reloptions::text, ' ' ORDER BY reloptions::text) FROM pg_class
                 WHERE relkind = 'i' AND reloptions::text LIKE '%lists%'",
            )
        };
        assert_eq!(lists(), "{lists=20}");
        run("UPDATE reg.vector_embeddings SET namespace = 'y' WHERE content < 'text 3'");
        run("SELECT create_namespace('reg', 'y')");
        let moved = one::<f64>("SELECT count(*)::float8 FROM reg.vector_embeddings_y");
        assert_eq!(lists(), format!("{{lists={}}} {{lists=20}}", moved.sqrt().round()));
        assert!(one::<bool>("SELECT bool_and(indisvalid) FROM pg_index"));
        let found = one::<String>(
            "SELECT content FROM search_embeddings('reg', namespace => 'y', top_k => 1,
                 query_embedding => (SELECT embedding FROM reg.vector_embeddings WHERE content = 'text 17'))",
        );
        assert_eq!(found, "text 17");
        run("SELECT index_vector_store('reg', 'hnsw', 'production')");
        assert_eq!(one::<String>("SELECT preset FROM vector_tools.vector_stores"), "production");
        run("SELECT index_vector_store('reg', 'none')");
        assert_eq!(one::<String>("SELECT index_kind FROM vector_tools.vector_stores"), "none");
    }

    #[pg_test]
    fn a_second_call_leaves_the_store_alone() {
        create_store();
        upsert(ONE, &["kept"], "");
        create_store();
        assert_eq!(one::<i64>("SELECT count_embeddings('reg')"), 1);
        assert_error("SELECT create_vector_store('reg', 'all-MiniLM-L6-v2')", "42P07");
        assert_error(&format!("SELECT create_vector_store('reg', '{MODEL}', storage => 'halfvec')"), "42P07");
        run("CREATE SCHEMA other; CREATE TABLE other.vector_embeddings (id integer)");
        assert_error(&format!("SELECT create_vector_store('other', '{MODEL}')"), "42809");
    }

    #[pg_test]
    fn only_what_changed_is_written() {
        create_store();
        assert_eq!(upsert(ONE, &["a pump", "a valve", "a pipe"], ""), "3 0 0 0");
        let rows = || {
            one::<String>(
                "SELECT string_agg(ctid::text || xmin, ' ' ORDER BY ctid) FROM reg.vector_embeddings",
            )
        };
        let before = rows();
        assert_eq!(upsert(ONE, &["a pump", "a valve", "a pipe"], ""), "0 0 3 0");
        assert_eq!(rows(), before);
        assert_eq!(upsert(ONE, &["a pump", "a new valve"], ""), "0 1 1 1");
        // The text that moved keeps its embedding; the new first one gets its own.
        run("UPDATE reg.vector_embeddings SET embedding = embed('marked', 'all-MiniLM-L6-v2-int8')
             WHERE content = 'a new valve'");
        assert_eq!(upsert(ONE, &["in front", "a pump", "a new valve"], ""), "1 2 0 0");
        assert!(one::<bool>(
            "SELECT bool_and(embedding = embed(CASE content WHEN 'a new valve' THEN 'marked' ELSE content END,
                 'all-MiniLM-L6-v2-int8') AND content_hash = encode(sha256(content::bytea), 'hex')
                 AND content_preview = content) FROM reg.vector_embeddings"
        ));
        assert_eq!(
            upsert(ONE, &["in front", "a pump", "a new valve"], ", metadata => '{\"n\": 1}'"),
            "0 3 0 0"
        );
        assert_eq!(
            upsert(ONE, &["in front", "a pump", "a new valve"], ", metadata => '{\"n\": 1}'"),
            "0 0 3 0"
        );
        assert_eq!(upsert(TWO, &["another"], ", namespace => 'x'"), "1 0 0 0");
        assert_eq!(upsert(ONE, &[], ""), "0 0 0 3");
        assert_eq!(one::<i64>("SELECT count_embeddings('reg')"), 1);
        let single = format!("SELECT inserted FROM upsert_document('reg', 'document', {ONE}, 'one text')");
        assert_eq!(one::<i32>(&single), 1);
    }

    #[pg_test]
    fn namespaces_have_partitions_of_their_own() {
        create_store();
        upsert(ONE, &["a pump", "a valve"], ", namespace => 'csrd'");
        upsert(TWO, &["a pipe"], "");
        assert_eq!(
            one::<String>("SELECT create_namespace('reg', 'csrd')::text"),
            "reg.vector_embeddings_csrd"
        );
        let places = "SELECT string_agg(DISTINCT tableoid::regclass || ' ' || namespace, ', ') FROM reg.vector_embeddings";
        assert_eq!(
            one::<String>(places),
            "reg.vector_embeddings_csrd csrd, reg.vector_embeddings_default default"
        );
        // The same call again, and the same document again.
        run("SELECT create_namespace('reg', 'csrd')");
        assert_eq!(upsert(ONE, &["a pump", "a valve"], ", namespace => 'csrd'"), "0 0 2 0");
        let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'reg' AND tablename = ";
        assert_eq!(
            one::<i64>(&format!("{indexes} 'vector_embeddings_csrd'")),
            one::<i64>(&format!("{indexes} 'vector_embeddings'"))
        );
        assert_eq!(one::<i64>("SELECT clear_namespace('reg', 'csrd')"), 2);
        upsert(ONE, &["a pump"], ", namespace => 'csrd'");
        run("SELECT drop_namespace('reg', 'csrd')");
        assert_eq!(one::<i64>("SELECT count_embeddings('reg', 'csrd')"), 0);
        assert_eq!(one::<i64>("SELECT count_embeddings('reg')"), 1);
        // Without a partition rows go to the default one.
        upsert(ONE, &["a pump"], ", namespace => 'csrd'");
        assert_eq!(one::<i64>("SELECT count_embeddings('reg', 'csrd')"), 1);
    }

    #[pg_test]
    fn a_default_namespace_and_odd_ones_have_partitions() {
        create_store();
        for namespace in ["default", "Mixed Case", "x''y", "ünïcode", "back\\slash", "{table}"] {
            upsert(ONE, &["a pump"], &format!(", namespace => '{namespace}'"));
            run(&format!("SELECT create_namespace('reg', '{namespace}')"));
            run(&format!("SELECT create_namespace('reg', '{namespace}')"));
            assert_eq!(
                one::<i64>(&format!("SELECT count(*) FROM search_embeddings('reg', 'pump', '{namespace}')")),
                1,
                "{namespace}"
            );
            run(&format!("SELECT drop_namespace('reg', '{namespace}')"));
            assert_eq!(one::<i64>("SELECT count_embeddings('reg')"), 0, "{namespace}");
        }
    }

    #[pg_test]
    fn collections_group_embeddings() {
        create_store();
        let id =
            one::<String>("SELECT create_collection('reg', 'laws', 'eu', 'what holds', '{\"n\": 1}')::text");
        assert_eq!(one::<String>("SELECT create_collection('reg', 'laws', 'eu')::text"), id);
        assert_error("SELECT create_collection('reg', 'laws', 'us')", "42710");
        assert_eq!(
            one::<String>(
                "SELECT concat_ws(' ', name, namespace, dimensions, distance_metric, embedding_model)
                           FROM reg.embedding_collections"
            ),
            format!("laws eu 384 cosine {MODEL}")
        );
        assert_eq!(upsert(ONE, &["a pump"], ", collection => 'laws'"), "1 0 0 0");
        upsert(TWO, &["another pump"], ", namespace => 'eu'");
        assert_eq!(one::<i64>("SELECT count_embeddings('reg', 'eu')"), 2);
        assert_eq!(one::<i64>("SELECT count_embeddings('reg', collection => 'laws')"), 1);
        let found =
            "SELECT string_agg(content, ',') FROM search_embeddings('reg', 'pump', collection => 'laws')";
        assert_eq!(one::<String>(found), "a pump");
        assert_error(
            &format!("SELECT upsert_document('reg', 'document', {ONE}, 'x', 'us', collection => 'laws')"),
            "22023",
        );
        let (state, _, detail, hint) =
            error_of("SELECT * FROM search_embeddings('reg', 'x', collection => 'lawz')");
        assert_eq!((state.as_str(), detail.contains("\"laws\"")), ("42704", true), "{detail}");
        assert!(hint.contains("create_collection('reg', 'lawz')"), "{hint}");
        assert_error("SELECT drop_collection('reg', 'laws')", "2BP01");
        run(&format!(
            "INSERT INTO reg.embedding_jobs (collection_id, source_type) VALUES ('{id}', 'document')"
        ));
        assert_eq!(one::<i64>("SELECT drop_collection('reg', 'laws', delete_embeddings => true)"), 1);
        assert!(one::<bool>("SELECT collection_id IS NULL FROM reg.embedding_jobs"));
    }

    #[pg_test]
    fn searches_are_limited_by_every_argument() {
        create_store();
        upsert(
            ONE,
            &["a pump lost pressure", "a valve is leaking"],
            ", metadata => '{\"lang\": \"en\", \"n\": 1}'",
        );
        upsert(TWO, &["the pump was repaired"], ", namespace => 'x', metadata => '{\"lang\": \"de\"}'");
        run(&format!("SELECT upsert_document('reg', 'policy', {ONE}, 'pumps are inspected')"));
        let found = |more: &str| {
            one::<String>(&format!(
                "SELECT coalesce(string_agg(content, ', ' ORDER BY content), '') FROM search_embeddings('reg', {more})"
            ))
        };
        assert_eq!(found("'pump', top_k => 1").split(", ").count(), 1);
        assert_eq!(found("'pump', 'x'"), "the pump was repaired");
        assert_eq!(found("'pump', source_type => 'policy'"), "pumps are inspected");
        assert_eq!(found("'pump', metadata => '{\"lang\": \"de\"}'"), "the pump was repaired");
        assert_eq!(
            found("'pump', filter => '{\"n\": {\"$gte\": 1}}', text_weight => 1, vector_weight => 0"),
            "a pump lost pressure"
        );
        assert_eq!(found("'pump', 'x', filter => '{\"namespace\": \"default\"}'"), "");
        assert_eq!(found("'pump', threshold => 0.99"), "");
        assert_eq!(
            found(
                "query_embedding => embed('a valve is leaking', 'all-MiniLM-L6-v2-int8'), threshold => 0.9"
            ),
            "a valve is leaking"
        );
        assert_eq!(found("NULL"), "");
        assert!(one::<bool>(
            "SELECT bool_and(similarity > 0 AND score > 0) FROM search_embeddings('reg', 'pump', fusion => 'relative', top_k => 2)"
        ));
        // hybrid_search takes the model from the store, too.
        assert_eq!(
            one::<String>(
                "SELECT string_agg(doc->>'id', ',') FROM hybrid_search('reg.vector_embeddings', 'pump')"
            ),
            one::<String>("SELECT string_agg(id::text, ',') FROM search_embeddings('reg', 'pump')")
        );
        for wrong in
            ["metadata => '[]'", "fusion => 'x'", "top_k => 0", "threshold => 'NaN'", "filter => '[]'"]
        {
            assert_error(&format!("SELECT * FROM search_embeddings('reg', 'x', {wrong})"), "22023");
        }
    }

    #[pg_test]
    fn rows_of_a_small_model_are_whole_in_every_partition() {
        create_store();
        run("SELECT create_namespace('reg', 'own')");
        let words = "(SELECT string_agg(md5(n::text), ' ') FROM generate_series(1, 12) AS n)";
        for namespace in ["own", "of all others"] {
            run(&format!(
                "SELECT upsert_embeddings('reg', ARRAY['a'], ARRAY[{ONE}]::uuid[], ARRAY[0], ARRAY[{words}],
                     ARRAY[embed('x', '{MODEL}')], ARRAY['{namespace}'])"
            ));
        }
        let whole =
            "SELECT count(*) FROM reg.vector_embeddings WHERE pg_column_toast_chunk_id(embedding) IS NULL
            AND pg_column_compression(content) IS NULL AND pg_column_size(lexemes) > 300";
        assert_eq!(one::<i64>(whole), 2);
    }

    #[pg_test]
    fn ready_embeddings_are_written_in_bulk() {
        create_store();
        let call = format!("SELECT upsert_embeddings('reg', {})", made_up(2500));
        assert_eq!(one::<i64>(&call), 2500);
        assert_eq!(one::<i64>(&call), 0);
        run("UPDATE reg.vector_embeddings SET metadata = '{\"n\": 1}' WHERE content IN ('text 1', 'text 2')");
        assert_eq!(one::<i64>(&call), 2);
        let json = format!(
            "SELECT upsert_embeddings('reg', jsonb_build_array(jsonb_build_object('source_type', 'document', \
             'source_id', {ONE}, 'content', 'by json', 'embedding', embed('by json', '{MODEL}')::real[], \
             'namespace', 'x', 'metadata', jsonb_build_object('n', 1.10))))"
        );
        assert_eq!(one::<i64>(&json), 1);
        assert_eq!(
            one::<String>("SELECT metadata::text FROM search_embeddings('reg', 'json', 'x')"),
            "{\"n\": 1.10}"
        );
    }

    // trust 23
    #[pg_test]
    fn bad_input_of_queued_documents_is_refused() {
        create_store();
        let queue = |more: &str| format!("SELECT queue_documents('reg', 'd', {more})");
        let refused = |sqlstate: &str, more: &str| assert_error(&queue(more), sqlstate);
        refused("22023", &format!("ARRAY[{ONE}]::uuid[], '{{a,b}}'"));
        refused(
            "22023",
            &format!("ARRAY[{ONE}]::uuid[], '{{a}}', metadata => ARRAY['{{}}', '{{}}']::jsonb[]"),
        );
        refused("22023", &format!("ARRAY[{ONE}]::uuid[], '{{a}}', metadata => ARRAY['[]']::jsonb[]"));
        refused("22004", "ARRAY[NULL]::uuid[], '{a}'");
        refused("22004", &format!("ARRAY[{ONE}]::uuid[], ARRAY[NULL]::text[]"));
        refused("21000", &format!("ARRAY[{ONE}, {ONE}]::uuid[], '{{a,b}}'"));
        refused("54000", &format!("ARRAY[{ONE}]::uuid[], ARRAY[repeat('x', 1100000)]"));
        refused("42602", &format!("ARRAY[{ONE}]::uuid[], '{{a}}', ''"));
        refused("42704", &format!("ARRAY[{ONE}]::uuid[], '{{a}}', collection => 'none'"));
        refused("22023", &format!("ARRAY[{ONE}]::uuid[], '{{a}}', strategy => 'hierarchical'"));
        refused("22023", &format!("ARRAY[{ONE}]::uuid[], '{{a}}', strategy => 'none'"));
        assert_error(&format!("SELECT queue_documents('none', 'd', ARRAY[{ONE}]::uuid[], '{{a}}')"), "42P01");
        let long = format!("SELECT queue_documents('reg', repeat('d', 51), ARRAY[{ONE}]::uuid[], '{{a}}')");
        assert_eq!(error_of(&long).0, "22001");
        assert_eq!(one::<i64>("SELECT count(*) FROM vector_tools.queued_documents"), 0);
        assert!(one::<bool>("SELECT queue_documents('reg', 'd', NULL, '{a}') IS NULL"));
        run("SELECT queue_documents('reg', 'd', '{}', '{}')");
        assert_eq!(one::<String>("SELECT status::text FROM reg.embedding_jobs"), "completed");
        run(&format!(
            "SELECT queue_documents('reg', 'd', ARRAY[{ONE}]::uuid[], ARRAY[repeat('x', 1100000)], strategy => 'fixed')"
        ));
    }

    #[pg_test]
    fn bad_input_of_a_store_is_refused() {
        create_store();
        let rows = |vector: &str, more: &str| {
            format!(
                "SELECT upsert_embeddings('reg', ARRAY['a', 'a'], ARRAY[{ONE}, {TWO}]::uuid[], ARRAY[0, 0], \
                 ARRAY['x', 'y'], ARRAY[(SELECT array_agg(0.5) FROM generate_series(1, 384))::vector, {vector}]{more})"
            )
        };
        let good = "(SELECT array_agg(0.5) FROM generate_series(1, 384))::vector";
        assert_eq!(one::<i64>(&rows(good, "")), 2);
        assert_error(&rows("'[1, 2]'", ""), "22000");
        assert_error(&rows("NULL", ""), "22004");
        assert_error(&rows(good, ", ARRAY['', 'x']"), "42602");
        assert_error(&rows(good, ", ARRAY['x']"), "22023");
        assert_error(&rows(good, ", metadata => ARRAY['{}']::jsonb[]"), "22023");
        assert_error(&rows(good, "").replace(TWO, ONE), "21000");
        let json = |embedding: &str| {
            format!(
                "SELECT upsert_embeddings('reg', jsonb_build_array(jsonb_build_object('source_type', 'a', \
                 'source_id', {ONE}, 'content', 'x', 'embedding', {embedding})))"
            )
        };
        assert_error(&json("'[1, 2]'::jsonb"), "22000");
        assert_error(&json("(SELECT jsonb_agg(1e39) FROM generate_series(1, 384))"), "22003");
        assert_error(&json("(SELECT jsonb_agg('NaN'::text) FROM generate_series(1, 384))"), "22023");
        assert_error("SELECT upsert_embeddings('reg', '{}'::jsonb)", "22023");
        assert_error(
            &format!("SELECT upsert_document('reg', 'd', {ONE}, repeat('long text ', 1048576))"),
            "54000",
        );
        assert_error(&format!("SELECT upsert_document('reg', 'd', {ONE}, ARRAY['a', NULL])"), "22004");
        assert_error(&format!("SELECT upsert_document('reg', 'd', {ONE}, 'x', metadata => '[]')"), "22023");
        assert_error(&format!("SELECT upsert_document('reg', 'd', {ONE}, 'x', repeat('n', 101))"), "42602");
        assert_error("SELECT * FROM search_embeddings('reg', query_embedding => '[1, 2]')", "22000");
        let (state, _, _, hint) = error_of("SELECT * FROM search_embeddings('nowhere', 'x')");
        assert_eq!(
            (state.as_str(), hint.contains("create_vector_store('nowhere')")),
            ("42P01", true),
            "{hint}"
        );
        let (state, _, _, hint) = error_of("SELECT drop_namespace('reg', 'nowhere')");
        assert_eq!(
            (state.as_str(), hint.contains("create_namespace('reg', 'nowhere')")),
            ("42704", true),
            "{hint}"
        );
        for call in [
            "count_embeddings('no')".to_owned(),
            "clear_namespace('no', 'x')".to_owned(),
            format!("delete_document('no', 'd', {ONE})"),
            format!("upsert_document('no', 'd', {ONE}, 'x')"),
            "create_namespace('no', 'x')".to_owned(),
            "create_collection('no', 'x')".to_owned(),
        ] {
            assert_error(&format!("SELECT {call}"), "42P01");
        }
    }

    // trust 23
    #[pg_test]
    fn ten_megabytes_in_chunks_are_a_document() {
        create_store();
        let call = format!(
            "SELECT inserted FROM upsert_document('reg', 'document', {ONE},
                 (SELECT array_agg(i || repeat(' long text', 100000)) FROM generate_series(1, 10) AS i))"
        );
        assert_eq!(one::<i32>(&call), 10);
        assert_eq!(one::<i64>("SELECT sum(length(content)) / 1000000 FROM reg.vector_embeddings"), 10);
    }

    #[pg_test]
    fn documents_are_deleted() {
        create_store();
        upsert(ONE, &["a pump", "a valve"], "");
        upsert(ONE, &["a pump"], ", namespace => 'x'");
        upsert(TWO, &["a pipe"], "");
        assert_eq!(one::<i64>(&format!("SELECT delete_document('reg', 'document', {ONE}, 'x')")), 1);
        assert_eq!(one::<i64>(&format!("SELECT delete_document('reg', 'document', {ONE})")), 2);
        assert_eq!(one::<i64>(&format!("SELECT delete_document('reg', 'document', {ONE})")), 0);
        assert_eq!(one::<i64>("SELECT count_embeddings('reg')"), 1);
    }

    #[pg_test]
    fn searches_are_logged_when_asked() {
        create_store();
        upsert(ONE, &["a pump", "a valve"], "");
        run("SELECT * FROM search_embeddings('reg', 'pump')");
        assert_eq!(one::<i64>("SELECT count(*) FROM reg.vector_search_logs"), 0);
        run("SET vector_tools.log_searches = on");
        run(&format!("SELECT * FROM search_embeddings('reg', 'pump', 'default', 5, 0.1, user_id => {TWO})"));
        run("SELECT * FROM search_embeddings('reg', query_embedding => embed('x', 'all-MiniLM-L6-v2-int8'))");
        let logged = one::<String>(
            "SELECT concat_ws(' ', query_text, namespace, top_k, threshold, result_count > 0, latency_ms >= 0, user_id,
                 caller = current_user) FROM reg.vector_search_logs WHERE query_text IS NOT NULL",
        );
        assert_eq!(logged, "pump default 5 0.1 t t 00000000-0000-0000-0000-000000000002 t");
        assert_eq!(
            one::<i64>("SELECT count(*) FROM reg.vector_search_logs WHERE query_embedding IS NOT NULL"),
            1
        );
        run("SET vector_tools.log_searches = off");
    }

    #[pg_test]
    fn the_model_of_a_store_is_in_use() {
        run("SELECT register_model('mine', 'all-MiniLM-L6-v2-int8')");
        run("SELECT create_vector_store('reg', 'mine')");
        assert_error("SELECT drop_model('mine')", "2BP01");
        run("DROP SCHEMA reg CASCADE");
        run("SELECT drop_model('mine')");
    }
}
