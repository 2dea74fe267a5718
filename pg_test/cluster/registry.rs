//! Models that are registered, dropped and replaced while sessions use them.

use std::fs;
use std::path::Path;

use crate::database::{Database, MODEL};
use crate::models::Folder;
use crate::session::Session;

const OTHER_MODEL: &str = "all-MiniLM-L6-v2";
const VECTOR: &str = "SELECT embed('which file was this?', 'm')::text";

fn register(session: &mut Session, folder: &Path) {
    session.run(&format!("SELECT register_model('m', '{}')", folder.display()));
}

#[test]
fn a_warm_session_sees_another_sessions_registration_at_its_next_statement() {
    let database = Database::with_extension("registry_sessions");
    let folder = Folder::new();
    let first = folder.copy_model(MODEL, "first");
    let second = folder.copy_model(OTHER_MODEL, "second");
    let (mut one, mut warm) = (database.connect(), database.connect());
    warm.still_embeds();
    warm.fails("42704", VECTOR);
    register(&mut one, &first);
    let before = warm.text(VECTOR);
    one.run("SELECT drop_model('m')");
    warm.fails("42704", VECTOR);
    register(&mut one, &second);
    let after = warm.text(VECTOR);
    assert_ne!(before, after, "expected the vector of the newly registered file");
    assert_eq!(one.text(VECTOR), after, "expected both sessions to embed with the same file");
}

#[test]
fn dropping_and_registering_in_one_transaction_reaches_a_warm_session() {
    let database = Database::with_extension("registry_swap");
    let folder = Folder::new();
    let (first, second) = (folder.copy_model(MODEL, "first"), folder.copy_model(OTHER_MODEL, "second"));
    let (mut one, mut warm) = (database.connect(), database.connect());
    register(&mut one, &first);
    let before = warm.text(VECTOR);
    one.run("BEGIN; SELECT drop_model('m')");
    register(&mut one, &second);
    assert_eq!(warm.text(VECTOR), before, "expected the old file until the other session commits");
    one.run("COMMIT");
    assert_ne!(warm.text(VECTOR), before, "expected the new file after the commit");
}

#[test]
fn an_uncommitted_registration_is_invisible_and_a_rolled_back_one_is_gone() {
    let database = Database::with_extension("registry_rollback");
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "first");
    let (mut one, mut other) = (database.connect(), database.connect());
    one.run("BEGIN");
    register(&mut one, &model);
    one.run(VECTOR);
    other.fails("42704", VECTOR);
    one.run("ROLLBACK");
    one.fails("42704", VECTOR);
    one.run("BEGIN; SAVEPOINT s");
    register(&mut one, &model);
    one.run(VECTOR);
    one.run("ROLLBACK TO s");
    one.fails("42704", VECTOR);
    one.run("ROLLBACK");
    assert_eq!(
        one.text("SELECT count(*) FROM vector_tools.models WHERE name = 'm'"),
        "0",
        "expected no trace of m"
    );
}

#[test]
fn a_rolled_back_drop_leaves_the_model_working() {
    let database = Database::with_extension("registry_undrop");
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "first");
    let mut session = database.connect();
    register(&mut session, &model);
    let before = session.text(VECTOR);
    session.run("BEGIN; SELECT drop_model('m')");
    session.fails("42704", VECTOR);
    session.run("ROLLBACK");
    assert_eq!(session.text(VECTOR), before, "expected the same vector after the drop was rolled back");
}

// trust 23
#[test]
fn a_replaced_model_file_is_refused_by_new_sessions_and_named() {
    check_replaced_file("registry_graph", "model.onnx");
}

// trust 23
#[test]
fn a_replaced_tokenizer_is_refused_by_new_sessions_and_named() {
    check_replaced_file("registry_tokenizer", "tokenizer.json");
}

fn check_replaced_file(database: &str, file: &str) {
    let database = Database::with_extension(database);
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "first");
    let mut warm = database.connect();
    // The embedding process would go on with what it has loaded; see embedder_crash.rs.
    warm.run("SET vector_tools.embedder = 'backend'");
    register(&mut warm, &model);
    let before = warm.text(VECTOR);
    let path = model.join(file);
    let registered =
        warm.text(&format!("SELECT encode(sha256(pg_read_binary_file('{}')), 'hex')", path.display()));
    let mut bytes = fs::read(&path).expect("the copy can be read");
    bytes.extend_from_slice(b"\n");
    fs::write(&path, bytes).expect("the copy can be written");
    let found =
        warm.text(&format!("SELECT encode(sha256(pg_read_binary_file('{}')), 'hex')", path.display()));
    let mut fresh = database.connect();
    fresh.run("SET vector_tools.embedder = 'backend'");
    let error = fresh.fails("XX001", VECTOR);
    let detail = error.detail().unwrap_or_default();
    assert!(
        error.message().contains(&path.display().to_string()),
        "expected the path in: {}",
        error.message()
    );
    for sha256 in [registered, found] {
        assert!(detail.contains(&sha256), "expected the sha256 {sha256} in the detail: {detail}");
    }
    fresh.still_embeds();
    assert_eq!(warm.text(VECTOR), before, "expected the warm session to go on with what it has loaded");
}

// trust 21
#[test]
fn the_extension_dropped_and_created_again_reaches_a_warm_session() {
    let database = Database::with_extension("registry_recreate");
    let folder = Folder::new();
    let (first, second) = (folder.copy_model(MODEL, "first"), folder.copy_model(OTHER_MODEL, "second"));
    let (mut one, mut warm) = (database.connect(), database.connect());
    register(&mut one, &first);
    let before = warm.text(VECTOR);
    one.run("DROP EXTENSION vector_tools; CREATE EXTENSION vector_tools");
    warm.fails("42704", VECTOR);
    register(&mut one, &second);
    assert_ne!(warm.text(VECTOR), before, "expected the new file after the extension was created again");
}

#[test]
fn a_look_at_the_registry_that_is_cancelled_is_done_again() {
    let database = Database::with_extension("registry_cancelled");
    let folder = Folder::new();
    let (first, second) = (folder.copy_model(MODEL, "first"), folder.copy_model(OTHER_MODEL, "second"));
    let (mut one, mut warm) = (database.connect(), database.connect());
    register(&mut one, &first);
    let before = warm.text(VECTOR);
    one.run("SELECT drop_model('m')");
    register(&mut one, &second);
    one.run("BEGIN; LOCK TABLE vector_tools.model_registry IN ACCESS EXCLUSIVE MODE");
    warm.run("SET lock_timeout = '100ms'");
    warm.fails("55P03", VECTOR);
    one.run("ROLLBACK");
    assert_ne!(warm.text(VECTOR), before, "expected the vector of the newly registered file");
}
