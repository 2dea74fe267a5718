//! Ordinary tables made searchable: what is queued, what is embedded, and what becomes of changes,
//! failures and two drivers at once (9, 15).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use std::process::Command;

use crate::database::{Database, make_template};
use crate::process::{processor_ticks, wait_until};
use crate::searchable::{
    ENABLE, ENTRIES, QUEUED, SLEEP_OVER_ROWS, UNTRUE, cancel_sleeper, created, drain, embedded, enabled,
};
use crate::server::Server;
use crate::session::described;

#[test]
fn rows_are_queued_embedded_and_found() {
    let (_database, mut session) = enabled("pipeline_found");
    assert_eq!(session.rows(QUEUED), ["1", "2"]);
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
    let hit = session.text(
        "SELECT id, content, doc->>'title', doc->'_chunk' FROM hybrid_search('docs', 'leaking valve', 1)",
    );
    assert_eq!(
        hit,
        "2|valves\n\na valve is leaking|valves|{\"end\": 26, \"index\": 0, \"start\": 0, \"parent\": null}"
    );
    assert_eq!(session.text("SELECT id FROM semantic_search('docs', 'loss of pressure', 1)"), "1");
    assert_eq!(session.text("SELECT id FROM keyword_search('docs', 'valve', 1)"), "2");
    session.run("UPDATE docs SET views = 9 WHERE id = 1");
    let filtered = "SELECT id FROM hybrid_search('docs', 'valve', 5, filter => '{\"views\": 9}')";
    assert_eq!(session.rows(filtered), ["1"]);
    session.fails("42703", "SELECT id FROM hybrid_search('docs', 'valve', filter => '{\"nope\": 9}')");
    session.fails("22023", "SELECT id FROM hybrid_search('docs', 'valve', chunks => 'some')");
    session.fails("2BP01", "SELECT drop_model(model) FROM vector_tools.searchable_tables");
}

