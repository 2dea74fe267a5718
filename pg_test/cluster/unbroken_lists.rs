//! The lists that everybody reads, and `drop_model`, which asks them, survive whatever a role can make (29).

use crate::database::{Database, MODEL};
use crate::process::peak_kib;
use crate::session::Session;

/// What reads the catalogue for everybody.
const LISTS: [&str; 8] = [
    "SELECT * FROM vector_tools.searchable_tables",
    "SELECT * FROM vector_tools.embedded_tables",
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

/// One of each kind of table in a list, of a role that gives them to everybody to read.
fn make_listed(stranger: &mut Session, role: &str) {
    stranger.run(&format!(
        "SET search_path = {role}, public;
         CREATE TABLE vector_embeddings (id int, embedding vector(3), embedding_model text DEFAULT 'm', chunk_index int)
             PARTITION BY LIST (id);
         CREATE TABLE part PARTITION OF vector_embeddings DEFAULT; INSERT INTO part VALUES (1, NULL, 'm', 0);
         SELECT create_domain_memories_table('kept', '{MODEL}');
         CREATE TABLE searched (id int PRIMARY KEY, body text); INSERT INTO searched VALUES (1, NULL);
         SELECT enable_search('searched', '{{body}}', '{MODEL}', mode => 'manual', index_kind => 'none');
         CREATE TABLE tickets (id int PRIMARY KEY, body text, v vector(384));
         CREATE TRIGGER embed BEFORE INSERT ON tickets
             FOR EACH ROW EXECUTE FUNCTION vector_tools.embed_row('body', 'v', '{MODEL}');
         GRANT USAGE ON SCHEMA {role} TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA {role} TO PUBLIC"
    ));
}

/// What the lists say of them.
const COUNTED: &str = "SELECT source, rows FROM vector_tools.search_drift UNION ALL
    SELECT table_name, total FROM vector_tools.search_progress UNION ALL
    SELECT source, memories FROM vector_tools.domains UNION ALL
    SELECT source, size_bytes / size_bytes FROM vector_tools.domains";

fn counted(session: &mut Session) -> Vec<String> {
    let mut rows =
        session.rows(&format!("SELECT split_part(c.source::text, '.', 2), c.rows FROM ({COUNTED}) AS c"));
    rows.sort_unstable();
    rows
}

const ALL_COUNTED: [&str; 7] = [
    "kept_memories|0",
    "kept_memories|0",
    "kept_memories|1",
    "searched|0",
    "searched|1",
    "tickets|0",
    "vector_embeddings|1",
];

// trust 29
#[test]
fn nobody_waits_for_a_table_that_somebody_has_for_himself() {
    let (database, mut stranger) = with_stranger("lists_locked");
    make_listed(&mut stranger, "lists_locked");
    let mut reader = database.connect();
    reader.run("SET statement_timeout = '30s'");
    assert_eq!(counted(&mut reader), ALL_COUNTED);
    let calls = [
        format!("BEGIN; SELECT drop_model('{MODEL}'); ROLLBACK"),
        "SELECT store, model FROM vector_tools.vector_stores".to_owned(),
    ];
    let locks = [
        (
            "vector_embeddings, kept_memories, searched, tickets",
            vec!["kept_memories", "searched", "tickets", "vector_embeddings"],
        ),
        ("ONLY part, searched_search", vec!["searched", "vector_embeddings"]),
    ];
    for (tables, uncounted) in locks {
        stranger.run(&format!("BEGIN; LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"));
        for list in LISTS.into_iter().chain(calls.iter().map(String::as_str)) {
            if let Err(error) = reader.ask_rows(list) {
                assert_ne!(error.code().code(), "57014", "expected {list} not to wait");
                reader.run("ROLLBACK");
            }
        }
        reader.fails(
            "42P01",
            "SELECT upsert_document('nowhere', 'report', '00000000-0000-0000-0000-000000000001', ARRAY['a'])",
        );
        assert_eq!(
            reader.rows("SELECT store, model FROM vector_tools.vector_stores"),
            ["lists_locked.vector_embeddings|m"],
            "expected stores to be known without their lock"
        );
        reader.take_notices();
        for line in counted(&mut reader) {
            let (table, rows) = line.split_once('|').expect("two columns");
            assert_eq!(
                rows == "∅",
                uncounted.contains(&table),
                "expected no count of what is locked alone: {line}"
            );
        }
        let said = reader.take_notices();
        assert!(said.is_empty(), "expected no word about what is locked, not {said:?}");
        stranger.run("ROLLBACK");
    }
    assert_eq!(counted(&mut reader), ALL_COUNTED);
    // A model of a store that is locked is in use.
    stranger.run(&format!("ALTER TABLE vector_embeddings ALTER embedding_model SET DEFAULT '{MODEL}'"));
    stranger.run("BEGIN; LOCK TABLE vector_embeddings IN ACCESS EXCLUSIVE MODE");
    let refused = reader.fails("2BP01", &format!("SELECT drop_model('{MODEL}')"));
    assert!(refused.message().contains("lists_locked.vector_embeddings"), "expected the store in {refused}");
}

/// What PostgreSQL would run of a table's when it plans to count it, and what gives the table back.
const RUNNING: [(&str, &str, &str); 8] = [
    ("vector_embeddings", "CREATE INDEX x ON part (id) WHERE lists_code.runs(1)", "DROP INDEX x"),
    ("vector_embeddings", "CREATE INDEX x ON part ((id + lists_code.number(1)))", "DROP INDEX x"),
    (
        "vector_embeddings",
        "CREATE STATISTICS x ON (id + lists_code.number(1)), chunk_index FROM part",
        "DROP STATISTICS x",
    ),
    (
        "kept_memories",
        "CREATE INDEX x ON kept_memories (id) WHERE 1 OPERATOR(lists_code.~~~) 2",
        "DROP INDEX x",
    ),
    (
        "kept_memories",
        "CREATE TABLE x (CHECK (true)) INHERITS (kept_memories); CREATE INDEX ON x (id) WHERE lists_code.runs(1)",
        "DROP TABLE x",
    ),
    ("tickets", "CREATE INDEX x ON tickets (id) WHERE lists_code.runs(1)", "DROP INDEX x"),
    ("searched", "CREATE INDEX x ON searched_search (chunk_index) WHERE lists_code.runs(1)", "DROP INDEX x"),
    ("searched", "CREATE INDEX x ON searched (id) WHERE lists_code.runs(1)", "DROP INDEX x"),
];

/// A function that swallows the request to cancel cannot be stopped, so that none may be run for a list.
// trust 4, 8, 29
#[test]
fn lists_run_no_code_of_owners() {
    let (database, mut stranger) = with_stranger("lists_code");
    make_listed(&mut stranger, "lists_code");
    stranger.run(
        "CREATE FUNCTION runs(n int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'RUNS'; RETURN true; END $$;
         CREATE FUNCTION number(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'RUNS'; RETURN n; END $$;
         CREATE FUNCTION pair(a int, b int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'RUNS'; RETURN true; END $$;
         CREATE OPERATOR ~~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = pair)",
    );
    let mut reader = database.connect();
    let mut wrong = Vec::new();
    for (table, made, gone) in RUNNING {
        stranger.run(made);
        reader.take_notices();
        let lines = counted(&mut reader);
        let said = reader.take_notices();
        if !said.is_empty() {
            wrong.push(format!("{made}: {said:?}"));
        }
        let uncounted: Vec<&String> = lines.iter().filter(|line| line.ends_with('∅')).collect();
        let is_of_table = |line: &&String| line.starts_with(&format!("{table}|"));
        if uncounted.is_empty() || !uncounted.iter().all(is_of_table) {
            wrong.push(format!("{made}: {lines:?}"));
        }
        assert!(
            !counted(&mut stranger).iter().any(|line| line.ends_with('∅')),
            "expected the owner to count: {made}"
        );
        stranger.run(gone);
    }
    assert!(wrong.is_empty(), "expected lists to run nothing:\n{}", wrong.join("\n"));
    // A cast of a type of his own.
    stranger.run(
        "CREATE TYPE kind AS ENUM ('m'); CREATE FUNCTION shown(k kind) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
             $$ BEGIN RAISE NOTICE 'RUNS'; RETURN 'm'; END $$;
         CREATE CAST (kind AS text) WITH FUNCTION shown(kind);
         ALTER TABLE searched_search ALTER model TYPE kind USING 'm'",
    );
    assert!(counted(&mut reader).contains(&"searched|∅".to_owned()));
    assert!(reader.take_notices().is_empty(), "expected no cast to run");
    stranger.run(
        "ALTER TABLE searched_search ALTER model TYPE text USING 'm';
         CREATE INDEX ON searched_search (lower(content)) WHERE length(content) > 0;
         CREATE INDEX ON part USING hnsw ((embedding::halfvec(3)) halfvec_cosine_ops)",
    );
    assert_eq!(
        counted(&mut reader),
        ALL_COUNTED,
        "expected functions of the server and of pgvector to be trusted"
    );
}
