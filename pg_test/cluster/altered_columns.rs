//! The owner of a table may give its columns any type. What reads them says so with a plain error: it neither takes a
//! number for the address of a text, nor ends the server, nor breaks the lists that others read (27, 29).

use crate::database::Database;
use crate::session::Session;

/// The tables of each kind that the extension makes for its users, and reads.
const TABLES: [&str; 7] = [
    "own.docs_search",
    "own.vector_audit_log",
    "own.notes_memories",
    "own.vector_embeddings",
    "own.embedding_collections",
    "own.embedding_jobs",
    "own.vector_search_logs",
];

/// A number is the address of nothing, a text a pointer where a number is expected.
const TYPES: [(&str, &str); 2] = [("bigint", "4242424242"), ("text", "'a text'")];

const LISTS: [&str; 6] = [
    "SELECT * FROM vector_tools.search_drift",
    "SELECT * FROM vector_tools.search_progress",
    "SELECT * FROM vector_tools.domains",
    "SELECT * FROM vector_tools.vector_stores",
    "SELECT * FROM vector_tools.embedded_tables",
    "SELECT * FROM vector_tools.audited_tables",
];

/// What reads or writes the tables of a kind: a part of their names, and the calls.
const CALLS: [(&str, &[&str]); 4] = [
    (
        "docs_search",
        &[
            "SELECT * FROM hybrid_search('own.docs', 'pump', highlight => true)",
            "SELECT * FROM keyword_search('own.docs', 'pump', chunks => 'all')",
            "SELECT * FROM semantic_search('own.docs', 'pump', diversity => 0.5)",
            "SELECT explain_search('own.docs', 'pump')",
            "SELECT * FROM hybrid_search('own.docs_search', 'pump')",
            "SELECT refresh_search_stats('own.docs_search')",
            "SELECT * FROM vector_tools.run_embedding_batch('own.docs')",
            "SELECT enable_search('own.docs', '{body}', mode => 'sync', index_kind => 'none');
             UPDATE own.docs SET body = 'a tap'",
            "SELECT disable_search('own.docs')",
        ],
    ),
    (
        "audit_log",
        &[
            "SELECT * FROM audit_history('own.docs')",
            "SELECT * FROM audit_history('own.docs', '1')",
            "UPDATE own.docs SET body = 'a tap'",
            "SELECT enable_audit('own.docs')",
        ],
    ),
    (
        "memories",
        &[
            "SELECT * FROM search_memories('pump', 'notes')",
            "SELECT * FROM search_memories('pump', 'notes', min_importance => 0.1, filter => '{\"source\": \"a\"}')",
            "SELECT store_memory('a tap', 'notes', id => '2')",
            "SELECT update_memory('1', 'a tap', 'notes', importance => 0.5)",
            "SELECT delete_memory('1', 'notes')",
            "SELECT * FROM hybrid_search('own.notes_memories', 'pump', highlight => true)",
            "SELECT create_domain_memories_table('notes')",
        ],
    ),
    (
        "",
        &[
            "SELECT * FROM search_embeddings('own', 'pump')",
            "SELECT * FROM search_embeddings('own', 'pump', collection => 'c', metadata => '{\"a\": 1}')",
            "SELECT count_embeddings('own', collection => 'c')",
            "SELECT * FROM upsert_document('own', 'd', '00000000-0000-0000-0000-000000000001', 'a pump, a tap', strategy => 'fixed', max_tokens => 10, overlap => 0)",
            "SELECT * FROM upsert_document('own', 'd', '00000000-0000-0000-0000-000000000001', 'a tap', collection => 'c')",
            "SELECT delete_document('own', 'd', '00000000-0000-0000-0000-000000000001')",
            "SELECT create_collection('own', 'e')",
            "SELECT drop_collection('own', 'c', true)",
            "SELECT queue_documents('own', 'd', ARRAY['00000000-0000-0000-0000-000000000002']::uuid[], ARRAY['a tap'], collection => 'c')",
            "SELECT * FROM vector_tools.run_embedding_batch()",
            "SELECT create_namespace('own', 'n')",
            "SELECT clear_namespace('own', 'default')",
            "SELECT index_vector_store('own', 'none')",
            "SELECT create_vector_store('own')",
        ],
    ),
];

fn with_all_tables(name: &str) -> (Database<'static>, Session) {
    let database = Database::with_extension(name);
    let mut session = database.connect();
    for sql in [
        "SET search_path = own, public",
        "SET vector_tools.log_searches = on",
        "SELECT create_vector_store('own', index_kind => 'none')",
        "SELECT create_collection('own', 'c')",
        "SELECT upsert_document('own', 'd', '00000000-0000-0000-0000-000000000001', 'a pump', collection => 'c')",
        "SELECT queue_documents('own', 'd', ARRAY['00000000-0000-0000-0000-000000000003']::uuid[], ARRAY['a pipe'])",
        "SELECT count(*) FROM search_embeddings('own', 'pump')",
        "SELECT create_domain_memories_table('notes')",
        "SELECT store_memory('a pump', 'notes', id => '1')",
        "CREATE TABLE docs (id int PRIMARY KEY, body text)",
        "SELECT enable_audit('docs'), enable_search('docs', '{body}', mode => 'manual', index_kind => 'none')",
        "INSERT INTO docs VALUES (1, 'a pump')",
        "SELECT vector_tools.run_embedding_batch('docs')",
        "INSERT INTO docs VALUES (2, 'a valve')",
    ] {
        session.run(sql);
    }
    (database, session)
}

