//! The lists that everybody reads, and `drop_model`, which asks them, survive whatever a role can make (29).

use crate::database::{Database, MODEL};
use crate::process::peak_kib;
use crate::session::Session;

/// What reads the catalogue for everybody.
const LISTS: [&str; 8] = [
    "SELECT * FROM vector_tools.searched_tables",
    "SELECT * FROM vector_tools.searchable_tables",
    "SELECT * FROM vector_tools.audited_tables",
    "SELECT * FROM vector_tools.domains",
    "SELECT * FROM vector_tools.vector_stores",
    "SELECT * FROM vector_tools.search_progress",
    "SELECT * FROM vector_tools.search_drift",
    "SELECT * FROM vector_tools.embedding_errors",
];

fn with_stranger(role: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(role);
    database.create_role(role);
    database.connect().run(&format!("CREATE SCHEMA {role} AUTHORIZATION {role}"));
    let mut stranger = database.connect_as(role);
    stranger.run(&format!("CREATE TABLE {role}.t (id int PRIMARY KEY, a text)"));
    (database, stranger)
}

/// The lists that fail, or that take more memory than a list of nothing should, each in a session of its own.
fn broken(database: &Database, what: &str) -> Vec<String> {
    const MOST_KIB: u64 = 65_536;
    let drop_model = format!("BEGIN; SELECT drop_model('{MODEL}'); ROLLBACK");
    let mut broken = Vec::new();
    for list in LISTS.into_iter().chain([drop_model.as_str()]) {
        let mut session = database.connect();
        // What every session takes when it is asked for the first time.
        session.run("SELECT name FROM vector_tools.models");
        let before = peak_kib(session.pid);
        let answer = session.ask_rows(list);
        let grown = peak_kib(session.pid).saturating_sub(before);
        match answer {
            Err(error) => broken.push(format!("{what}: {list}: {} {}", error.code().code(), error.message())),
            Ok(_) if grown > MOST_KIB => broken.push(format!("{what}: {list}: {grown} kB")),
            Ok(_) => {}
        }
    }
    broken
}

// trust 29
#[test]
fn arguments_of_triggers_break_no_list() {
    let (database, mut stranger) = with_stranger("lists_arguments");
    let functions = ["embed_row", "queue_row", "audit_change"];
    let arguments = [
        ("deep JSON", "repeat('[', 100000) || repeat(']', 100000)"),
        (
            "JSON of all kinds",
            "'{\"order\": [[], {}, null, 1e300], \"chunking\": {\"a\": []}, \"next\": {}}'",
        ),
        ("a long text", "repeat('\\', 3000000)"),
        ("signs that arrays know", "'},{\"\\\"NULL'"),
        ("no text", "''"),
    ];
    let mut bad = Vec::new();
    for (what, argument) in arguments {
        for function in functions {
            stranger.run(&format!(
                "DO $do$ BEGIN EXECUTE format('CREATE TRIGGER x AFTER INSERT ON lists_arguments.t FOR EACH ROW
                     EXECUTE FUNCTION vector_tools.{function}(%L, %L, %L)', {argument}, 'content', {argument}); END $do$"
            ));
            bad.extend(broken(&database, &format!("{what} for {function}")));
            stranger.run("DROP TRIGGER x ON lists_arguments.t");
        }
    }
    assert!(bad.is_empty(), "expected arguments of triggers to harm no list:\n{}", bad.join("\n"));
}

// trust 29
#[test]
fn defaults_of_columns_break_no_list() {
    let (database, mut stranger) = with_stranger("lists_defaults");
    // The deepest that a session can make by itself may be too deep for one that has come deeper before it reads it.
    let deepest = |depth: usize| {
        let model = format!("{}'x'{}", "upper(".repeat(depth), ")".repeat(depth));
        format!(
            "CREATE TABLE lists_defaults.vector_embeddings (id int, embedding vector(3), embedding_model text DEFAULT {model})
                 PARTITION BY LIST (id)"
        )
    };
    let (mut made, mut refused) = (1_usize, 12_000_usize);
    while refused - made > 30 {
        let depth = made.midpoint(refused);
        stranger.run("DROP TABLE IF EXISTS lists_defaults.vector_embeddings");
        match stranger.ask_rows(&deepest(depth)) {
            Ok(_) => made = depth,
            Err(_) => refused = depth,
        }
    }
    stranger.run("DROP TABLE IF EXISTS lists_defaults.vector_embeddings");
    stranger.run(&deepest(made));
    let bad = broken(&database, "a deep default");
    assert!(bad.is_empty(), "expected a default to harm no list:\n{}", bad.join("\n"));
}
