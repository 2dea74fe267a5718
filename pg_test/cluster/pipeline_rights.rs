//! Who sees what of a searchable table: column readers, strangers and policies (4, 5), hostile paths
//! (6), and what a dump carries (16).

use crate::database::Database;
use crate::dump;
use crate::models::Folder;
use crate::searchable::{CREATE, ENABLE, UNTRUE, created, drain, embedded};
use crate::session::Session;

fn with_reader(prefix: &str) -> (Database<'static>, Session, Session) {
    let (database, mut session) = created(prefix);
    let reader = format!("{prefix}_reader");
    database.create_role(&reader);
    session
        .run("INSERT INTO docs SELECT i, 'note', 'the pump number ' || i FROM generate_series(3, 300) AS i");
    session.run(ENABLE);
    drain(&mut session);
    let reader = database.connect_as(&reader);
    (database, session, reader)
}

const SEARCH: &str = "SELECT id FROM hybrid_search('docs', 'leaking valve', 3)";

#[test]
fn key_and_content_must_be_readable() {
    let (_database, mut session, mut reader) = with_reader("pipeline_columns");
    for sql in [SEARCH, "SELECT count(*) FROM docs_search", "SELECT explain_search('docs', 'valve')"] {
        reader.fails("42501", sql);
    }
    let hidden = "SELECT num_nulls(total, embedded, stale, pending, failed, rows_per_second, eta, oldest_pending, last_error)
        FROM vector_tools.search_progress WHERE table_name = 'docs'::regclass";
    assert_eq!(reader.text(hidden), "9");
    session.run("GRANT SELECT (id, body) ON docs TO pipeline_columns_reader");
    for sql in [SEARCH, "SELECT count(*) FROM docs_search"] {
        reader.fails("42501", sql);
    }
    session.run("GRANT SELECT (title) ON docs TO pipeline_columns_reader");
    assert_eq!(reader.rows(SEARCH)[0], "2");
    assert_eq!(reader.text("SELECT count(*) FROM docs_search"), "300");
    let doc = "SELECT doc - '_chunk' FROM hybrid_search('docs', 'leaking valve', 1)";
    assert_eq!(reader.text(doc), r#"{"id": 2, "body": "a valve is leaking", "title": "valves"}"#);
    reader.fails("42501", "SELECT id FROM hybrid_search('docs', 'valve', filter => '{\"views\": 0}')");
    for sql in ["DELETE FROM docs_search", "UPDATE docs_search SET content = 'x'", "TRUNCATE docs_search"] {
        reader.fails("42501", sql);
    }
}

#[test]
fn policies_of_the_table_hold_for_its_chunks() {
    let (_database, mut session, mut reader) = with_reader("pipeline_policies");
    session.run(
        "GRANT SELECT ON docs TO pipeline_policies_reader; ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
         CREATE POLICY few ON docs USING (id % 100 = 1)",
    );
    let found = "SELECT id FROM hybrid_search('docs', 'leaking valve pump', 5)";
    let mut ids = reader.rows(found);
    ids.sort();
    assert_eq!(ids, ["1", "101", "201"], "expected all visible rows, and no others");
    assert_eq!(reader.text("SELECT count(*), max(row_id) FROM docs_search"), "3|201");
    let hidden = reader.rows("SELECT id FROM keyword_search('docs', 'valve', 5)");
    assert_eq!(hidden, [""; 0]);
    // The owner is not subject to it unless he asks for it.
    assert_eq!(session.rows(found).len(), 5);
    session.run("CREATE ROLE pipeline_policies_owner; ALTER TABLE docs OWNER TO pipeline_policies_owner; GRANT pipeline_policies_owner TO pipeline_policies_reader");
    session.fails("42501", found);
    session.run(
        "ALTER TABLE docs_search OWNER TO pipeline_policies_owner; ALTER TABLE docs FORCE ROW LEVEL SECURITY",
    );
    reader.run("SET ROLE pipeline_policies_owner");
    let mut ids = reader.rows(found);
    ids.sort();
    assert_eq!(ids, ["1", "101", "201"]);
    reader.run("UPDATE docs SET body = 'the pump number one' WHERE id = 1");
    drain(&mut reader);
    assert_eq!(
        session.text("SELECT content FROM docs_search WHERE row_id = 1"),
        "pumps\n\nthe pump number one"
    );
}

#[test]
fn a_dump_carries_chunks_triggers_and_queue() {
    let (original, mut session) = embedded("pipeline_dump");
    session.run("UPDATE docs SET body = 'waits' WHERE id = 2");
    let restored = Database::empty("pipeline_dump_restored");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    dump::run("pg_dump", &["--file", &file, "--dbname", &original.connection()]);
    dump::run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, &restored.connection()]);
    let mut copy = restored.connect();
    for fact in [
        "SELECT * FROM docs_search ORDER BY row_id, chunk_index",
        "SELECT source, keys FROM vector_tools.queue",
        "SELECT * FROM vector_tools.searchable_tables",
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1",
        "SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy",
        "SELECT relacl, relrowsecurity FROM pg_class WHERE relname = 'docs_search'",
    ] {
        assert_eq!(copy.rows(fact), session.rows(fact), "expected the same after the restore: {fact}");
    }
    copy.run("INSERT INTO docs VALUES (3, 'new', 'here')");
    drain(&mut copy);
    assert_eq!(copy.text(UNTRUE), "0");
    assert_eq!(copy.text("SELECT id FROM hybrid_search('docs', 'pressure', 1)"), "1");
}