/// Rows are written while the model goes on with those behind them, so what their writing asks of the model
/// needs a connection of its own.
#[test]
fn a_trigger_of_the_companion_embeds_while_its_batch_is_embedded() {
    let (_database, mut session) = enabled("pipeline_nested");
    session.run(
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
             PERFORM embed('another text ' || NEW.row_id);
             IF NEW.row_id = 150 AND to_regclass('broken') IS NOT NULL THEN RAISE 'not this one'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER look BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION look();
         CREATE TABLE broken ();
         INSERT INTO docs SELECT i, 't' || i, 'text number ' || i FROM generate_series(3, 300) AS i",
    );
    let batch = "SELECT embedded, failed FROM vector_tools.run_embedding_batch('docs', 300)";
    assert_eq!(session.text(batch), "299|1");
    session.run("DROP TABLE broken; SELECT retry_embedding_errors('docs')");
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
    // In the backend, where no process computes anything meanwhile.
    session.run("SET vector_tools.embedder = 'backend'; UPDATE docs SET body = body || '!'");
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn an_unrelated_update_queues_nothing() {
    let (_database, mut session) = embedded("pipeline_unrelated");
    session.run("UPDATE docs SET views = views + 1; UPDATE docs SET body = body, title = title, id = id");
    assert_eq!(session.rows(QUEUED), [""; 0]);
    session.run("UPDATE docs SET body = 'dry' WHERE id = 2");
    assert_eq!(session.rows(QUEUED), ["2"]);
    // Content that came back is true already.
    drain(&mut session);
    session.run("UPDATE docs SET title = 'x' WHERE id = 1; UPDATE docs SET title = 'pumps' WHERE id = 1");
    let batch = session.text("SELECT embedded, unchanged FROM vector_tools.run_embedding_batch('docs')");
    assert_eq!(batch, "0|1");
    // Another case is another text.
    session.run("UPDATE docs SET title = 'Pumps' WHERE id = 1");
    assert_eq!(session.rows(QUEUED), ["1"]);
}

#[test]
fn a_rollback_takes_entries_along() {
    let (_database, mut session) = embedded("pipeline_rollback");
    session.run(
        "BEGIN; INSERT INTO docs VALUES (3, 'a', 'b'); SAVEPOINT s; INSERT INTO docs VALUES (4, 'a', 'b');
         ROLLBACK TO s; INSERT INTO docs VALUES (5, 'a', 'b'); COMMIT;
         BEGIN; INSERT INTO docs VALUES (6, 'a', 'b'); ROLLBACK",
    );
    session.fails("23505", "INSERT INTO docs VALUES (7, 'a', 'b'), (1, 'a', 'b')");
    session.run(
        "DO $$ BEGIN INSERT INTO docs VALUES (8, 'a', 'b');
             BEGIN INSERT INTO docs VALUES (9, 'a', 'b'); RAISE 'x'; EXCEPTION WHEN OTHERS THEN NULL; END; END $$",
    );
    assert_eq!(session.rows(QUEUED), ["3", "5", "8"]);
}

#[test]
fn every_way_to_write_a_row_queues_it() {
    let (database, mut session) = embedded("pipeline_ways");
    session.run("COPY docs (id, title, body) FROM PROGRAM 'printf \"10\\tcopied\\ta\\n11\\tcopied\\tb\\n\"'");
    session.run(
        "MERGE INTO docs AS d USING (VALUES (1, 'merged'), (12, 'merged')) AS v(id, body) ON d.id = v.id
         WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'm', v.body)",
    );
    session.run("INSERT INTO docs VALUES (2, 'up', 'serted'), (13, 'up', 'serted') ON CONFLICT (id) DO UPDATE SET body = excluded.body");
    session.run("WITH w AS (INSERT INTO docs VALUES (14, 'with', 'x') RETURNING id) SELECT id FROM w");
    let mut queued = session.rows("SELECT k FROM vector_tools.queue, unnest(keys) AS k ORDER BY k::int");
    queued.dedup();
    assert_eq!(queued, ["1", "2", "10", "11", "12", "13", "14"]);
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
    // What a role that may only insert writes is queued too.
    database.create_role("pipeline_ways_writer");
    session.run("GRANT INSERT ON docs TO pipeline_ways_writer");
    let mut writer = database.connect_as("pipeline_ways_writer");
    writer.run("INSERT INTO docs VALUES (20, 'w', 'x')");
    writer.fails("42501", "SELECT * FROM vector_tools.queue");
    writer.fails("42501", "INSERT INTO vector_tools.queue (source, keys) VALUES ('docs', '{{1}}')");
    assert_eq!(session.rows(QUEUED), ["20"]);
}

#[test]
fn a_row_that_goes_takes_its_chunks_and_one_that_is_renamed_keeps_them() {
    let (_database, mut session) = embedded("pipeline_gone");
    session.run("UPDATE docs SET title = 'late' WHERE id = 2; UPDATE docs SET id = 20 WHERE id = 2; DELETE FROM docs WHERE id = 1");
    assert_eq!(session.rows("SELECT row_id FROM docs_search"), ["20"]);
    let batch = "SELECT embedded, unchanged, gone FROM vector_tools.run_embedding_batch()";
    assert_eq!(
        session.text(batch),
        "1|0|1",
        "expected the old key to be gone and the new one to be embedded"
    );
    assert_eq!(session.rows(QUEUED), [""; 0]);
    assert_eq!(session.text(UNTRUE), "0");
    session.run("INSERT INTO docs VALUES (30, NULL, NULL), (31, ' ', ''); ");
    drain(&mut session);
    let blank = session.text(
        "SELECT count(*) FROM docs_search WHERE row_id >= 30 AND embedding IS NULL AND lexemes IS NULL",
    );
    assert_eq!(blank, "2", "expected rows without a word to be done");
    session.run("TRUNCATE docs CASCADE");
    assert_eq!(session.text("SELECT count(*) FROM docs_search"), "0");
}

