//! Dump and restore: what was there is there again, once (16).

use std::path::Path;
use std::process::{Command, Stdio};

use crate::database::{Database, MODEL};
use crate::models::Folder;
use crate::server::program;

/// A table of each kind that embeds, and a model that is not bundled.
fn fill(database: &Database, model: &Path) {
    database.connect().run(&format!(
        "SELECT register_model('custom', '{}', options => '{{\"query_prefix\": \"query: \", \"max_tokens\": 64}}');
         SELECT create_domain_memories_table('health', 'custom');
         INSERT INTO health_memories (content, metadata) VALUES ('slept well', '{{\"n\": 1}}'), ('ran five miles', '{{}}');
         CREATE TABLE generated (id int PRIMARY KEY, body text,
             embedding vector(384) GENERATED ALWAYS AS (embed(body, 'all-MiniLM-L6-v2')) STORED,
             lexemes tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
         INSERT INTO generated VALUES (1, 'the pump lost pressure'), (2, 'a valve is leaking');
         CREATE TABLE indexed (id int PRIMARY KEY, body text);
         INSERT INTO indexed SELECT i, 'note number ' || i FROM generate_series(1, 20) AS i;
         CREATE INDEX by_meaning ON indexed USING hnsw ((embed(body, 'custom')::vector(384)) vector_cosine_ops)",
        model.display()
    ));
}

/// What must be equal in the original and the restored database.
const FACTS: [&str; 7] = [
    "SELECT id, content, embedding, metadata, created_at, updated_at, lexemes FROM health_memories ORDER BY id",
    "SELECT id, body, embedding, lexemes FROM generated ORDER BY id",
    "SELECT id, body FROM indexed ORDER BY id",
    "SELECT name, source, sha256, tokenizer_sha256, dimensions, max_tokens, query_prefix, bundled
         FROM vector_tools.model_registry ORDER BY name",
    "SELECT tgrelid::regclass, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2",
    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
    "SELECT source, content_column, embedding_column, model FROM vector_tools.embedded_tables",
];

fn check_equal(original: &Database, restored: &Database) {
    let (mut original, mut restored) = (original.connect(), restored.connect());
    for fact in FACTS {
        assert_eq!(restored.rows(fact), original.rows(fact), "expected the same after the restore: {fact}");
    }
    restored.run("INSERT INTO health_memories (content) VALUES ('walked to work')");
    let found = restored
        .text("SELECT content FROM hybrid_search('health_memories', 'going by foot', 1, text_weight => 0)");
    assert_eq!(found, "walked to work", "expected the restored table to embed and to be searched");
    restored.run("INSERT INTO generated VALUES (3, 'another pump')");
    restored.run("SET enable_seqscan = off; SET enable_sort = off");
    let plan = restored.rows("EXPLAIN SELECT id FROM indexed ORDER BY embed(body, 'custom')::vector(384) <=> embed('note 7', 'custom') LIMIT 1");
    assert!(plan.concat().contains("by_meaning"), "expected the restored index in this plan: {plan:#?}");
}

/// Runs one of PostgreSQL's programs, which must succeed without a word of error.
pub fn run(program_name: &str, arguments: &[&str]) {
    let output = Command::new(program(program_name)).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("expected {program_name} to start: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !errors.contains("error") && !errors.contains("ERROR"),
        "expected {program_name} {arguments:?} to succeed:\n{errors}"
    );
}

/// Restores a custom dump in the order that generated columns and indexes of models that are not
/// bundled need: pg_dump puts the data of public before that of the registry.
fn restore_registry_first(restored: &Database, file: &str, options: &[&str]) {
    let connection = restored.connection();
    let restore = |part: &[&str]| {
        run("pg_restore", &[part, &["--exit-on-error", "--dbname", &connection, file]].concat());
    };
    restore(&["--section=pre-data"]);
    restore(&["--data-only", "--schema=vector_tools"]);
    restore(&[&["--section=data", "--section=post-data", "--exclude-schema=vector_tools"], options].concat());
}

fn check_round_trip(name: &str, restore: impl FnOnce(&Database, &Database, &Path)) {
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "custom");
    let original = Database::with_extension(name);
    fill(&original, &model);
    let restored = Database::empty(&format!("{name}_restored"));
    restore(&original, &restored, &folder.path().join("dump"));
    check_equal(&original, &restored);
}

