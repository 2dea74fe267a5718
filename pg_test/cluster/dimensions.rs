//! A vector column holds vectors of its dimensions, whichever way they come (23).

use crate::database::{Database, MODEL};
use crate::session::Session;

const ONE: &str = "'00000000-0000-0000-0000-000000000001'";

/// A statement that would put a vector of 384 dimensions into a column of 3.
fn refuses(session: &mut Session, statement: &str) {
    let error = session.fails("22000", statement);
    assert_eq!(
        error.message(),
        "expected 3 dimensions, not 384",
        "expected the words of pgvector for {statement}"
    );
}

// trust 23
#[test]
fn the_embedding_trigger_keeps_to_the_dimensions_of_its_column() {
    let database = Database::with_extension("dimensions_trigger");
    let mut session = database.connect();
    session.run(&format!(
        "CREATE TABLE t3 (id int PRIMARY KEY, t text, v vector(3));
         CREATE TRIGGER a BEFORE INSERT OR UPDATE ON t3 FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('t', 'v', '{MODEL}');
         CREATE TABLE any_dimensions (id int, t text, v vector);
         CREATE TRIGGER a BEFORE INSERT OR UPDATE ON any_dimensions FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('t', 'v', '{MODEL}')"
    ));
    refuses(&mut session, "INSERT INTO t3 VALUES (1, 'a pump')");
    let error = session.fails("22000", "INSERT INTO t3 VALUES (1, 'a pump')");
    assert!(error.detail().unwrap_or_default().contains(MODEL), "expected the model in {error:?}");
    session.run("INSERT INTO t3 VALUES (1, 'a pump', '[1,2,3]'), (2, NULL, NULL)");
    refuses(&mut session, "UPDATE t3 SET t = 'a valve' WHERE id = 1");
    refuses(
        &mut session,
        "MERGE INTO t3 USING (SELECT 3 AS id) AS s ON t3.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (3, 'x')",
    );
    refuses(&mut session, "COPY t3 (id, t) FROM PROGRAM 'echo 7,pump' WITH (FORMAT csv)");
    assert_eq!(session.text("SELECT count(*), max(vector_dims(v)) FROM t3"), "2|3");
    session.run("INSERT INTO any_dimensions VALUES (1, 'a pump')");
    assert_eq!(session.text("SELECT vector_dims(v) FROM any_dimensions"), "384");
    session.run("CREATE INDEX ON t3 USING hnsw (v vector_cosine_ops)");
}

// trust 23
#[test]
fn memories_companions_and_stores_keep_to_them_too() {
    let database = Database::with_extension("dimensions_tables");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('notes')");
    session.run("ALTER TABLE notes_memories ALTER embedding TYPE vector(3)");
    refuses(&mut session, "SELECT store_memory('a pump', 'notes')");
    // A companion that its owner has changed.
    session.run("CREATE TABLE docs (id int PRIMARY KEY, body text)");
    session.run("SELECT enable_search('docs', '{body}', mode => 'sync', index_kind => 'none')");
    session.run("ALTER TABLE docs_search ALTER embedding TYPE vector(3)");
    let error = session.fails("22000", "INSERT INTO docs VALUES (1, 'a pump')");
    let said = format!("{} {}", error.message(), error.detail().unwrap_or_default()).to_lowercase();
    assert!(said.contains("expected 3 dimensions, not 384"), "expected the dimensions in {error:?}");
    session.run(&format!("SELECT create_vector_store('st', '{MODEL}', index_kind => 'none')"));
    session.run("ALTER TABLE st.vector_embeddings ALTER embedding TYPE vector(3)");
    for call in [
        format!("SELECT upsert_document('st', 'd', {ONE}, 'a pump')"),
        format!("SELECT upsert_document('st', 'd', {ONE}, ARRAY['a pump', 'a valve'])"),
        format!(
            "SELECT upsert_embeddings('st', '{{d}}', ARRAY[{ONE}]::uuid[], '{{0}}', '{{x}}', ARRAY[embed('x')])"
        ),
    ] {
        assert_eq!(session.refusal(&call), "22000", "expected no vector of 384 dimensions by {call}");
    }
    // What waits is refused when its turn comes, and recorded.
    session.run(&format!("SELECT queue_documents('st', 'd', ARRAY[{ONE}]::uuid[], ARRAY['a pump'])"));
    session.run("CALL run_embedding_jobs()");
    assert_eq!(session.text("SELECT count(*) FROM st.vector_embeddings"), "0");
    session.still_embeds();
}
