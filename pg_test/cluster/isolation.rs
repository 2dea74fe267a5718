//! Isolation of a whole store: the tables beside the embeddings, documents that wait, and roles that are renamed (4, 5).

use crate::database::{Database, MODEL};
use crate::session::Session;

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";
const SEARCH: &str = "SELECT content FROM search_embeddings('sx', 'document') ORDER BY content COLLATE \"C\"";

/// A store, and the roles of two tenants.
struct Tenants {
    database: Database<'static>,
    owner: Session,
    roles: [String; 2],
}

impl Tenants {
    fn new(name: &str) -> Tenants {
        let database = Database::with_extension(name);
        let mut owner = database.connect();
        owner.run(&format!(
            "SELECT create_vector_store('sx', '{MODEL}'); SELECT enable_audit('sx.vector_embeddings')"
        ));
        let roles = ["a", "b"].map(|tenant| format!("{name}_{tenant}"));
        for role in &roles {
            database.create_role(role);
            owner.run(&format!(
                "SELECT grant_vector_access('{role}', 'writer', 'sx.vector_embeddings');
                 ALTER ROLE {role} SET vector_tools.log_searches = on"
            ));
        }
        Tenants { database, owner, roles }
    }

    /// By role: nsa and nsb.
    fn isolate_by_role(&mut self) {
        for (role, namespace) in self.roles.iter().zip(["nsa", "nsb"]) {
            self.owner.run(&format!(
                "SELECT isolate_namespaces('sx.vector_embeddings', '{role}', ARRAY['{namespace}'])"
            ));
        }
    }

    fn sessions(&self) -> [Session; 2] {
        [0, 1].map(|place: usize| self.database.connect_as(&self.roles[place]))
    }
}

/// What a tenant does in his namespace.
fn work(session: &mut Session, namespace: &str) {
    session.run(&format!(
        "SELECT create_collection('sx', 'acquisition by {namespace}', '{namespace}', 'strictly confidential', '{{\"price\": 5}}');
         SELECT upsert_document('sx', 't', {ONE}, 'document of {namespace}', '{namespace}');
         SELECT queue_documents('sx', 'queued', ARRAY[{ONE}]::uuid[], ARRAY['important document of {namespace}'], '{namespace}');
         SELECT * FROM search_embeddings('sx', 'question of {namespace}', '{namespace}')"
    ));
}

/// What a tenant must not see or change of another one, who has a namespace of that name.
fn check_apart(session: &mut Session, own: &str, other: &str) {
    assert_eq!(
        session.rows("SELECT name, namespace FROM sx.embedding_collections"),
        [format!("acquisition by {own}|{own}")]
    );
    assert_eq!(
        session.rows("SELECT source_type, namespace FROM sx.embedding_jobs"),
        [format!("queued|{own}")]
    );
    assert_eq!(session.rows("SELECT namespace FROM sx.vector_embeddings"), [own]);
    let moved = format!("UPDATE sx.embedding_collections SET namespace = '{other}'");
    session.fails("42501", &moved);
    session.run(&format!(
        "UPDATE sx.embedding_collections SET description = 'mine' WHERE namespace = '{other}'"
    ));
    // A job is the extension's, but for whether it is wanted.
    for change in ["namespace = 'x'", "error_message = 'x'", "processed_count = 1"] {
        session.fails("42501", &format!("UPDATE sx.embedding_jobs SET {change}"));
    }
    session.fails("42501", "DELETE FROM sx.embedding_jobs");
    session.fails(
        "42501",
        &format!("SELECT queue_documents('sx', 't', ARRAY[{ONE}]::uuid[], ARRAY['not mine'], '{other}')"),
    );
    session.fails("42501", &format!("SELECT create_collection('sx', 'not mine', '{other}')"));
    let taken =
        session.fails("42710", &format!("SELECT create_collection('sx', 'acquisition by {other}', '{own}')"));
    assert!(!format!("{taken:?}").contains("confidential"), "{taken:?}");
    session.fails(
        "42501",
        &format!("INSERT INTO sx.vector_search_logs (query_text, namespace) VALUES ('forged', '{other}')"),
    );
    session.fails("42501", "SELECT * FROM sx.vector_search_logs");
    session.fails("42501", "SELECT * FROM sx.vector_audit_log");
}

