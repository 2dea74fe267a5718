//! Levels of access, and namespaces kept apart (1, 3, 5).

use crate::database::Database;
use crate::session::Session;

/// A table with two namespaces, as a vector store has it.
const STORE: &str = "CREATE SCHEMA store;
     CREATE TABLE store.vector_embeddings (
         id int, namespace varchar(100) NOT NULL, body text NOT NULL, embedding vector(384),
         lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED,
         PRIMARY KEY (id, namespace)) PARTITION BY LIST (namespace);
     CREATE TABLE store.embeddings_csrd PARTITION OF store.vector_embeddings FOR VALUES IN ('csrd');
     CREATE TABLE store.embeddings_other PARTITION OF store.vector_embeddings DEFAULT;
     CREATE TABLE store.embedding_collections (id int);
     CREATE TABLE store.vector_search_logs (id int);
     CREATE TABLE store.vector_audit_log (id int);
     INSERT INTO store.vector_embeddings (id, namespace, body, embedding)
         SELECT id, namespace, body, embed(body) FROM (VALUES
             (1, 'csrd', 'a report on emissions'), (2, 'eudr', 'a report on forests'),
             (3, 'eudr', 'emissions of wood')) AS v(id, namespace, body);";
const SEARCH: &str =
    "SELECT doc->'id' FROM hybrid_search('store.vector_embeddings', 'emissions report') AS h ORDER BY h.id";

fn store<'a>(name: &str, role: &str) -> (Database<'a>, Session, Session) {
    let database = Database::with_extension(name);
    let mut owner = database.connect();
    owner.run(STORE);
    database.create_role(role);
    let session = database.connect_as(role);
    (database, owner, session)
}

// trust 1
#[test]
fn each_level_may_do_what_it_says() {
    let (_database, mut owner, mut session) = store("access_levels", "access_levels_role");
    let insert = "INSERT INTO store.vector_embeddings (id, namespace, body) VALUES (9, 'csrd', 'new')";
    session.fails("42501", SEARCH);
    owner.run("SELECT grant_vector_access('access_levels_role', 'reader', 'store.vector_embeddings')");
    assert_eq!(session.rows(SEARCH).len(), 3, "expected a reader to search");
    session.run("SELECT * FROM store.embedding_collections");
    session.fails("42501", insert);
    // Searches are logged with the rights of the log's owner.
    session.fails("42501", "INSERT INTO store.vector_search_logs VALUES (1)");
    session.fails("42501", "SELECT * FROM store.vector_search_logs");
    owner.run("SELECT grant_vector_access('access_levels_role', 'writer', 'store.vector_embeddings')");
    session.run(insert);
    session.run("INSERT INTO store.vector_search_logs VALUES (1)");
    session.run("DELETE FROM store.vector_embeddings WHERE id = 9");
    session.fails("42501", "TRUNCATE store.vector_embeddings");
    session.fails("42501", "SELECT * FROM store.vector_audit_log");
    owner.run("SELECT grant_vector_access('access_levels_role', 'admin', 'store.vector_embeddings')");
    session.run("SELECT * FROM store.vector_audit_log; CREATE TABLE store.mine (id int)");
    session.fails("42501", "DELETE FROM store.vector_audit_log");
    owner.run("SELECT revoke_vector_access('access_levels_role', 'store.vector_embeddings')");
    session.fails("42501", SEARCH);
    session.fails("42501", "SELECT * FROM store.embedding_collections");
}

// trust 1
#[test]
fn only_who_may_grant_grants() {
    let (database, mut owner, mut session) = store("access_grantors", "access_grantors_role");
    owner.run("GRANT USAGE ON SCHEMA store TO access_grantors_role");
    let calls = [
        "SELECT grant_vector_access('access_grantors_role', 'reader', 'store.vector_embeddings')",
        "SELECT isolate_namespaces('store.vector_embeddings')",
        "SELECT isolate_namespaces('store.vector_embeddings', 'access_grantors_role', '{csrd}')",
        "SELECT share_namespaces('store.vector_embeddings')",
        "SELECT revoke_vector_access('access_grantors_role', 'store.vector_embeddings')",
        "SELECT create_vector_roles()",
    ];
    // Nobody is told whether namespaces are isolated, or has a table locked, before he is known.
    for prepare in [
        "",
        "SELECT isolate_namespaces('store.vector_embeddings')",
        "SELECT isolate_namespaces('store.vector_embeddings', 'access_grantors_role', '{csrd}')",
        // With some right on each table, for which PostgreSQL itself would only warn; and one of those that are wanted.
        "GRANT SELECT ON ALL TABLES IN SCHEMA store TO access_grantors_role",
        "GRANT SELECT ON store.embedding_collections TO access_grantors_role WITH GRANT OPTION",
        "GRANT SELECT ON store.vector_embeddings TO access_grantors_role WITH GRANT OPTION",
    ] {
        owner.run(prepare);
        session.run("SET lock_timeout = '10s'");
        let mut blocker = database.connect();
        blocker.run("BEGIN; LOCK TABLE store.vector_search_logs");
        for call in calls {
            session.fails("42501", call);
        }
        assert!(session.take_notices().is_empty(), "expected no warning but an error");
    }
    // Who got all of it with the right to grant it may.
    let other = "access_grantors_other";
    database.create_role(other);
    owner.run(
        "GRANT USAGE ON SCHEMA store TO access_grantors_role WITH GRANT OPTION;
         GRANT SELECT ON ALL TABLES IN SCHEMA store TO access_grantors_role WITH GRANT OPTION",
    );
    session.run(&format!("SELECT grant_vector_access('{other}', 'reader', 'store.vector_embeddings')"));
    session.fails(
        "42501",
        &format!("SELECT grant_vector_access('{other}', 'writer', 'store.vector_embeddings')"),
    );
    let mut reader = database.connect_as(other);
    reader.run("SELECT * FROM store.embedding_collections");
    session.run(&format!("SELECT revoke_vector_access('{other}', 'store.vector_embeddings')"));
    reader.fails("42501", "SELECT * FROM store.embedding_collections");
    owner.run("SELECT share_namespaces('store.vector_embeddings')");
    for (state, call) in [
        ("42704", "SELECT grant_vector_access('nobody at all', 'reader', 'store.vector_embeddings')"),
        ("42704", "SELECT grant_vector_access('public', 'reader', 'store.vector_embeddings')"),
        ("42602", "SELECT grant_vector_access('', 'reader', 'store.vector_embeddings')"),
        ("22023", "SELECT grant_vector_access('access_grantors_role', 'owner', 'store.vector_embeddings')"),
        ("22023", "SELECT isolate_namespaces('store.vector_embeddings', 'access_grantors_role')"),
        ("42703", "SELECT isolate_namespaces('store.vector_audit_log')"),
    ] {
        owner.fails(state, call);
    }
}

