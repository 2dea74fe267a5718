//! Word statistics: a background worker keeps them, nobody waits for it, and they tell a stranger
//! nothing.

use std::thread;

use crate::database::{Database, make_template, shared_server};
use crate::process::wait_until;
use crate::server::Server;
use crate::session::Session;

/// A table of 3,000 rows of which one in ten has the word "rare".
const WORDS: &str = "CREATE TABLE words (id int PRIMARY KEY, l tsvector);
     INSERT INTO words SELECT i, to_tsvector('simple', 'common ' || CASE WHEN i % 10 = 0 THEN 'rare' ELSE 'other' END)
         FROM generate_series(1, 3000) AS i;
     CREATE INDEX ON words USING gin (l);
     ANALYZE words;";

const SEARCH: &str =
    "SELECT count(*) FROM keyword_search('words', 'rare', 5, text_configuration => 'simple')";

fn counted(session: &mut Session) -> Vec<String> {
    session.rows("SELECT documents FROM vector_tools.search_statistics WHERE source = 'words'::regclass")
}

/// Statistics of PostgreSQL itself reach other sessions with a delay unless they are asked to.
fn flush(session: &mut Session) {
    session.run("SELECT pg_stat_force_next_flush()");
}

#[test]
fn a_search_has_a_changed_table_counted_anew() {
    let database = Database::with_extension("statistics_renewed");
    let mut session = database.connect();
    session.run(WORDS);
    flush(&mut session);
    assert_eq!(session.text(SEARCH), "5", "expected rows before anything was counted");
    wait_until("a worker has counted the new table", || counted(&mut session) == ["3000"]);
    session.run(
        "INSERT INTO words SELECT i, to_tsvector('simple', 'rare') FROM generate_series(3001, 4000) AS i",
    );
    flush(&mut session);
    // A session looks now and then only; each new one looks at its first search.
    let mut reader = database.connect();
    assert_eq!(reader.text(SEARCH), "5", "expected rows from outdated counts");
    wait_until("a worker has counted the grown table", || counted(&mut session) == ["4000"]);
    let shown = session.text(
        "SELECT e->'statistics'->>'origin' || ' ' || (e->'statistics'->'documents')
         FROM explain_search('words', 'rare', vector_weight => 0, text_configuration => 'simple') AS e",
    );
    assert_eq!(shown, "snapshot 4000", "expected a search to use the new counts");
}

#[test]
fn nobody_waits_for_a_count() {
    let database = Database::with_extension("statistics_waiting");
    let mut owner = database.connect();
    owner.run("SET vector_tools.auto_refresh_statistics = off");
    owner.run(WORDS);
    owner.run("SELECT refresh_search_stats('words')");
    owner.run("BEGIN; DELETE FROM words WHERE id > 1000; SELECT refresh_search_stats('words')");
    let mut reader = database.connect();
    reader.run("SET lock_timeout = '1s'; SET vector_tools.auto_refresh_statistics = off");
    assert_eq!(reader.text(SEARCH), "5", "expected a reader to search during a count");
    assert_eq!(counted(&mut reader), ["3000"], "expected the old counts until the new ones are committed");
    reader.fails("55P03", "SELECT refresh_search_stats('words')");
    owner.run("COMMIT");
    assert_eq!(counted(&mut reader), ["1000"], "expected the new counts");
}

#[test]
fn counts_of_a_dropped_table_go_away() {
    let database = Database::with_extension("statistics_dropped");
    let mut owner = database.connect();
    owner.run(WORDS);
    owner.run("SELECT refresh_search_stats('words'); DROP TABLE words");
    owner.run("CREATE TABLE other (l tsvector); SELECT refresh_search_stats('other')");
    let left = owner.text("SELECT count(*) FROM vector_tools.document_frequencies");
    assert_eq!(left, "0", "expected no counts of a table that is gone");
    owner.fails("42P01", "SELECT * FROM keyword_search('words', 'rare')");
}