// trust 16
#[test]
fn a_plain_dump_restores_everything_once() {
    check_round_trip("dump_plain", |original, restored, file| {
        let file = file.display().to_string();
        run("pg_dump", &["--file", &file, "--dbname", &original.connection()]);
        let quiet = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file];
        run("psql", &[quiet.as_slice(), &[&restored.connection()]].concat());
    });
}

// trust 16
#[test]
fn a_custom_dump_restores_everything_once() {
    check_round_trip("dump_custom", |original, restored, file| {
        let file = file.display().to_string();
        run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &original.connection()]);
        run("pg_restore", &["--exit-on-error", "--dbname", &restored.connection(), &file]);
    });
}

/// Jobs do not wait for the registry before they build an index that embeds with a model of it.
// trust 16
#[test]
fn two_jobs_restore_everything_once_after_the_registry() {
    check_round_trip("dump_jobs", |original, restored, file| {
        let file = file.display().to_string();
        run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &original.connection()]);
        restore_registry_first(restored, &file, &["--jobs=2"]);
    });
}

// trust 16
#[test]
fn a_dump_of_inserts_restores_everything_once() {
    check_round_trip("dump_inserts", |original, restored, file| {
        let file = file.display().to_string();
        run("pg_dump", &["--column-inserts", "--file", &file, "--dbname", &original.connection()]);
        let quiet = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file];
        run("psql", &[quiet.as_slice(), &[&restored.connection()]].concat());
    });
}

// trust 16
#[test]
fn a_generated_column_of_a_custom_model_is_restored_after_the_registry() {
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "custom");
    let original = Database::with_extension("dump_generated");
    original.connect().run(&format!(
        "SELECT register_model('custom', '{}');
         CREATE TABLE generated (id int PRIMARY KEY, body text,
             embedding vector(384) GENERATED ALWAYS AS (embed(body, 'custom')) STORED);
         INSERT INTO generated VALUES (1, 'the pump lost pressure')",
        model.display()
    ));
    let restored = Database::empty("dump_generated_restored");
    let file = folder.path().join("dump").display().to_string();
    run("pg_dump", &["--format=custom", "--file", &file, "--dbname", &original.connection()]);
    restore_registry_first(&restored, &file, &[]);
    let fact = "SELECT id, body, embedding FROM generated";
    assert_eq!(restored.connect().rows(fact), original.connect().rows(fact), "expected the same rows");
}

// trust 16
#[test]
fn an_ordinary_owner_restores_a_table_into_a_database_with_the_extension() {
    let original = Database::with_extension("dump_owner");
    original.create_role("dump_owner_role");
    original.connect().run("CREATE SCHEMA own AUTHORIZATION dump_owner_role");
    let mut session = original.connect_as("dump_owner_role");
    session.run("SET search_path = own, public; SELECT create_domain_memories_table('mine')");
    session.run("INSERT INTO mine_memories (content) VALUES ('slept well')");
    let restored = Database::with_extension("dump_owner_restored");
    restored.connect().run("CREATE SCHEMA own AUTHORIZATION dump_owner_role");
    let folder = Folder::new();
    let file = folder.path().join("dump").display().to_string();
    let as_owner = |database: &Database| database.server.connection(&database.name, "dump_owner_role");
    run("pg_dump", &["--table=own.*", "--file", &file, "--dbname", &as_owner(&original)]);
    run("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", &file, &as_owner(&restored)]);
    let found = restored
        .connect_as("dump_owner_role")
        .text("SELECT content FROM hybrid_search('own.mine_memories', 'sleep')");
    assert_eq!(found, "slept well", "expected the owner to search the restored table");
}
