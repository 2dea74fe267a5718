//! Bad input for the store and the memories (23): each has its own SQLSTATE, writes nothing, and leaves a session that works.

use crate::database::{Database, MODEL};
use crate::session::Session;

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";

/// Each call must fail with its SQLSTATE and say in a detail or a hint what to do, or in the message what is wrong.
fn check_refused(session: &mut Session, calls: &[(&str, String)], count: &str) {
    let before = session.text(count);
    for (sqlstate, call) in calls {
        let error = session.fails(sqlstate, call);
        assert!(!error.message().contains("panicked"), "expected an answer to {call}, not {error:?}");
        assert!(error.message().len() < 400, "expected no long text in the message of {sqlstate}");
    }
    assert_eq!(session.text(count), before, "expected nothing to be written");
    session.still_embeds();
}

// trust 23
#[test]
fn bad_documents_and_vectors_are_refused_by_a_store() {
    let database = Database::with_extension("bad_store");
    let mut session = database.connect();
    session.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}'); SELECT create_vector_store('half', '{MODEL}', storage => 'halfvec');
         SELECT create_namespace('reg', 'eu'); SELECT create_collection('reg', 'laws', 'eu');
         SELECT upsert_document('reg', 'd', {ONE}, ARRAY['a pump', 'a valve'], 'eu')"
    ));
    let document = |arguments: &str| format!("SELECT upsert_document('reg', 'd', {ONE}, {arguments})");
    let ready = |schema: &str, vector: &str| {
        format!(
            "SELECT upsert_embeddings('{schema}', '{{d}}', ARRAY[{ONE}]::uuid[], '{{0}}', '{{x}}', ARRAY[{vector}]::vector[])"
        )
    };
    let numbers = |value: &str| {
        format!("(SELECT array_agg({value} ORDER BY n) FROM generate_series(1, 384) AS n)::vector")
    };
    let json = |value: &str| {
        format!(
            "SELECT upsert_embeddings('reg', jsonb_build_array(jsonb_build_object('source_type', 'd', 'source_id', {ONE}, 'content', 'x',
                 'embedding', (SELECT jsonb_agg({value}) FROM generate_series(1, 384)))))"
        )
    };
    let search = |arguments: &str| format!("SELECT * FROM search_embeddings('reg', {arguments})");
    let calls = [
        // One chunk of 10 MB is no chunk; many are a document, which another test shows.
        ("54000", document("repeat('long text ', 1048576), 'eu'")),
        ("54000", document("ARRAY['a', repeat('long text ', 1048576)], 'eu'")),
        ("22004", document("ARRAY['a', NULL], 'eu'")),
        ("2202E", document("ARRAY[['a'], ['b']], 'eu'")),
        ("42602", document("'x', ''")),
        ("42602", document("'x', repeat('n', 101)")),
        ("22023", document("'x', 'eu', '[]'")),
        ("22023", document("'x', 'eu', '7'")),
        ("42704", document("'x', 'eu', collection => 'lows'")),
        ("22023", document("'x', 'us', collection => 'laws'")),
        ("22001", format!("SELECT upsert_document('reg', repeat('t', 51), {ONE}, 'x', 'eu')")),
        ("22P02", "SELECT upsert_document('reg', 'd', 'no uuid', 'x', 'eu')".to_owned()),
        ("42P01", format!("SELECT upsert_document('rex', 'd', {ONE}, 'x', 'eu')")),
        // pgvector's type lets neither NaN nor infinity in.
        ("22000", ready("reg", &numbers("CASE n WHEN 7 THEN 'NaN'::float8 ELSE 0.5 END"))),
        ("22000", ready("reg", &numbers("CASE n WHEN 7 THEN 'Infinity'::float8 ELSE 0.5 END"))),
        ("22000", ready("reg", "'[1, 2]'::vector")),
        ("22004", ready("reg", "NULL")),
        ("22003", ready("half", &numbers("CASE n WHEN 7 THEN 70000 ELSE 0.5 END"))),
        ("22003", json("1e39")),
        ("22023", json("'NaN'::text")),
        ("22023", json("NULL::int")),
        ("22023", "SELECT upsert_embeddings('reg', '7'::jsonb)".to_owned()),
        ("22023", "SELECT upsert_embeddings('reg', '[7]'::jsonb)".to_owned()),
        (
            "21000",
            format!(
                "SELECT upsert_embeddings('reg', '{{d,d}}', ARRAY[{ONE}, {ONE}]::uuid[], '{{0,0}}', '{{x,y}}', ARRAY[v, v]) FROM (SELECT {} AS v) AS s",
                numbers("0.5")
            ),
        ),
        ("22000", search("query_embedding => '[1, 2]'")),
        (
            "22000",
            search(&format!(
                "query_embedding => {}",
                numbers("CASE n WHEN 7 THEN 'NaN'::float8 ELSE 0.5 END")
            )),
        ),
        ("22023", search("'x', top_k => 0")),
        ("22023", search("'x', top_k => -1")),
        ("22023", search("'x', top_k => 2147483647")),
        ("22023", search("'x', threshold => 'NaN'")),
        ("22023", search("'x', fusion => 'best'")),
        ("22023", search("'x', vector_weight => -1")),
        ("22023", search("'x', filter => '{\"$where\": 1}'")),
        ("22023", search("'x', metadata => '[]'")),
        ("42704", search("'x', collection => 'lows'")),
        ("22023", "SELECT create_vector_store('new', preset => 'fast')".to_owned()),
        ("22023", "SELECT create_vector_store('new', storage => 'bit')".to_owned()),
        ("22023", "SELECT create_vector_store('new', index_kind => 'flat')".to_owned()),
        ("42704", "SELECT create_vector_store('new', 'no such model')".to_owned()),
        ("42704", "SELECT drop_namespace('reg', 'us')".to_owned()),
        ("42704", "SELECT drop_collection('reg', 'lows')".to_owned()),
        // A client's own SQL.
        (
            "22000",
            format!(
                "INSERT INTO reg.vector_embeddings (source_type, source_id, content_hash, embedding) VALUES ('d', {ONE}, 'x', '[1,2]')"
            ),
        ),
        (
            "23502",
            format!(
                "INSERT INTO reg.vector_embeddings (source_type, source_id, content_hash) VALUES ('d', {ONE}, 'x')"
            ),
        ),
    ];
    check_refused(&mut session, &calls, "SELECT count(*), max(updated_at) FROM reg.vector_embeddings");
    let error = session.fails("42704", &search("'x', collection => 'lows'"));
    assert!(
        error.detail().unwrap_or_default().contains("laws"),
        "expected the nearest collection: {error:?}"
    );
    let error = session.fails("42P01", &format!("SELECT upsert_document('rex', 'd', {ONE}, 'x', 'eu')"));
    assert!(error.detail().unwrap_or_default().contains("reg"), "expected the nearest store: {error:?}");
    // What is odd but not bad.
    assert!(session.rows(&search("NULL")).is_empty(), "expected nothing to answer no question");
    assert!(
        session.rows(&search("'x', 'no such namespace'")).is_empty(),
        "expected no row of a namespace that is not there"
    );
    session.run(&document("ARRAY[]::text[], 'eu'"));
    assert_eq!(
        session.text("SELECT count_embeddings('reg')"),
        "0",
        "expected a document without chunks to be gone"
    );
    session.run(&document("ARRAY['', '   ', E'\\t\\n'], 'eu'"));
    assert_eq!(session.text("SELECT count_embeddings('reg')"), "3", "expected blank chunks to be chunks");
}