// trust 4
#[test]
fn a_stranger_learns_nothing() {
    let database = Database::with_extension("statistics_stranger");
    database.create_role("statistics_stranger");
    let mut owner = database.connect();
    owner.run(WORDS);
    owner.run("SELECT refresh_search_stats('words')");
    let mut stranger = database.connect_as("statistics_stranger");
    for call in [
        SEARCH,
        "SELECT explain_search('words', 'rare', vector_weight => 0)",
        "SELECT bm25_rank('rare:1', 'rare', 'words', text_configuration => 'simple')",
        "SELECT refresh_search_stats('words')",
        "SELECT * FROM vector_tools.statistics_snapshots",
        "SELECT * FROM vector_tools.document_frequencies",
    ] {
        stranger.fails("42501", call);
    }
    assert!(counted(&mut stranger).is_empty(), "expected no counts of a table that the role may not read");
    owner.run("GRANT SELECT (id) ON words TO statistics_stranger");
    stranger.fails("42501", "SELECT bm25_rank('rare:1', 'rare', 'words', text_configuration => 'simple')");
    assert!(counted(&mut stranger).is_empty(), "expected no counts of a column that the role may not read");
}

#[test]
fn a_standing_transaction_sees_one_state() {
    let database = Database::with_extension("statistics_snapshot");
    let mut writer = database.connect();
    writer.run(WORDS);
    let mut reader = database.connect();
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    let before = reader
        .rows("SELECT id, score FROM keyword_search('words', 'rare', 20, text_configuration => 'simple')");
    assert_eq!(before.len(), 20, "expected twenty rows");
    writer.run("DELETE FROM words WHERE id <= 100");
    let after =
        reader.rows("SELECT id FROM keyword_search('words', 'rare', 20, text_configuration => 'simple')");
    let ids: Vec<&str> = before.iter().filter_map(|row| row.split('|').next()).collect();
    assert_eq!(after, ids, "expected the rows of the transaction's own snapshot");
}

#[test]
fn a_table_dropped_while_it_is_searched_is_an_error() {
    let database = Database::with_extension("statistics_gone");
    let mut owner = database.connect();
    owner.run(WORDS);
    owner.run("BEGIN; DROP TABLE words");
    let mut reader = database.connect();
    let pid = reader.text("SELECT pg_backend_pid()");
    let searching = thread::spawn(move || {
        let error = reader.fails("42P01", SEARCH);
        (error.message().to_owned(), reader.text("SELECT 'alive'"))
    });
    let mut watcher = database.connect();
    let waiting = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
    wait_until("the search waits for the lock", || watcher.text(&waiting) == "Lock");
    owner.run("COMMIT");
    let (message, alive) = searching.join().expect("the search ends with an error");
    assert!(message.contains("does not exist"), "expected a clear message, not {message}");
    assert_eq!(alive, "alive", "expected the session to go on");
}

// trust 9
#[test]
fn a_worker_that_counts_ends_when_it_is_told_to() {
    let database = Database::with_extension("statistics_told");
    let mut owner = database.connect();
    owner.run(WORDS);
    flush(&mut owner);
    // Searches read the counts meanwhile, and nobody can write them.
    owner.run("BEGIN; LOCK TABLE vector_tools.statistics_snapshots IN SHARE MODE");
    let mut session = database.connect();
    assert_eq!(session.text(SEARCH), "5", "expected rows before anything was counted");
    let worker = "FROM pg_stat_activity WHERE backend_type = 'vector_tools statistics' \
         AND datname = current_database() AND wait_event_type = 'Lock'";
    wait_until("a worker waits to write", || session.text(&format!("SELECT count(*) {worker}")) == "1");
    let ended = session.text(&format!("SELECT pg_terminate_backend(pid, 30000) {worker}"));
    assert_eq!(ended, "t", "expected the worker to end");
}