// trust 5, 31
#[test]
fn the_tables_beside_the_embeddings_are_isolated_with_them() {
    let mut tenants = Tenants::new("isolation_roles");
    tenants.isolate_by_role();
    let [mut a, mut b] = tenants.sessions();
    work(&mut a, "nsa");
    work(&mut b, "nsb");
    check_apart(&mut a, "nsa", "nsb");
    check_apart(&mut b, "nsb", "nsa");
    // A cancel is for one's own documents.
    b.run("UPDATE sx.embedding_jobs SET status = 'cancelled'");
    tenants.owner.run("CALL run_embedding_jobs()");
    let queued = "SELECT content FROM sx.vector_embeddings WHERE source_type = 'queued'";
    assert_eq!(tenants.owner.rows(queued), ["important document of nsa"]);
    let kept = "SELECT count(*) FROM sx.embedding_collections WHERE description = 'strictly confidential'";
    assert_eq!(tenants.owner.text(kept), "2");
    // An administrator of one namespace reads the logs of that one.
    let b_role = &tenants.roles[1];
    tenants.owner.run(&format!("SELECT grant_vector_access('{b_role}', 'admin', 'sx.vector_embeddings')"));
    assert_eq!(b.rows("SELECT query_text FROM sx.vector_search_logs"), ["question of nsb"]);
    assert_eq!(b.rows("SELECT DISTINCT new_data->>'content' FROM sx.vector_audit_log"), ["document of nsb"]);
    // Where a row goes from one namespace to another, neither alone tells the whole.
    tenants.owner.run("UPDATE sx.vector_embeddings SET namespace = 'nsb' WHERE source_type = 'queued'");
    assert_eq!(b.text("SELECT count(*) FROM sx.vector_audit_log WHERE old_data IS NOT NULL"), "0");
    b.run("DELETE FROM sx.vector_search_logs; DELETE FROM sx.embedding_jobs");
    assert_eq!(tenants.owner.rows("SELECT query_text FROM sx.vector_search_logs"), ["question of nsa"]);
    assert_eq!(tenants.owner.rows("SELECT namespace FROM sx.embedding_jobs"), ["nsa"]);

    assert_eq!(tenants.owner.text("SELECT share_namespaces('sx.vector_embeddings')"), "t");
    assert_eq!(b.text("SELECT count(*) FROM sx.embedding_collections"), "2");
    let left =
        "SELECT (SELECT count(*) FROM pg_policies), (SELECT count(*) FROM pg_class WHERE relrowsecurity)";
    assert_eq!(tenants.owner.text(left), "0|0");
}

// trust 5, 31
#[test]
fn sessions_that_are_set_to_a_namespace_see_that_of_all_tables() {
    let mut tenants = Tenants::new("isolation_setting");
    tenants.owner.run("SELECT isolate_namespaces('sx.vector_embeddings')");
    let [mut a, mut b] = tenants.sessions();
    for (session, namespace) in [(&mut a, "nsa"), (&mut b, "nsb")] {
        session.run(&format!("SET vector_tools.namespace = '{namespace}'"));
        work(session, namespace);
    }
    check_apart(&mut a, "nsa", "nsb");
    check_apart(&mut b, "nsb", "nsa");
    b.run("RESET vector_tools.namespace");
    for table in ["vector_embeddings", "embedding_collections", "embedding_jobs"] {
        assert_eq!(b.text(&format!("SELECT count(*) FROM sx.{table}")), "0");
    }
}

// trust 5, 21, 31
#[test]
fn a_store_whose_jobs_have_no_namespace_is_isolated_too() {
    let mut tenants = Tenants::new("isolation_old");
    tenants.owner.run("ALTER TABLE sx.embedding_jobs DROP COLUMN namespace");
    let [mut a, mut b] = tenants.sessions();
    let queue = |kind: &str, namespace: &str| {
        format!(
            "SELECT queue_documents('sx', '{kind}', ARRAY[{ONE}]::uuid[], ARRAY['{kind} document'], '{namespace}')"
        )
    };
    a.run(&queue("old", "nsa"));
    tenants.isolate_by_role();
    a.run(&queue("new", "nsa"));
    // Nobody knows whose the older ones are.
    assert_eq!(a.rows("SELECT source_type FROM sx.embedding_jobs"), ["new"]);
    assert!(b.rows("SELECT source_type FROM sx.embedding_jobs").is_empty());
    b.run("UPDATE sx.embedding_jobs SET status = 'cancelled'");
    tenants.owner.run("CALL run_embedding_jobs()");
    assert_eq!(a.rows(SEARCH), ["new document", "old document"]);
}

