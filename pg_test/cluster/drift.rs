//! vector_tools.search_drift among several roles and sessions: what a stranger, a reader of some columns and
//! a role under policies see of it (4, 5), whose code it runs, and tables that go away meanwhile.

use crate::database::{Database, MODEL};
use crate::session::Session;

const DRIFT: &str = "SELECT source, role, companion, model, is_current, rows, chunks
    FROM vector_tools.search_drift ORDER BY source::text, rows";

/// A database with a table of each kind, in a schema of its own: a searchable one, one that embeds its rows
/// itself and a vector store; and a session of a role that has no rights.
fn with_tables(name: &str) -> (Database<'static>, Session, Session) {
    let database = Database::with_extension(name);
    let mut owner = database.connect();
    owner.run(&format!(
        "CREATE SCHEMA own; SET search_path = own, public;
         CREATE TABLE own.docs (id int PRIMARY KEY, body text);
         INSERT INTO own.docs VALUES (1, 'a pump'), (2, 'a valve');
         SELECT enable_search('own.docs', ARRAY['body'], mode => 'sync');
         CREATE TABLE own.tickets (id int PRIMARY KEY, subject text, embedding vector(384));
         CREATE TRIGGER embed BEFORE INSERT OR UPDATE ON own.tickets
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('subject', 'embedding', '{MODEL}');
         INSERT INTO own.tickets VALUES (1, 'printer on fire'), (2, NULL);
         SELECT create_vector_store('own', '{MODEL}');
         SELECT upsert_document('own', 'd', gen_random_uuid(), ARRAY['a pipe', 'a tap'])"
    ));
    let role = format!("{name}_role");
    database.create_role(&role);
    let mut session = database.connect_as(&role);
    session.run("SET search_path = own, public");
    (database, owner, session)
}

fn all() -> [String; 3] {
    [
        format!("own.docs|live|own.docs_search|{MODEL}|t|2|2"),
        format!("own.tickets|live|∅|{MODEL}|t|1|1"),
        format!("own.vector_embeddings|live|∅|{MODEL}|t|1|2"),
    ]
}

fn nothing() -> [String; 3] {
    ["docs", "tickets", "vector_embeddings"].map(|table| format!("own.{table}|∅|∅|{MODEL}|∅|∅|∅"))
}

/// The lines, names with their schema.
fn drift(session: &mut Session) -> Vec<String> {
    session.run("SET search_path = public");
    session.rows(DRIFT)
}

// trust 4
#[test]
fn a_stranger_sees_no_numbers() {
    let (_database, mut owner, mut stranger) = with_tables("drift_stranger");
    assert_eq!(drift(&mut owner), all());
    assert_eq!(drift(&mut stranger), nothing());
    // With the tables but not the schema.
    owner.run("GRANT SELECT ON ALL TABLES IN SCHEMA own TO drift_stranger_role");
    assert_eq!(drift(&mut stranger), nothing());
    owner.run("GRANT USAGE ON SCHEMA own TO drift_stranger_role");
    assert_eq!(drift(&mut stranger), all());
    // With other columns than those that are counted.
    owner.run(
        "REVOKE SELECT ON ALL TABLES IN SCHEMA own FROM drift_stranger_role;
         GRANT SELECT (id) ON own.docs TO drift_stranger_role;
         GRANT SELECT (id, subject) ON own.tickets TO drift_stranger_role;
         GRANT SELECT (id, content, embedding_model) ON own.vector_embeddings TO drift_stranger_role",
    );
    assert_eq!(drift(&mut stranger), nothing());
    owner.run(
        "GRANT SELECT (body) ON own.docs TO drift_stranger_role;
         GRANT SELECT (embedding) ON own.tickets TO drift_stranger_role;
         GRANT SELECT (chunk_index) ON own.vector_embeddings TO drift_stranger_role",
    );
    assert_eq!(drift(&mut stranger), all());
    for call in [
        "vector_tools.count_embedded_rows('own.tickets', 'subject')",
        "vector_tools.count_embedded_rows('own.docs', 'body')",
    ] {
        assert_eq!(stranger.text(&format!("SELECT {call} IS NULL")), "f", "expected no secret in {call}");
    }
    owner.run("REVOKE SELECT (body) ON own.docs FROM drift_stranger_role");
    for call in [
        "vector_tools.count_embedded_rows('own.docs', 'body')",
        "vector_tools.count_embedded_rows('own.docs', 'no such column')",
        "vector_tools.count_embedded_rows('own.docs', NULL)",
        "vector_tools.count_embedded_rows(1, 'body')",
        "(SELECT rows FROM vector_tools.count_store_models('own.docs'))",
        "(SELECT rows FROM vector_tools.count_store_models('own.tickets'))",
        "(SELECT rows FROM vector_tools.count_store_models('own.vector_embeddings_pkey'))",
    ] {
        assert_eq!(stranger.text(&format!("SELECT {call}")), "∅", "expected nothing of {call}");
    }
}

