//! Models and libraries that are missing, damaged or unfit: each its own SQLSTATE, a detail and a
//! hint, and a session that goes on (23).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use postgres::error::DbError;

use crate::database::{Database, MODEL};
use crate::models::Folder;
use crate::process::capabilities;
use crate::report::skipped;
use crate::session::Session;

/// A user of a bad model must be told what is wrong and what to do, and lose nothing.
fn check_told(session: &mut Session, error: &DbError) {
    let (detail, hint) = (error.detail().unwrap_or_default(), error.hint().unwrap_or_default());
    session.still_embeds();
    let said = format!("{}: {}", error.code().code(), error.message());
    assert!(!detail.is_empty(), "expected a detail beside {said}");
    assert!(!hint.is_empty(), "expected a hint beside {said}");
}

fn check_statement(name: &str, sqlstate: &str, statement: &str) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    let error = session.fails(sqlstate, statement);
    check_told(&mut session, &error);
}

fn check_folder(name: &str, sqlstate: &str, folder: &Path) {
    check_statement(name, sqlstate, &format!("SELECT register_model('bad', '{}')", folder.display()));
}

fn check_broken_file(name: &str, sqlstate: &str, file: &str, content: &str) {
    let folder = Folder::new();
    check_folder(name, sqlstate, &folder.copy_with_file(MODEL, "model", file, content));
}

fn check_library(name: &str, sqlstate: &str, library: &Path) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    // The embedding process has the library that the server's settings name.
    session.run("SET vector_tools.embedder = 'backend'");
    session.run(&format!("SET vector_tools.onnxruntime_library = '{}'", library.display()));
    let error = session.fails(sqlstate, "SELECT embed('anything')");
    session.run("RESET vector_tools.onnxruntime_library");
    check_told(&mut session, &error);
}

// trust 23
#[test]
fn an_unknown_model_is_42704_and_its_neighbour_is_named() {
    check_statement("bad_unknown", "42704", "SELECT embed('anything', 'all-MiniLM-L6')");
}

// trust 23
#[test]
fn a_missing_library_is_55000_and_can_be_mended_in_the_session() {
    check_library("bad_library_missing", "55000", Path::new("/nowhere/libonnxruntime.so"));
}

// trust 23
#[test]
fn a_file_that_is_no_library_is_58000() {
    let folder = Folder::new();
    let library = folder.path().join("libonnxruntime.so");
    fs::write(&library, "this is no library").expect("a file in a new folder");
    check_library("bad_library_text", "58000", &library);
}

// trust 23
#[test]
fn a_library_that_is_not_onnxruntime_is_58000() {
    let database = Database::empty("bad_library_path");
    let folder = database.connect().text("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    check_library("bad_library_other", "58000", &Path::new(&folder).join("pgoutput.so"));
}

// trust 23
#[test]
fn a_missing_folder_is_58p01() {
    check_folder("bad_folder", "58P01", Path::new("/nowhere/model"));
}

// trust 23
#[test]
fn a_folder_without_a_graph_is_58p01() {
    let folder = Folder::new();
    check_folder("bad_no_graph", "58P01", folder.path());
}

// trust 23
#[test]
fn a_corrupt_graph_is_22p03() {
    check_broken_file("bad_graph", "22P03", "model.onnx", "not a graph");
}

// trust 23
#[test]
fn an_empty_graph_is_22p03() {
    check_broken_file("bad_graph_empty", "22P03", "model.onnx", "");
}

// trust 23
#[test]
fn a_corrupt_tokenizer_is_22p02() {
    check_broken_file("bad_tokenizer", "22P02", "tokenizer.json", "{\"version\": \"1.0\"");
}

// trust 23
#[test]
fn a_corrupt_configuration_is_22032() {
    check_broken_file("bad_configuration", "22032", "1_Pooling/config.json", "{");
    check_broken_file("bad_modules", "22032", "modules.json", "[1, 2]");
}

// trust 23
#[test]
fn an_unreadable_folder_is_42501() {
    let database = Database::with_extension("bad_unreadable");
    let mut session = database.connect();
    if capabilities(session.pid) != 0 {
        skipped("an_unreadable_folder_is_42501", "this server may read every file");
        return;
    }
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "closed");
    fs::set_permissions(&model, fs::Permissions::from_mode(0o000)).expect("its owner may close it");
    let error = session.fails("42501", &format!("SELECT register_model('bad', '{}')", model.display()));
    fs::set_permissions(&model, fs::Permissions::from_mode(0o755)).expect("its owner may open it");
    check_told(&mut session, &error);
}

// trust 23
#[test]
fn an_unknown_output_shape_is_0a000() {
    let folder = Folder::new();
    check_folder("bad_shape", "0A000", &folder.copy_fixture("unknown-shape"));
}

// trust 23
#[test]
fn a_module_that_is_not_computed_is_0a000() {
    let folder = Folder::new();
    let model = folder.copy_fixture("hf-last-hidden-state");
    let modules = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]"#;
    fs::write(model.join("modules.json"), modules).expect("a copy may be written");
    check_folder("bad_module", "0A000", &model);
}

// trust 23
#[test]
fn an_unknown_output_is_0a000() {
    let statement =
        format!("SELECT register_model('bad', '{MODEL}', options => '{{\"output\": \"no_such_output\"}}')");
    check_statement("bad_output", "0A000", &statement);
}

// trust 23
#[test]
fn wrong_dimensions_are_22000() {
    let database = Database::with_extension("bad_dimensions");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE small (id int PRIMARY KEY, body text, v vector(3),
             l tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
         INSERT INTO small VALUES (1, 'a small vector', '[1,2,3]')",
    );
    let error = session.fails("22000", "SELECT * FROM hybrid_search('small', 'vector')");
    check_told(&mut session, &error);
}

// trust 23
#[test]
fn an_existing_name_is_42710() {
    check_statement("bad_existing", "42710", &format!("SELECT register_model('{MODEL}')"));
}

// trust 23
#[test]
fn a_name_with_quotes_is_42602() {
    check_statement("bad_name", "42602", "SELECT register_model('o''b\"r', 'all-MiniLM-L6-v2')");
}

// trust 23
#[test]
fn an_unknown_option_is_22023() {
    let statement = format!("SELECT register_model('bad', '{MODEL}', options => '{{\"poling\": \"cls\"}}')");
    check_statement("bad_option", "22023", &statement);
}

// trust 23
#[test]
fn an_unknown_provider_is_0a000() {
    check_statement(
        "bad_provider",
        "0A000",
        &format!("SELECT register_model('bad', '{MODEL}', 'carrier pigeon')"),
    );
}

// trust 23
#[test]
fn a_model_in_use_is_2bp01() {
    let database = Database::with_extension("bad_in_use");
    let mut session = database.connect();
    session.run("SELECT create_domain_memories_table('health')");
    let error = session.fails("2BP01", &format!("SELECT drop_model('{MODEL}')"));
    assert!(error.message().contains("health_memories"), "expected the table's name in: {}", error.message());
    check_told(&mut session, &error);
}

// trust 23
#[test]
fn dropping_an_unknown_model_is_42704() {
    check_statement("bad_drop", "42704", "SELECT drop_model('all-MiniLM-L6')");
}
