//! Entries of the queue, which have many rows each: how they are made, leased in part, and split where
//! rows end differently.

use crate::database::Database;
use crate::searchable::{QUEUED, UNTRUE, drain, embedded};

const ENTRIES: &str = "SELECT array_length(keys, 1) FROM vector_tools.queue ORDER BY id";
const PROGRESS: &str = "SELECT pending, failed FROM vector_tools.search_progress";

#[test]
fn a_statement_writes_few_entries() {
    let (_database, mut session) = embedded("entries_few");
    session.run("INSERT INTO docs SELECT i, 't', 'text ' || i FROM generate_series(101, 700) AS i");
    assert_eq!(session.rows(ENTRIES), ["256", "256", "88"]);
    session
        .run("UPDATE docs SET body = 'x' WHERE id = 101; UPDATE docs SET body = 'x' WHERE id IN (102, 103)");
    assert_eq!(session.rows(ENTRIES), ["256", "256", "88", "1", "2"]);
    // Rows that were queued twice count twice, as they did when they had entries of their own.
    assert_eq!(session.text(PROGRESS), "603|0");
    // Keys of any length stay in the table itself.
    session.run(
        "CREATE TABLE long (id text PRIMARY KEY, body text);
         SELECT enable_search('long', ARRAY['body']);
         INSERT INTO long SELECT repeat(md5(i::text), 40), 'x' FROM generate_series(1, 10) AS i",
    );
    let long = "SELECT count(*), sum(array_length(keys, 1)), max(pg_column_size(keys)) < 8000
        FROM vector_tools.queue WHERE source = 'long'::regclass";
    assert_eq!(session.text(long), "4|10|t");
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
    assert_eq!(session.rows(QUEUED), [""; 0]);
}