// trust 5
#[test]
fn whoever_does_not_see_all_rows_sees_no_numbers() {
    let (_database, mut owner, mut session) = with_tables("drift_rows");
    owner.run(
        "GRANT USAGE ON SCHEMA own TO drift_rows_role;
         GRANT SELECT ON ALL TABLES IN SCHEMA own TO drift_rows_role;
         ALTER TABLE own.docs ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON own.docs USING (id = 1);
         ALTER TABLE own.tickets ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON own.tickets USING (id = 1);
         SELECT isolate_namespaces('own.vector_embeddings', 'drift_rows_role', '{default}')",
    );
    assert_eq!(drift(&mut session), nothing());
    assert_eq!(drift(&mut owner), all());
    // An owner who is under his own policies does not see all rows either.
    owner.run(
        "ALTER TABLE own.docs OWNER TO drift_rows_role; ALTER TABLE own.docs_search OWNER TO drift_rows_role;
         ALTER TABLE own.tickets OWNER TO drift_rows_role; ALTER TABLE own.vector_embeddings OWNER TO drift_rows_role",
    );
    assert_eq!(drift(&mut session), all());
    owner.run(
        "ALTER TABLE own.docs FORCE ROW LEVEL SECURITY; ALTER TABLE own.tickets FORCE ROW LEVEL SECURITY;
         ALTER TABLE own.vector_embeddings FORCE ROW LEVEL SECURITY",
    );
    assert_eq!(drift(&mut session), nothing());
    assert_eq!(drift(&mut owner), all());
}

/// The planner runs the functions in the conditions of indexes, which whoever owns the table may change.
// trust 4
#[test]
fn the_list_runs_code_of_owners_for_them_alone() {
    let (database, mut owner, _) = with_tables("drift_trojan");
    database.create_role("drift_trojan_owner");
    owner.run(
        "GRANT USAGE, CREATE ON SCHEMA own TO drift_trojan_owner;
         ALTER TABLE own.docs OWNER TO drift_trojan_owner; ALTER TABLE own.docs_search OWNER TO drift_trojan_owner;
         ALTER TABLE own.tickets OWNER TO drift_trojan_owner; ALTER TABLE own.vector_embeddings OWNER TO drift_trojan_owner;
         ALTER TABLE own.vector_embeddings_default OWNER TO drift_trojan_owner",
    );
    let mut trojan = database.connect_as("drift_trojan_owner");
    trojan.run(
        "CREATE FUNCTION own.trap(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN true; END $$;
         CREATE INDEX ON own.docs_search (row_id) WHERE own.trap(1);
         CREATE INDEX ON own.tickets (id) WHERE own.trap(1);
         CREATE INDEX ON own.vector_embeddings (id) WHERE own.trap(1);
         CREATE OR REPLACE FUNCTION own.trap(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'the trap ran as %', current_user; END $$",
    );
    owner.run(
        "CREATE TABLE own.others (id int PRIMARY KEY, body text, v vector(384));
         CREATE TRIGGER embed BEFORE INSERT ON own.others
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'v', 'a model')",
    );
    owner.take_notices();
    assert_eq!(
        drift(&mut owner),
        [
            format!("own.docs|live|own.docs_search|{MODEL}|∅|∅|∅"),
            "own.others|live|∅|a model|t|0|0".to_owned(),
            format!("own.tickets|∅|∅|{MODEL}|∅|∅|∅"),
            format!("own.vector_embeddings|∅|∅|{MODEL}|∅|∅|∅"),
        ]
    );
    let progress = "SELECT table_name, total, embedded FROM vector_tools.search_progress";
    assert_eq!(owner.rows(progress), ["own.docs|∅|∅"]);
    let said = owner.take_notices();
    assert!(said.is_empty(), "expected that nothing ran, not {said:?}");
    // His own code is his own affair.
    trojan.take_notices();
    assert_eq!(trojan.rows(progress), ["own.docs|∅|∅"]);
    let said = trojan.take_notices();
    let said: Vec<&str> = said.iter().map(|notice| notice.message()).collect();
    assert_eq!(said, [r#"table "own"."docs" was not counted: the trap ran as drift_trojan_owner"#]);
}

#[test]
fn tables_that_others_drop_or_keep_to_themselves_do_not_matter() {
    let (database, mut owner, _) = with_tables("drift_dropped");
    // A table of another session.
    let mut other = database.connect();
    other.run(&format!(
        "CREATE TEMP TABLE passing (id int PRIMARY KEY, body text, v vector(384));
         CREATE TRIGGER embed BEFORE INSERT ON passing
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'v', '{MODEL}');
         INSERT INTO passing VALUES (1, 'a pump')"
    ));
    let counts = "SELECT count(*), sum(rows) FROM vector_tools.search_drift";
    owner.take_notices();
    assert_eq!(other.text(counts), "4|5");
    assert_eq!(owner.text(counts), "4|4");
    assert!(owner.take_notices().is_empty(), "expected no word about a table of another session");
    other.run("DROP TABLE passing");

    owner.run("BEGIN; DROP TABLE own.docs CASCADE; DROP TABLE own.tickets; DROP TABLE own.vector_embeddings");
    assert_eq!(other.text(counts), "3|∅", "expected no count of what somebody is about to drop");
    owner.run("COMMIT");
    assert_eq!(other.text(counts), "0|∅");
}