// trust 9, 29
#[test]
fn counting_takes_no_more_than_one_worker_and_no_more_than_its_time() {
    let settings = [("max_worker_processes", "6"), ("vector_tools.statistics_timeout", "2s")];
    let server = Server::start("test-statistics-hog", &settings);
    make_template(&server);
    let database = Database::with_extension_on(&server, "work");
    for role in ["mallory", "alice"] {
        database.create_role(role);
    }
    let mut watcher = database.connect();
    watcher.run("CREATE SCHEMA mal AUTHORIZATION mallory; GRANT CREATE ON SCHEMA public TO alice");
    // It says that it is immutable, and sleeps in every session but this one, whatever it is told.
    let mut mallory = database.connect_as("mallory");
    mallory.run("SET mal.spares = 'this session'");
    mallory.run(
        "CREATE FUNCTION mal.ss(int) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
             WHILE current_setting('mal.spares', true) IS NULL LOOP
                 BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
             END LOOP;
             RETURN true; END $$",
    );
    for table in 1..=10 {
        mallory.run(&format!(
            "CREATE TABLE mal.st{table} (id int PRIMARY KEY, l tsvector) WITH (autovacuum_enabled = false);
             INSERT INTO mal.st{table} SELECT i, to_tsvector('simple', 'w' || i % 50) FROM generate_series(1, 1500) AS i;
             CREATE INDEX ON mal.st{table} (id) WHERE mal.ss(1); ANALYZE mal.st{table}"
        ));
    }
    let searches = "SELECT count(*) FROM generate_series(1, 10) AS k, LATERAL keyword_search(('mal.st' || k)::regclass, 'w5')";
    mallory.run(searches);
    let counting = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'vector_tools statistics' AND datname IS NOT NULL";
    let asleep = format!("{counting} AND wait_event = 'PgSleep'");
    wait_until("a worker counts", || watcher.text(&asleep) == "1");
    mallory.run(searches);
    drop(mallory);
    // Rows of others are embedded meanwhile.
    let mut alice = database.connect_as("alice");
    alice.run("CREATE TABLE docs (id int PRIMARY KEY, body text); SELECT enable_search('docs', '{body}')");
    alice.run("INSERT INTO docs VALUES (1, 'a row')");
    wait_until("the row is embedded", || {
        assert!(["0", "1"].contains(&watcher.text(counting).as_str()), "expected one worker at a time");
        watcher.text("SELECT count(*) FROM docs_search") == "1"
    });
    // And their words are counted, once the time of the other is over.
    alice.run(WORDS);
    wait_until("the words of the other table are counted", || {
        assert!(["0", "1"].contains(&watcher.text(counting).as_str()), "expected one worker at a time");
        alice.run(SEARCH);
        counted(&mut alice) == ["3000"]
    });
    server.stop("fast");
}

/// It could not read it, and would keep the place of one that can.
#[test]
fn no_worker_counts_a_temporary_table() {
    let database = Database::with_extension("statistics_temporary");
    let mut session = database.connect();
    session.run(&WORDS.replace("CREATE TABLE words", "CREATE TEMP TABLE words"));
    assert_eq!(session.text(SEARCH), "5");
    session.run("DROP TABLE words");
    session.run(WORDS);
    flush(&mut session);
    let mut other = database.connect();
    assert_eq!(other.text(SEARCH), "5");
    wait_until("a worker has counted the table that stays", || counted(&mut other) == ["3000"]);
    assert_eq!(other.rows("SELECT source FROM vector_tools.search_statistics"), ["words"]);
    let log = shared_server().log();
    assert!(
        !log.contains("permission denied for schema pg_temp"),
        "expected no worker for the temporary table"
    );
}

// trust 4
#[test]
fn statistics_of_a_schema_that_is_not_to_be_used_are_not_shown() {
    let database = Database::with_extension("statistics_schema");
    database.create_role("statistics_schema_role");
    let mut session = database.connect();
    session.run("CREATE SCHEMA own; SET search_path = own, public");
    session.run(WORDS);
    session.run("SELECT refresh_search_stats('words'); GRANT SELECT ON words TO PUBLIC");
    let mut reader = database.connect_as("statistics_schema_role");
    let shown = "SELECT count(*) FROM vector_tools.search_statistics";
    assert_eq!(reader.text(shown), "0");
    session.run("GRANT USAGE ON SCHEMA own TO PUBLIC");
    assert_eq!(reader.text(shown), "1");
}