#[test]
fn an_entry_that_is_leased_in_part_keeps_the_rest() {
    let (database, mut session) = embedded("entries_part");
    session.run("INSERT INTO docs SELECT i, 't', 'text ' || i FROM generate_series(101, 110) AS i");
    let queued_at = session.text("SELECT enqueued_at FROM vector_tools.queue");
    session.run("BEGIN");
    assert_eq!(session.text("SELECT embedded FROM vector_tools.run_embedding_batch('docs', 4)"), "4");
    let mut other = database.connect();
    assert_eq!(
        other.rows("SELECT * FROM vector_tools.run_embedding_batch('docs', 4)"),
        [""; 0],
        "expected the entry to be taken"
    );
    session.run("ROLLBACK");
    assert_eq!(other.text("SELECT embedded FROM vector_tools.run_embedding_batch('docs', 4)"), "4");
    assert_eq!(session.rows(ENTRIES), ["6"]);
    assert_eq!(session.text("SELECT enqueued_at FROM vector_tools.queue"), queued_at);
    assert_eq!(session.rows(QUEUED), ["105", "106", "107", "108", "109", "110"]);
    // Several entries are leased where one is not enough, and a row of two of them is embedded once.
    session.run("UPDATE docs SET body = 'again' WHERE id = 105; UPDATE docs SET body = 'again' WHERE id = 1");
    let batch = "SELECT embedded, unchanged FROM vector_tools.run_embedding_batch('docs', 8)";
    assert_eq!(session.text(batch), "7|0");
    assert_eq!(session.rows(QUEUED), [""; 0]);
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn another_driver_takes_other_entries() {
    let (database, mut session) = embedded("entries_drivers");
    session.run("INSERT INTO docs SELECT i, 't', 'text ' || i FROM generate_series(1001, 1600) AS i");
    let batch = "SELECT embedded FROM vector_tools.run_embedding_batch('docs')";
    session.run("BEGIN");
    assert_eq!(session.text(batch), "256");
    let mut other = database.connect();
    assert_eq!(other.text(batch), "256");
    session.run("COMMIT");
    assert_eq!(session.rows(ENTRIES), ["88"]);
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn rows_that_fail_leave_their_entry_and_are_told_one_by_one() {
    let database = Database::with_extension("entries_failed");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (a int, b text, body text, language text, PRIMARY KEY (a, b));
         SELECT enable_search('docs', ARRAY['body'], text_configuration => 'language');
         INSERT INTO docs SELECT i, 'k', 'text ' || i, CASE WHEN i IN (3, 7) THEN 'klingon' ELSE 'english' END
             FROM generate_series(1, 20) AS i",
    );
    let mut holder = database.connect();
    holder.run("BEGIN; UPDATE docs SET body = 'not yet' WHERE a = 5");
    let batch = "SELECT embedded, postponed, failed FROM vector_tools.run_embedding_batch('docs')";
    assert_eq!(session.text(batch), "17|1|2");
    let left =
        "SELECT array_to_string(keys, ','), category, gave_up, next_try > enqueued_at FROM vector_tools.queue
        ORDER BY keys[1][1]::int";
    assert_eq!(session.rows(left), ["3,k|row|t|f", "5,k|∅|f|t", "7,k|row|t|f"]);
    let errors = "SELECT id, sqlstate, attempts FROM vector_tools.embedding_errors ORDER BY id";
    assert_eq!(session.rows(errors), ["[\"3\",\"k\"]|42704|1", "[\"7\",\"k\"]|42704|1"]);
    assert_eq!(session.text(PROGRESS), "1|2");
    // A dead row that is changed leaves nothing behind; the other one stays.
    session.run("UPDATE docs SET language = 'german' WHERE a = 3");
    assert_eq!(session.text(batch), "1|0|0");
    assert_eq!(session.rows(errors), ["[\"7\",\"k\"]|42704|1"]);
    assert_eq!(session.text("SELECT retry_embedding_errors('docs')"), "1");
    holder.run("ROLLBACK");
}

#[test]
fn a_model_that_is_gone_keeps_entries_together_and_counts_rows() {
    let (_database, mut session) = embedded("entries_model");
    session.run(
        "CREATE TABLE kept AS SELECT * FROM vector_tools.model_registry WHERE name LIKE '%int8';
         INSERT INTO docs SELECT i, 't', 'text ' || i FROM generate_series(101, 120) AS i;
         DELETE FROM vector_tools.model_registry WHERE name LIKE '%int8'",
    );
    assert_eq!(session.text("SELECT failed FROM vector_tools.run_embedding_batch()"), "20");
    assert_eq!(session.rows(ENTRIES), ["20"]);
    assert_eq!(session.text(PROGRESS), "0|20");
    let errors = "SELECT count(*), count(DISTINCT id), min(attempts) FROM vector_tools.embedding_errors";
    assert_eq!(session.text(errors), "20|20|1");
    session.run("INSERT INTO vector_tools.model_registry SELECT * FROM kept");
    assert_eq!(session.text("SELECT retry_embedding_errors('docs', 'model')"), "20");
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
    assert_eq!(session.rows(QUEUED), [""; 0]);
}

#[test]
fn rows_behind_large_ones_stay_in_their_entry() {
    let (_database, mut session) = embedded("entries_large");
    session.run(
        "INSERT INTO docs SELECT i, 't', repeat('long words ', 200000) FROM generate_series(101, 105) AS i",
    );
    let batch = "SELECT embedded, postponed FROM vector_tools.run_embedding_batch('docs')";
    assert_eq!(session.text(batch), "1|4");
    assert_eq!(session.rows(ENTRIES), ["4"]);
    drain(&mut session);
    assert_eq!(session.rows(QUEUED), [""; 0]);
    assert_eq!(session.text("SELECT count(*) FROM docs_search"), "7");
}

#[test]
fn a_key_that_is_written_otherwise_is_the_same_row() {
    let database = Database::with_extension("entries_keys");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (id numeric PRIMARY KEY, title text, body text);
         INSERT INTO docs VALUES (1.0, 'pumps', 'the pump lost pressure');
         SELECT enable_search('docs', ARRAY['title', 'body']);
         UPDATE docs SET id = 1.00",
    );
    assert_eq!(session.rows(QUEUED), ["1.0"]);
    drain(&mut session);
    assert_eq!(session.text("SELECT row_id FROM docs_search"), "1.00");
    assert_eq!(session.text(UNTRUE), "0");
    session.run("UPDATE docs SET id = 2");
    assert_eq!(session.rows(QUEUED), ["2"]);
    drain(&mut session);
    assert_eq!(session.rows("SELECT row_id FROM docs_search"), ["2"]);
}