/// Gives a column another type, however it is used.
fn altered(session: &mut Session, table: &str, column: &str, (kind, value): (&str, &str)) -> bool {
    session.run("SAVEPOINT alter_column");
    let altered =
        format!("ALTER TABLE {table} ALTER {column} DROP DEFAULT, ALTER {column} TYPE {kind} USING {value}");
    let replaced = format!(
        "ALTER TABLE {table} DROP COLUMN {column} CASCADE; ALTER TABLE {table} ADD {column} {kind} DEFAULT {value}"
    );
    [altered, replaced].iter().any(|sql| {
        let is_done = session.ask_rows(sql).is_ok();
        session.run(if is_done { "RELEASE alter_column" } else { "ROLLBACK TO alter_column" });
        is_done || {
            session.run("SAVEPOINT alter_column");
            false
        }
    })
}

// trust 29
#[test]
fn columns_of_other_types_are_plain_errors() {
    let (_database, mut session) = with_all_tables("altered_columns");
    let columns: Vec<String> = session.rows(
        "SELECT a.attrelid::regclass || '|' || quote_ident(a.attname) FROM pg_attribute AS a
         JOIN pg_class AS c ON c.oid = a.attrelid
         WHERE c.relnamespace = 'own'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND c.relname <> 'docs' AND a.attnum > 0 ORDER BY 1",
    );
    assert!(columns.len() > 60, "expected the columns of all tables, not {columns:?}");
    let (mut bad, mut tried) = (Vec::new(), 0);
    for line in &columns {
        let (table, column) = line.split_once('|').expect("a table and a column");
        let table = if table.contains('.') { table.to_owned() } else { format!("own.{table}") };
        assert!(TABLES.contains(&table.as_str()), "expected a kind of table that is known: {table}");
        let calls = CALLS.iter().find(|(part, _)| table.contains(part)).map_or(&[][..], |(_, calls)| *calls);
        for other in TYPES {
            session.run("BEGIN");
            if altered(&mut session, &table, column, other) {
                tried += 1;
                for call in LISTS.iter().chain(calls) {
                    session.run("SAVEPOINT call");
                    // What ends the connection fails the test.
                    if let Err(error) = session.ask_rows(call) {
                        let code = error.code().code();
                        if LISTS.contains(call) || code == "XX000" {
                            bad.push(format!(
                                "{table}.{column} {}: {call}: {code} {}",
                                other.0,
                                error.message()
                            ));
                        }
                    }
                    session.run("ROLLBACK TO call");
                }
            }
            session.run("ROLLBACK");
        }
    }
    assert!(tried > 100, "expected to alter most columns, not {tried}");
    assert!(bad.is_empty(), "expected plain errors, and whole lists:\n{}", bad.join("\n"));
}

// trust 29
#[test]
fn an_altered_column_is_named_and_leaves_the_lists_of_others_whole() {
    let (database, mut session) = with_all_tables("altered_named");
    session.run(
        "CREATE TABLE others (id int PRIMARY KEY, body text); INSERT INTO others VALUES (1, 'a pump');
         SELECT enable_search('others', '{body}', mode => 'sync', index_kind => 'none')",
    );
    let drift = "SELECT source, role, rows IS NULL FROM vector_tools.search_drift
        WHERE source::text ~ 'docs|others' ORDER BY source::text";
    // What has the form of a text still is one.
    session.run(
        "CREATE DOMAIN name_of_model AS varchar(80); ALTER TABLE docs_search ALTER model TYPE name_of_model;
         ALTER TABLE vector_audit_log ALTER operation TYPE varchar(50)",
    );
    assert_eq!(session.rows(drift), ["docs|live|f", "others|live|f"]);
    assert_eq!(session.text("SELECT operation FROM audit_history('docs', '1')"), "INSERT");
    session.run(
        "ALTER TABLE docs_search ALTER model TYPE bigint USING 4242424242;
         ALTER TABLE vector_audit_log ALTER operation TYPE bigint USING 81985529216486895",
    );
    session.take_notices();
    assert_eq!(session.rows(drift), ["docs|live|t", "others|live|f"]);
    let said: Vec<String> = session.take_notices().iter().map(|notice| notice.message().to_owned()).collect();
    let expected =
        "table \"own\".\"docs\" was not counted: column \"model\" is of type bigint, not of type text";
    assert_eq!(said, [expected]);
    let error = session.fails("42804", "SELECT * FROM audit_history('docs')");
    assert_eq!(error.message(), "column \"operation\" is of type bigint, not of type text");
    assert_eq!(error.detail(), Some("Column \"operation\" is read as text, and its type is bigint now."));
    assert!(error.hint().is_some_and(|hint| hint.contains("ALTER TABLE")), "{error:?}");
    // Pointers are not numbers, either.
    session.run(
        "ALTER TABLE vector_audit_log ALTER operation TYPE text, ALTER transaction_id TYPE text USING 'x'",
    );
    let error = session.fails("42804", "SELECT transaction_id FROM audit_history('docs')");
    assert_eq!(error.message(), "column \"transaction_id\" is of type text, not of type xid8");
    session.run(
        "CREATE TYPE kind AS ENUM ('INSERT'); ALTER TABLE vector_audit_log
        ALTER transaction_id TYPE xid8 USING '1', ALTER changed_by TYPE kind USING 'INSERT'",
    );
    session.fails("42804", "SELECT * FROM audit_history('docs')");
    assert_eq!(database.connect().text("SELECT 1"), "1", "expected the server to have gone on");
}