#[test]
fn keys_of_several_columns_and_hostile_names() {
    let database = Database::with_extension("pipeline_keys");
    let mut session = database.connect();
    session.run(
        r#"CREATE SCHEMA "a "" b";
           CREATE TYPE "a "" b".mood AS ENUM ('so "so"', 'good');
           CREATE TABLE "a "" b"."select '; --" ("the ""body" text, n numeric, "k""; DROP TABLE x" varchar(20) COLLATE "C",
               t timestamptz, m "a "" b".mood, c char(5), PRIMARY KEY ("k""; DROP TABLE x", t, n, m, c));
           INSERT INTO "a "" b"."select '; --" VALUES
               ('the pump lost pressure', 1.50, 'x,{}"\', '2020-02-03 04:05:06.789+02', 'so "so"', 'ab'),
               ('a valve is leaking', 2, '', 'infinity', 'good', '');
           SET timezone = 'Asia/Kolkata'; SET datestyle = 'German'"#,
    );
    session.run(r#"SELECT enable_search('"a "" b"."select ''; --"', ARRAY['the "body'])"#);
    session.run(
        r#"INSERT INTO "a "" b"."select '; --" VALUES ('coffee', 'NaN', 'ü', '-infinity', 'good', 'x')"#,
    );
    drain(&mut session);
    let chunks = session.rows(r#"SELECT content FROM "a "" b"."select '; --_search" ORDER BY 1"#);
    assert_eq!(chunks, ["a valve is leaking", "coffee", "the pump lost pressure"]);
    session.run("SET datestyle = 'ISO'; SET timezone = 'UTC'");
    let found = session
        .text(r#"SELECT id, doc->>'n' FROM hybrid_search('"a "" b"."select ''; --"', 'pump pressure', 1)"#);
    assert_eq!(found, r#"[1.50, "x,{}\"\\", "2020-02-03T02:05:06.789+00:00", "so \"so\"", "ab   "]|1.50"#);
    let long = "d".repeat(60);
    session.run(&format!("CREATE TABLE {long} (i int PRIMARY KEY, body text)"));
    let companion = session.text(&format!("SELECT enable_search('{long}', ARRAY['body'])"));
    assert_eq!(companion, format!("{}_search", "d".repeat(56)));
}

#[test]
fn columns_are_renamed_and_partitions_are_covered() {
    let database = Database::with_extension("pipeline_partitions");
    let mut session = database.connect();
    session.run(
        "CREATE TABLE docs (region text, id int, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE north PARTITION OF docs FOR VALUES IN ('n');
         CREATE TABLE south (body text, id int NOT NULL, gone int, region text NOT NULL, PRIMARY KEY (region, id));
         ALTER TABLE south DROP COLUMN gone;
         INSERT INTO south VALUES ('a valve is leaking', 2, 's');
         SELECT enable_search('docs', ARRAY['body']);
         ALTER TABLE docs ATTACH PARTITION south FOR VALUES IN ('s');
         INSERT INTO docs VALUES ('n', 1, 'the pump lost pressure'), ('s', 3, 'coffee is ready');",
    );
    // Rows that came with their partition are queued by asking again.
    session.run("SELECT enable_search('docs', ARRAY['body'])");
    drain(&mut session);
    let chunks = "SELECT row_region, row_id, content FROM docs_search ORDER BY 2";
    assert_eq!(
        session.rows(chunks),
        ["n|1|the pump lost pressure", "s|2|a valve is leaking", "s|3|coffee is ready"]
    );
    session
        .run("UPDATE docs SET region = 's' WHERE id = 1; UPDATE docs SET body = 'tea is ready' WHERE id = 3");
    session.run("ALTER TABLE docs RENAME body TO words; ALTER TABLE docs RENAME id TO number; ALTER TABLE docs RENAME TO papers");
    drain(&mut session);
    assert_eq!(
        session.rows(chunks),
        ["s|1|the pump lost pressure", "s|2|a valve is leaking", "s|3|tea is ready"]
    );
    assert_eq!(session.text("SELECT id FROM hybrid_search('papers', 'tea', 1)"), "[\"s\", 3]");
    session.fails("55000", "SELECT enable_search('south', ARRAY['words'])");
    session.fails("55000", "SELECT disable_search('south')");
    assert_eq!(session.text("SELECT disable_search('papers')"), "t");
}

#[test]
fn a_poison_row_does_not_stop_the_others_and_is_tried_again() {
    let database = Database::with_extension("pipeline_poison");
    let mut session = database.connect();
    database.create_role("pipeline_poison_reader");
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text, language text);
         INSERT INTO docs SELECT i, 'a', 'text ' || i, 'english' FROM generate_series(1, 40) AS i;
         UPDATE docs SET language = 'klingon' WHERE id = 17;
         GRANT SELECT ON docs TO pipeline_poison_reader;
         SELECT enable_search('docs', ARRAY['title', 'body'], text_configuration => 'language')",
    );
    let batch = "SELECT embedded, failed FROM vector_tools.run_embedding_batch('docs')";
    assert_eq!(session.text(batch), "39|1");
    let errors = "SELECT source, id, category, sqlstate, attempts, gave_up, next_try IS NULL FROM vector_tools.embedding_errors";
    assert_eq!(session.rows(errors), ["docs|17|row|42704|1|t|t"]);
    let progress =
        "SELECT total, embedded, stale, pending, failed, last_error FROM vector_tools.search_progress";
    assert_eq!(session.text(progress), "40|39|0|0|1|text search configuration \"klingon\" does not exist");
    let mut reader = database.connect_as("pipeline_poison_reader");
    assert_eq!(reader.text("SELECT count(*) FROM vector_tools.embedding_errors"), "0");
    assert_eq!(reader.text(progress), "40|39|0|0|1|∅");
    reader.fails("42501", "SELECT retry_embedding_errors('docs')");
    reader.fails("42501", "SELECT * FROM vector_tools.run_embedding_batch('docs')");
    assert_eq!(reader.rows("SELECT * FROM vector_tools.run_embedding_batch()"), [""; 0]);
    // Tried again without a change it fails again; with one it is done, and nothing of it stays.
    assert_eq!(session.text("SELECT retry_embedding_errors('docs', 'model')"), "0");
    assert_eq!(session.text("SELECT retry_embedding_errors('docs')"), "1");
    assert_eq!(session.text(batch), "0|1");
    session.run("UPDATE docs SET language = 'german' WHERE id = 17");
    assert_eq!(session.text(batch), "1|0");
    assert_eq!(session.rows("SELECT * FROM vector_tools.queue"), [""; 0]);
    session.fails("22023", "SELECT retry_embedding_errors('docs', 'weather')");
    // A change of the row's configuration alone reads its words again.
    session.run("UPDATE docs SET body = 'running', language = 'english' WHERE id = 1");
    drain(&mut session);
    session.run("UPDATE docs SET language = 'simple' WHERE id = 1");
    drain(&mut session);
    assert_eq!(session.text("SELECT lexemes FROM docs_search WHERE row_id = 1"), "'a':1 'running':2");
}

#[test]
fn a_model_that_is_gone_fails_for_all_rows_and_comes_back() {
    let (_database, mut session) = enabled("pipeline_model");
    session.run(
        "CREATE TABLE kept AS SELECT * FROM vector_tools.model_registry WHERE name LIKE '%int8';
        DELETE FROM vector_tools.model_registry WHERE name LIKE '%int8'",
    );
    let batch = "SELECT embedded, failed FROM vector_tools.run_embedding_batch()";
    assert_eq!(session.text(batch), "0|2");
    let errors = "SELECT category, sqlstate, gave_up FROM vector_tools.embedding_errors";
    assert_eq!(session.rows(errors), ["model|42704|f"; 2]);
    assert_eq!(session.rows(batch), [""; 0], "expected them to wait");
    session.run("INSERT INTO vector_tools.model_registry SELECT * FROM kept; SELECT retry_embedding_errors('docs', 'model')");
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn sync_mode_embeds_in_the_statement() {
    let (_database, mut session) = created("pipeline_sync");
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'sync')");
    assert_eq!(session.text(UNTRUE), "0", "expected the rows that were there to be embedded");
    session.run("INSERT INTO docs SELECT i, 'n', 'note ' || i FROM generate_series(10, 600) AS i");
    session.run("BEGIN; UPDATE docs SET body = 'seen at once' WHERE id = 10");
    assert_eq!(session.text("SELECT id FROM semantic_search('docs', 'seen at once', 1)"), "10");
    session.run("ROLLBACK; DELETE FROM docs WHERE id > 100; UPDATE docs SET id = -id WHERE id > 50");
    assert_eq!(session.text(UNTRUE), "0");
    assert_eq!(session.rows(QUEUED), [""; 0]);
    // A row that cannot be embedded ends the statement.
    session.run("ALTER TABLE docs ADD language text; SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'sync', text_configuration => 'language')");
    let error = session.fails("42704", "INSERT INTO docs VALUES (700, 'a', 'b', 0, 'klingon')");
    assert_eq!(error.message(), "row 700 of table \"public\".\"docs\" could not be embedded");
    assert_eq!(session.text("SELECT count(*) FROM docs WHERE id = 700"), "0");
}

#[test]
fn options_can_be_changed_and_search_disabled() {
    let (database, mut session) = embedded("pipeline_options");
    session.run(ENABLE);
    assert_eq!(session.rows(QUEUED), [""; 0], "expected nothing to be done twice");
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'manual')");
    assert_eq!(session.rows(QUEUED), [""; 0], "expected another mode to cost nothing");
    session.run(
        "SELECT enable_search('docs', ARRAY['body', 'title'], storage => 'halfvec', index_kind => 'none')",
    );
    assert_eq!(session.rows(QUEUED), ["1", "2"]);
    drain(&mut session);
    let facts = "SELECT pg_typeof(embedding), content FROM docs_search ORDER BY row_id LIMIT 1";
    assert_eq!(session.text(facts), "halfvec|the pump lost pressure\n\npumps");
    assert_eq!(session.text("SELECT id FROM hybrid_search('docs', 'leak', 1)"), "2");
    let listed = "SELECT content_columns, mode, storage, index_kind FROM vector_tools.searchable_tables";
    assert_eq!(session.text(listed), "body, title|async|halfvec|none");
    for (sqlstate, call) in [
        ("22004", "enable_search('docs', '{}')"),
        ("42703", "enable_search('docs', '{nope}')"),
        ("42804", "enable_search('docs', '{views}')"),
        ("22023", "enable_search('docs', '{body}', mode => 'now')"),
        ("22023", "enable_search('docs', '{body}', chunking => 'wild')"),
        ("22023", "enable_search('docs', '{body}', max_tokens => 7)"),
        ("22023", "enable_search('docs', '{body}', chunking => 'fixed', max_tokens => 1)"),
        ("22023", "enable_search('docs', '{body}', storage => 'bit')"),
        ("42704", "enable_search('docs', '{body}', model => 'nope')"),
        ("42704", "enable_search('docs', '{body}', text_configuration => 'nope')"),
        ("42809", "enable_search('vector_tools.models', '{name}')"),
    ] {
        session.fails(sqlstate, &format!("SELECT {call}"));
    }
    session.run("CREATE TABLE keyless (body text); CREATE TEMP TABLE passing (i int PRIMARY KEY, body text)");
    session.fails("42P16", "SELECT enable_search('keyless', '{body}')");
    session.fails("42809", "SELECT enable_search('passing', '{body}')");
    session.run("CREATE TABLE taken (i int PRIMARY KEY, body text); CREATE TABLE taken_search ()");
    session.fails("42P07", "SELECT enable_search('taken', '{body}')");
    database.create_role("pipeline_options_other");
    let mut other = database.connect_as("pipeline_options_other");
    other.fails("42501", ENABLE);
    other.fails("42501", "SELECT disable_search('docs')");
    session.run("UPDATE docs SET body = 'x'");
    assert_eq!(session.text("SELECT disable_search('docs')"), "t");
    assert_eq!(session.text("SELECT disable_search('docs')"), "f");
    assert_eq!(
        session.text(
            "SELECT to_regclass('docs_search') IS NULL AND NOT EXISTS (SELECT FROM vector_tools.queue)"
        ),
        "t"
    );
    session.run("UPDATE docs SET body = 'y'; DROP TABLE docs");
}

#[test]
fn chunks_are_joined_by_row() {
    let database = Database::with_extension("pipeline_chunks");
    let mut session = database.connect();
    // One row with far more chunks on the question than a leg looks at, and a few others.
    session.run(
        "CREATE TABLE docs (id int PRIMARY KEY, body text);
         INSERT INTO docs SELECT 1, string_agg('The pump number ' || i || ' has lost its pressure again.', E'\n\n')
             FROM generate_series(1, 300) AS i;
         INSERT INTO docs SELECT i, 'Weather report number ' || i || ': sunny.' FROM generate_series(2, 6) AS i;
         SELECT enable_search('docs', ARRAY['body'], chunking => 'hierarchical', max_tokens => 64, mode => 'sync')",
    );
    assert_eq!(
        session.text(
            "SELECT count(*) FROM docs_search AS c JOIN docs AS d ON d.id = c.row_id
            WHERE substr(d.body, c.start_offset + 1, c.end_offset - c.start_offset) <> c.content"
        ),
        "0"
    );
    let parents = "SELECT count(*) FROM docs_search AS p WHERE (embedding IS NULL) <> EXISTS
        (SELECT FROM docs_search AS c WHERE c.row_id = p.row_id AND c.parent_index = p.chunk_index)";
    assert_eq!(session.text(parents), "0", "expected parents alone to have no embedding");
    let ids = |chunks: &str| {
        format!("SELECT id FROM semantic_search('docs', 'which pump lost pressure', 6, chunks => '{chunks}')")
    };
    let mut best = session.rows(&ids("best"));
    assert_eq!(best[0], "1");
    best.sort();
    assert_eq!(best, ["1", "2", "3", "4", "5", "6"], "expected as many rows as match");
    assert_eq!(session.rows(&ids("all")), ["1"; 6]);
    let parent = "SELECT s.content = p.content FROM semantic_search('docs', 'which pump lost pressure', 1, chunks => 'parent') AS s
        JOIN docs_search AS p ON p.row_id = s.id::int AND p.chunk_index = (s.doc->'_chunk'->>'parent')::int";
    assert_eq!(session.text(parent), "t");
    // Fewer chunks than before leave none behind.
    session.run("UPDATE docs SET body = 'short' WHERE id = 1");
    assert_eq!(session.rows("SELECT DISTINCT content FROM docs_search WHERE row_id = 1"), ["short"]);
}

#[test]
fn two_drivers_and_a_writer_leave_nothing_old() {
    let (database, mut session) = enabled("pipeline_drivers");
    session.run("INSERT INTO docs SELECT i, 't' || i, 'first' FROM generate_series(3, 60) AS i");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut driver = database.connect();
                while !is_over.load(Ordering::Relaxed) {
                    driver
                        .try_rows("SELECT * FROM vector_tools.run_embedding_batch('docs', 7)")
                        .expect("a batch");
                }
            });
        }
        let mut deleter = database.connect();
        for round in 0..30 {
            session.run(&format!(
                "UPDATE docs SET body = 'round {round} of ' || id WHERE id % 3 = {}; UPDATE docs SET views = views + 1",
                round % 3
            ));
            deleter.run(&format!("DELETE FROM docs WHERE id = {}", 60 - round));
            deleter.run(&format!("INSERT INTO docs VALUES ({}, 'again', 'born')", 60 - round));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    while session.text(ENTRIES) != "0" {
        drain(&mut session);
    }
    assert_eq!(session.text(UNTRUE), "0");
    assert_eq!(session.text("SELECT count(*) FROM docs_search"), "60");
}

