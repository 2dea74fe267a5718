//! A store to strangers, to readers of some columns, and to roles that see few of its rows (4, 5).

use crate::database::{Database, MODEL};
use crate::session::Session;

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";

/// A store with two namespaces, and a session of another role.
fn with_role(name: &str) -> (Database<'static>, Session, Session) {
    let database = Database::with_extension(name);
    let mut owner = database.connect();
    owner.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}'); SELECT create_namespace('reg', 'eu'); SELECT create_collection('reg', 'laws', 'eu');
         SELECT enable_audit('reg.vector_embeddings');
         SELECT upsert_document('reg', 'd', {ONE}, ARRAY['a pump', 'a secret valve'], 'eu', collection => 'laws');
         SELECT upsert_document('reg', 'd', {ONE}, ARRAY['a pipe'], 'us')"
    ));
    let role = format!("{name}_role");
    database.create_role(&role);
    let session = database.connect_as(&role);
    (database, owner, session)
}

/// Every verb of a store.
fn calls() -> Vec<String> {
    [
        "SELECT * FROM search_embeddings('reg', 'secret')".to_owned(),
        "SELECT * FROM search_embeddings('reg', 'secret', vector_weight => 0)".to_owned(),
        "SELECT * FROM search_embeddings('reg', query_embedding => embed('secret'), collection => 'laws')".to_owned(),
        "SELECT count_embeddings('reg')".to_owned(),
        "SELECT count_embeddings('reg', collection => 'laws')".to_owned(),
        "SELECT * FROM audit_history('reg.vector_embeddings')".to_owned(),
        format!("SELECT upsert_document('reg', 'd', {ONE}, 'x', 'eu')"),
        format!("SELECT upsert_embeddings('reg', '{{d}}', ARRAY[{ONE}]::uuid[], '{{0}}', '{{x}}', ARRAY[embed('x')])"),
        format!("SELECT queue_documents('reg', 'd', ARRAY[{ONE}]::uuid[], '{{x}}', 'eu')"),
        format!("SELECT delete_document('reg', 'd', {ONE})"),
        "SELECT clear_namespace('reg', 'eu')".to_owned(),
        "SELECT create_namespace('reg', 'x')".to_owned(),
        "SELECT drop_namespace('reg', 'eu')".to_owned(),
        "SELECT create_collection('reg', 'mine')".to_owned(),
        "SELECT drop_collection('reg', 'laws', true)".to_owned(),
        "SELECT index_vector_store('reg')".to_owned(),
        "SELECT enable_audit('reg.vector_embeddings')".to_owned(),
        "SELECT disable_audit('reg.vector_embeddings')".to_owned(),
        "SELECT isolate_namespaces('reg.vector_embeddings')".to_owned(),
        "SELECT grant_vector_access(current_user::text, 'admin', 'reg.vector_embeddings')".to_owned(),
    ]
    .to_vec()
}

// trust 4
#[test]
fn a_stranger_to_a_store_learns_nothing() {
    let (_database, mut owner, mut stranger) = with_role("store_stranger");
    for call in calls() {
        let error = stranger.fails("42501", &call);
        assert!(!format!("{error:?}").contains("valve"), "expected no content in {error:?}");
    }
    // With the tables but not the schema.
    owner.run("GRANT ALL ON ALL TABLES IN SCHEMA reg TO store_stranger_role");
    for call in calls() {
        stranger.fails("42501", &call);
    }
    assert_eq!(owner.text("SELECT count(*) FROM reg.vector_embeddings"), "3");
}

// trust 4
#[test]
fn a_reader_of_some_columns_finds_nothing() {
    let (_database, mut owner, mut reader) = with_role("store_columns");
    owner.run(
        "GRANT USAGE ON SCHEMA reg TO store_columns_role;
         GRANT SELECT (id, namespace, source_type, source_id, chunk_index, embedding, lexemes, metadata)
             ON reg.vector_embeddings TO store_columns_role",
    );
    // The three searches, and what a log would tell. Counting rows needs no more than a column, as in plain SQL.
    let calls = calls();
    for call in calls[..3].iter().chain([&calls[5]]) {
        reader.fails("42501", call);
    }
    reader.fails("42501", "SELECT * FROM hybrid_search('reg.vector_embeddings', 'secret')");
}