// trust 5
#[test]
fn sessions_see_the_namespace_of_their_setting() {
    let (_database, mut owner, mut session) = store("access_setting", "access_setting_role");
    owner.run("SELECT grant_vector_access('access_setting_role', 'writer', 'store.vector_embeddings');
               SELECT isolate_namespaces('store.vector_embeddings'); SELECT isolate_namespaces('store.vector_embeddings')");
    assert!(session.rows(SEARCH).is_empty(), "expected nothing without a namespace");
    session.run("SET vector_tools.namespace = 'eudr'");
    assert_eq!(session.rows(SEARCH), ["2", "3"], "expected the rows of eudr");
    session.run("SET vector_tools.namespace = 'csrd'");
    assert_eq!(session.rows(SEARCH), ["1"], "expected the rows of csrd");
    let plan = session.rows("EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM store.vector_embeddings").join(" ");
    assert!(!plan.contains("embeddings_other"), "expected the other partition to be left out: {plan}");
    session
        .fails("42501", "INSERT INTO store.vector_embeddings (id, namespace, body) VALUES (8, 'eudr', 'x')");
    session.fails("42501", "SELECT * FROM store.embeddings_other");
    assert_eq!(owner.rows(SEARCH).len(), 3, "expected the owner to see everything");
    assert_eq!(
        owner.text("SELECT share_namespaces('store.vector_embeddings')"),
        "t",
        "expected policies to go"
    );
    assert_eq!(session.rows(SEARCH).len(), 3, "expected everything again");
}

// trust 5
#[test]
fn roles_see_their_namespaces_whatever_they_set() {
    let (database, mut owner, mut session) = store("access_roles", "access_roles_role");
    database.create_role("access_roles_other");
    owner.run("SELECT isolate_namespaces('store.vector_embeddings');
               SELECT isolate_namespaces('store.vector_embeddings', 'access_roles_role', ARRAY['csrd', 'it''s; \"']);
               SELECT grant_vector_access(r, 'writer', 'store.vector_embeddings')
               FROM unnest('{access_roles_role,access_roles_other}'::text[]) AS r");
    session.run("SET vector_tools.namespace = 'eudr'");
    assert_eq!(session.rows(SEARCH), ["1"], "expected no more than the role's own");
    session.run(
        "INSERT INTO store.vector_embeddings (id, namespace, body) VALUES (7, 'it''s; \"', 'emissions')",
    );
    session.fails("42501", "UPDATE store.vector_embeddings SET namespace = 'eudr'");
    let mut other = database.connect_as("access_roles_other");
    other.run("SET vector_tools.namespace = 'eudr'");
    assert!(other.rows(SEARCH).is_empty(), "expected a role without namespaces to see nothing");
    owner.fails("55000", "SELECT isolate_namespaces('store.vector_embeddings')");
    owner.run("SELECT isolate_namespaces('store.vector_embeddings', 'access_roles_role', '{}')");
    assert!(session.rows(SEARCH).is_empty(), "expected the new list in place of the old one");
}

// trust 1
#[test]
fn roles_include_one_another() {
    let database = Database::with_extension("access_vector_roles");
    let mut owner = database.connect();
    owner.run("BEGIN; SELECT create_vector_roles(); SELECT create_vector_roles()");
    let members = owner.rows(
        "SELECT pg_has_role('vector_admin', r, 'USAGE') FROM unnest('{vector_reader,vector_writer}'::text[]) AS r
         UNION ALL SELECT pg_has_role('vector_reader', 'vector_writer', 'MEMBER')
         UNION ALL SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname LIKE 'vector\\_%'",
    );
    owner.run("ROLLBACK");
    assert_eq!(members, ["t", "t", "f", "f"], "expected reader < writer < admin, none of whom logs in");
}