#[test]
fn what_a_driver_had_taken_is_given_back_when_it_ends() {
    let (database, mut session) = enabled("pipeline_kill");
    let mut driver = database.connect();
    driver.run("BEGIN");
    assert_eq!(driver.text("SELECT embedded FROM vector_tools.run_embedding_batch()"), "2");
    assert_eq!(
        session.rows("SELECT * FROM vector_tools.run_embedding_batch()"),
        [""; 0],
        "expected them taken"
    );
    // A writer of other rows does not wait for it.
    session.run("INSERT INTO docs VALUES (3, 'c', 'd'); SET lock_timeout = '10s'");
    session.run(&format!("SELECT pg_terminate_backend({}, 10000)", driver.pid));
    drain(&mut session);
    assert_eq!(session.text(UNTRUE), "0");
    assert_eq!(session.rows(QUEUED), [""; 0]);
}

#[test]
fn a_row_that_somebody_holds_is_left_for_later() {
    let (database, mut session) = enabled("pipeline_held");
    let mut holder = database.connect();
    holder.run("BEGIN; UPDATE docs SET body = 'not yet' WHERE id = 1");
    let batch = "SELECT embedded, postponed FROM vector_tools.run_embedding_batch()";
    assert_eq!(session.text(batch), "1|1");
    holder.run("COMMIT");
    while session.text(ENTRIES) != "0" {
        drain(&mut session);
    }
    assert_eq!(session.text(UNTRUE), "0");
}