#[test]
fn an_ordinary_owner_dumps_and_restores_a_searchable_table() {
    let original = Database::with_extension("pipeline_owner");
    original.create_role("pipeline_owner_role");
    original.connect().run("CREATE SCHEMA own AUTHORIZATION pipeline_owner_role");
    let mut session = original.connect_as("pipeline_owner_role");
    session.run("SET search_path = own, public");
    session.run(CREATE);
    session.run(ENABLE);
    drain(&mut session);
    session.run("INSERT INTO docs VALUES (3, 'late', 'not embedded yet')");
    let restored = Database::with_extension("pipeline_owner_restored");
    restored.connect().run("CREATE SCHEMA own AUTHORIZATION pipeline_owner_role");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = |database: &Database| database.server.connection(&database.name, "pipeline_owner_role");
    dump::run("pg_dump", &["--table=own.*", "--file", &file, "--dbname", &as_owner(&original)]);
    dump::run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, &as_owner(&restored)]);
    let mut copy = restored.connect_as("pipeline_owner_role");
    copy.run("SET search_path = own, public");
    assert_eq!(copy.text("SELECT id FROM hybrid_search('docs', 'leaking valve', 1)"), "2");
    // The queue is not his to dump; asking again finds what it held.
    copy.run(ENABLE);
    drain(&mut copy);
    assert_eq!(copy.text(UNTRUE), "0");
    assert_eq!(copy.text("SELECT count(*) FROM docs_search"), "3");
}

#[test]
fn a_companion_that_lost_its_triggers_is_taken_up() {
    let (_database, mut session) = embedded("pipeline_again");
    session.run("DROP EXTENSION vector_tools CASCADE");
    session.run(
        "UPDATE docs SET body = 'changed meanwhile' WHERE id = 1; INSERT INTO docs VALUES (3, 'new', 'row')",
    );
    assert_eq!(session.text("SELECT count(*) FROM docs_search"), "2", "expected the chunks to stay");
    session.run("CREATE EXTENSION vector_tools");
    session.run(ENABLE);
    let batch = session.text("SELECT embedded, unchanged FROM vector_tools.run_embedding_batch()");
    assert_eq!(batch, "2|1", "expected what is still true to be left alone");
    assert_eq!(session.text(UNTRUE), "0");
    session.run("DROP TABLE docs_search");
    session.fails("55000", "SELECT id FROM hybrid_search('docs', 'pump')");
    session.run(ENABLE);
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
}