// trust 5
#[test]
fn a_role_that_sees_one_row_in_a_hundred_gets_as_many_as_it_asks_for() {
    let database = Database::with_extension("store_few");
    database.create_role("store_few_role");
    let mut owner = database.connect();
    owner.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}', 'dev');
         CREATE TABLE numbers AS SELECT x, n FROM unnest(embed_query('pump', '{MODEL}')::real[]) WITH ORDINALITY AS u(x, n);
         CREATE TABLE made_up AS SELECT i, (SELECT array_agg(x + CASE WHEN i % 100 = 0 THEN 0.05 ELSE 0.01 END * sin(i * n) ORDER BY n)::vector
             FROM numbers) AS v FROM generate_series(1, 3000) AS i;
         SELECT upsert_embeddings('reg', array_agg('d'::text), array_agg(md5(i::text)::uuid), array_agg(0), array_agg('pump ' || i), array_agg(v),
             array_agg(CASE WHEN i % 100 = 0 THEN 'mine' ELSE 'theirs' END)) FROM made_up;
         ANALYZE reg.vector_embeddings;
         SELECT grant_vector_access('store_few_role', 'reader', 'reg.vector_embeddings');
         SELECT isolate_namespaces('reg.vector_embeddings', 'store_few_role', '{{mine}}')"
    ));
    let mut session = database.connect_as("store_few_role");
    session.run("SET enable_seqscan = off");
    for more in
        ["", ", text_weight => 0", ", vector_weight => 0", ", fusion => 'relative'", ", source_type => 'd'"]
    {
        let found = session.text(&format!(
            "SELECT count(*), bool_and(namespace = 'mine') FROM search_embeddings('reg', 'pump', top_k => 10{more})"
        ));
        assert_eq!(found, "10|t", "expected ten visible rows with {more:?}");
    }
    assert!(session.rows("SELECT id FROM search_embeddings('reg', 'pump', 'theirs')").is_empty());
    assert_eq!(session.text("SELECT count_embeddings('reg'), count_embeddings('reg', 'theirs')"), "30|0");
    // What is hidden cannot be guessed from scores: they are those of a store without the hidden rows.
    let scores = "SELECT content, round(score::numeric, 6), round(similarity::numeric, 6) FROM search_embeddings('reg', 'pump', top_k => 30) ORDER BY 1";
    let with_hidden = session.rows(scores);
    owner.run("DELETE FROM reg.vector_embeddings WHERE namespace = 'theirs'");
    assert_eq!(session.rows(scores), with_hidden, "expected the same scores without the hidden rows");
}

// trust 6
#[test]
fn a_trigger_of_the_search_log_means_its_owners_functions() {
    let (database, mut owner, _) = with_role("store_log_names");
    owner.run(
        "GRANT USAGE ON SCHEMA reg TO store_log_names_role; GRANT CREATE ON DATABASE store_log_names TO store_log_names_role;
         GRANT SELECT ON reg.vector_embeddings, reg.embedding_collections TO store_log_names_role;
         CREATE FUNCTION reg.note_search() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM note(NEW.query_text); RETURN NEW;
         EXCEPTION WHEN undefined_function THEN RETURN NEW;
         END $$;
         CREATE TRIGGER noted AFTER INSERT ON reg.vector_search_logs FOR EACH ROW EXECUTE FUNCTION reg.note_search()",
    );
    owner.run("ALTER ROLE store_log_names_role SET vector_tools.log_searches = on");
    let mut reader = database.connect_as("store_log_names_role");
    reader.run(
        "CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO PUBLIC;
         CREATE FUNCTION own.note(question text) RETURNS void LANGUAGE plpgsql AS
             'BEGIN RAISE EXCEPTION ''ran as %'', current_user; END';
         SET search_path = own, public",
    );
    assert_eq!(reader.rows("SELECT content FROM search_embeddings('reg', 'pipe', 'us', 1)"), ["a pipe"]);
    assert_eq!(owner.rows("SELECT query_text FROM reg.vector_search_logs"), ["pipe"]);
}

/// Who may create in the schema of a store may make what is not there.
// trust 27
#[test]
fn a_view_in_the_place_of_a_stores_tables_is_not_read() {
    let database = Database::with_extension("store_view");
    database.create_role("store_view_role");
    let mut owner = database.connect();
    owner.run(&format!(
        "SELECT create_vector_store('reg', '{MODEL}'); SELECT create_collection('reg', 'laws')"
    ));
    owner.run(
        "GRANT USAGE, CREATE ON SCHEMA reg TO store_view_role; DROP TABLE reg.embedding_collections, reg.embedding_jobs CASCADE",
    );
    let mut attacker = database.connect_as("store_view_role");
    attacker.run(
        "CREATE FUNCTION reg.takes() RETURNS uuid LANGUAGE plpgsql AS
             $$ BEGIN RAISE WARNING 'TAKEN as %', current_user; RETURN gen_random_uuid(); END $$;
         CREATE VIEW reg.embedding_collections AS SELECT reg.takes() AS id, 'laws'::text AS name, 'default'::text AS namespace;
         CREATE TABLE reg.embedding_jobs (id uuid DEFAULT reg.takes(), namespace text, source_type text, collection_id uuid,
             source_count int, status text, started_at timestamptz, completed_at timestamptz);
         GRANT ALL ON reg.embedding_collections, reg.embedding_jobs TO PUBLIC",
    );
    owner.take_notices();
    for call in [
        "SELECT * FROM search_embeddings('reg', 'secret', collection => 'laws')".to_owned(),
        "SELECT create_collection('reg', 'laws')".to_owned(),
        "SELECT drop_collection('reg', 'laws')".to_owned(),
        format!("SELECT upsert_document('reg', 'd', {ONE}, 'x', collection => 'laws')"),
        format!("SELECT queue_documents('reg', 'd', ARRAY[{ONE}]::uuid[], '{{x}}')"),
    ] {
        let error = owner.fails("42809", &call);
        assert!(
            format!("{error:?}").contains("is not a table of its owner's"),
            "expected the reason in {error:?}"
        );
    }
    let said = owner.take_notices();
    assert!(said.is_empty(), "expected that nothing of the view runs, not {said:?}");
}