#[test]
fn a_cancelled_batch_changes_nothing() {
    let (database, mut session) = embedded("pipeline_cancel");
    session.run("INSERT INTO docs SELECT i, 't', repeat('some text of a certain length ', 20) || i FROM generate_series(10, 9000) AS i");
    let mut driver = database.connect();
    driver.still_embeds();
    let (pid, before) = (driver.pid, processor_ticks(driver.pid));
    let running = thread::spawn(move || driver.try_rows("CALL run_embedding_jobs()"));
    wait_until("the driver is inside the model", || processor_ticks(pid) > before + 20);
    session.run(&format!("SELECT pg_cancel_backend({pid})"));
    let error = running.join().expect("the thread only runs a statement").expect_err("it was cancelled");
    assert!(described(&error).starts_with("57014 "), "{}", described(&error));
    let left = "SELECT (SELECT sum(array_length(keys, 1)) FROM vector_tools.queue) + (SELECT count(*) FROM docs_search)
        = (SELECT count(*) FROM docs)";
    assert_eq!(session.text(left), "t", "expected each row to be embedded or queued, never both");
    assert_eq!(session.text("SELECT count(*) FROM vector_tools.embedding_errors"), "0");
}

// trust 8
/// Rows are written in a subtransaction, which must not outlive the statement.
#[test]
fn a_session_goes_on_after_a_cancel_in_the_middle_of_writing() {
    let (database, mut session) = enabled("pipeline_cancel_write");
    session.run(SLEEP_OVER_ROWS);
    let mut driver = database.connect();
    let pid = driver.pid;
    let running = thread::spawn(move || {
        let result = driver.try_rows("SELECT vector_tools.run_embedding_batch('docs')");
        (driver, result)
    });
    cancel_sleeper(&mut session, pid);
    let (mut driver, result) = running.join().expect("the thread only runs a statement");
    let error = result.expect_err("it was cancelled");
    assert!(described(&error).starts_with("57014 "), "{}", described(&error));
    drain(&mut driver);
    assert_eq!(driver.text(UNTRUE), "0");
}