// trust 23
#[test]
fn bad_memories_are_refused() {
    let database = Database::with_extension("bad_memories");
    let mut session = database.connect();
    session.run(
        "SELECT create_domain_memories_table('startup'); SELECT create_domain_memories_table('health');
         SELECT store_memory('slept well', 'health', id => 'a')",
    );
    let store = |arguments: &str| format!("SELECT store_memory({arguments})");
    let numbers = |value: &str| {
        format!("(SELECT array_agg({value} ORDER BY n) FROM generate_series(1, 384) AS n)::vector")
    };
    let insert = |vector: &str| {
        format!("INSERT INTO health_memories (id, content, embedding) VALUES ('b', 'x', {vector})")
    };
    let calls = [
        ("42704", store("'x', 'heath'")),
        ("42602", store("'x', ''")),
        ("42602", store("'x', repeat('d', 60)")),
        ("22004", store("NULL, 'health'")),
        ("23505", store("'x', 'health', id => 'a'")),
        ("22001", store("'x', 'health', id => repeat('i', 51)")),
        ("22023", store("'x', 'health', importance => -0.001")),
        ("22023", store("'x', 'health', importance => 1.001")),
        ("22023", store("'x', 'health', importance => 'NaN'")),
        ("22023", store("'x', 'health', importance => '-infinity'")),
        ("22023", store("'x', 'health', metadata => '[]'")),
        ("22023", store("'x', 'health', metadata => '\"text\"'")),
        ("22023", store("'x', 'health', metadata => '{\"importance\": 2}'")),
        ("22023", store("'x', 'health', metadata => '{\"importance\": null}'").replace("null", "[]")),
        ("22P02", store("'x', 'health', metadata => '{'")),
        // Ten megabytes of one word are stored, which another test shows; of different words they do not fit a tsvector.
        (
            "54000",
            store("(SELECT string_agg('word' || i, ' ') FROM generate_series(1, 1000000) AS i), 'health'"),
        ),
        ("22000", insert("'[1, 2]'")),
        ("22000", insert(&numbers("CASE n WHEN 7 THEN 'NaN'::float8 ELSE 0.5 END"))),
        ("22000", insert(&numbers("CASE n WHEN 7 THEN '-Infinity'::float8 ELSE 0.5 END"))),
        ("23502", "INSERT INTO health_memories (content) VALUES (NULL)".to_owned()),
        ("23502", "INSERT INTO health_memories (content, metadata) VALUES ('x', NULL)".to_owned()),
        ("22023", "SELECT update_memory('a', domain => 'health', importance => 2)".to_owned()),
        ("22023", "SELECT update_memory('a', domain => 'health', metadata => '7')".to_owned()),
        ("42704", "SELECT update_memory('a', 'x', 'heath')".to_owned()),
        ("42704", "SELECT delete_memory('a', 'heath')".to_owned()),
        ("22023", "SELECT * FROM search_memories('x', 'health', 0)".to_owned()),
        ("22023", "SELECT * FROM search_memories('x', 'health', -5)".to_owned()),
        ("22023", "SELECT * FROM search_memories('x', 'health', min_importance => 'NaN')".to_owned()),
        ("22023", "SELECT * FROM search_memories('x', 'health', filter => '[]')".to_owned()),
        ("42704", "SELECT * FROM search_memories('x', 'heath')".to_owned()),
        ("42704", "SELECT create_domain_memories_table('new', 'no such model')".to_owned()),
        ("42704", "SELECT create_domain_memories_table('new', text_configuration => 'klingon')".to_owned()),
        ("42602", "SELECT create_domain_memories_table(repeat('d', 41))".to_owned()),
    ];
    check_refused(&mut session, &calls, "SELECT count(*), max(updated_at) FROM health_memories");
    let error = session.fails("42704", &store("'x', 'heath'"));
    assert_eq!(error.detail(), Some("The nearest domains are \"health\", \"startup\"."), "{error:?}");
    // Odd, not bad.
    for content in ["''", "'   '", "E'\\u0001'", "repeat('a', 1000000)"] {
        session.run(&store(&format!("{content}, 'health'")));
    }
    assert_eq!(
        session.text("SELECT memories, embedded FROM vector_tools.domains WHERE domain = 'health'"),
        "5|5"
    );
    assert!(session.rows("SELECT * FROM search_memories(NULL, 'health')").is_empty());
    assert_eq!(session.rows("SELECT count(*) FROM search_memories('', 'health')"), ["5"]);
}