// trust 5, 31
#[test]
fn a_role_keeps_its_namespaces_whatever_it_is_called() {
    let database = Database::with_extension("isolation_names");
    let mut owner = database.connect();
    owner.run(
        "CREATE TABLE ns (id int PRIMARY KEY, namespace text); INSERT INTO ns VALUES (1, 'x'), (2, 'y');
         CREATE ROLE isolation_names_one; CREATE ROLE isolation_names_login LOGIN IN ROLE isolation_names_one;
         SELECT grant_vector_access('isolation_names_one', 'reader', 'ns');
         SELECT isolate_namespaces('ns', 'isolation_names_one', ARRAY['x']);
         ALTER ROLE isolation_names_one RENAME TO isolation_names_uno;
         SELECT isolate_namespaces('ns', 'isolation_names_uno', ARRAY['y'])",
    );
    let mut session = database.connect_as("isolation_names_login");
    let rows = "SELECT namespace FROM ns ORDER BY id";
    assert_eq!(session.rows(rows), ["y"], "expected the new list in place of the old one");
    // A new role of the old name leaves the other one's policy alone.
    owner.run(
        "CREATE ROLE isolation_names_one; SELECT grant_vector_access('isolation_names_one', 'reader', 'ns');
         SELECT isolate_namespaces('ns', 'isolation_names_one', ARRAY['x'])",
    );
    assert_eq!(session.rows(rows), ["y"]);
    owner.run("SET ROLE isolation_names_one");
    assert_eq!(owner.rows(rows), ["x"]);
    // As after a restore, where a policy of somebody else has the number in its name.
    owner.run("RESET ROLE; SELECT share_namespaces('ns')");
    let number = owner.text("SELECT 'isolation_names_one'::regrole::oid");
    owner.run(&format!(
        "CREATE POLICY namespaces_of_role_{number} ON ns TO isolation_names_uno USING (id = 2);
         SELECT isolate_namespaces('ns', 'isolation_names_one', ARRAY['x']);
         SELECT isolate_namespaces('ns', 'isolation_names_one', ARRAY['y'])"
    ));
    assert_eq!(owner.text("SELECT count(*) FROM pg_policies WHERE tablename = 'ns'"), "2");
    owner.run("SET ROLE isolation_names_one");
    assert_eq!(owner.rows(rows), ["y"]);
    owner.run("RESET ROLE; SELECT share_namespaces('ns')");
    assert_eq!(session.rows(rows), ["y"], "expected a policy of the owner's own to go on");
}

// trust 4, 5, 31
#[test]
fn a_document_that_waits_is_of_the_role_that_queued_it_whatever_it_is_called() {
    let mut tenants = Tenants::new("isolation_queue");
    let [mut a, b] = tenants.sessions();
    let queue = |namespace: &str| {
        format!(
            "SELECT queue_documents('sx', 't', ARRAY[{ONE}]::uuid[], ARRAY['document for {namespace}'], '{namespace}')"
        )
    };
    a.run(&queue("nsb"));
    a.run(&queue("nsa"));
    tenants.isolate_by_role();
    drop((a, b));
    let [a, b] = &tenants.roles;
    tenants.owner.run(&format!(
        "ALTER ROLE {a} RENAME TO isolation_queue_c; ALTER ROLE {b} RENAME TO {a}; ALTER ROLE isolation_queue_c RENAME TO {b}"
    ));
    tenants.owner.run("CALL run_embedding_jobs()");
    let stored = "SELECT content FROM sx.vector_embeddings";
    assert_eq!(tenants.owner.rows(stored), ["document for nsa"]);
    assert_eq!(
        tenants.owner.rows("SELECT status, namespace FROM sx.embedding_jobs ORDER BY namespace"),
        ["completed|nsa", "failed|nsb"]
    );
    let error = tenants.owner.text("SELECT error_message FROM sx.embedding_jobs WHERE status = 'failed'");
    assert!(error.contains("row-level security policy"), "{error}");
}