/// Trust 10 and 11: the server goes down with the driver, and comes back.
#[test]
fn a_driver_that_is_killed_loses_nothing() {
    let server = Server::start("test-pipeline-crash", &[("vector_tools.max_workers", "0")]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "pipeline_crash");
    let mut session = database.connect();
    session.run("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)");
    session.run(ENABLE);
    for round in 0..3 {
        session.run(&format!(
            "INSERT INTO docs SELECT i, 'round', 'row ' || i FROM generate_series({}, {}) AS i",
            round * 1000,
            round * 1000 + 799
        ));
        let mut driver = database.connect();
        let pid = driver.pid;
        let running = thread::spawn(move || driver.try_rows("CALL run_embedding_jobs()").is_err());
        let done = format!("SELECT count(*) > {} FROM docs_search", round * 800);
        wait_until("the first batch is committed", || session.text(&done) == "t");
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "expected the driver {pid} to be there");
        assert!(running.join().expect("the thread only runs a statement"), "expected the driver to be gone");
        let connection = server.connection(&database.name, "postgres");
        // Until the server notices, it still takes connections, which go down with it.
        wait_until("the server ends all sessions", || session.try_rows("SELECT 1").is_err());
        wait_until("the server is back", || postgres::Client::connect(&connection, postgres::NoTls).is_ok());
        session = database.connect();
        // The rows that the driver died over wait a little, and are tried in smaller batches.
        wait_until("the queue is empty", || {
            drain(&mut session);
            session.rows(QUEUED).is_empty()
        });
        let true_rows =
            "SELECT count(*), count(DISTINCT row_id) FROM docs_search AS c JOIN docs AS d ON d.id = c.row_id
            WHERE c.content = concat_ws(E'\\n\\n', d.title, d.body) AND c.embedding IS NOT NULL";
        let rows = (round + 1) * 800;
        assert_eq!(session.text(true_rows), format!("{rows}|{rows}"), "expected every row once");
    }
}
