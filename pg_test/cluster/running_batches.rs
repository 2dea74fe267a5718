//! The list of running batches: who embeds what since when, and what becomes of a batch that nobody has finished
//! (4, 9, 10, 18).

use std::thread;

use crate::database::{Database, make_template};
use crate::models::Folder;
use crate::process::wait_until;
use crate::searchable::{CREATE, drain, enabled, settled};
use crate::server::Server;
use crate::session::Session;
use crate::standby::start_standby;

/// Has batches of sessions that say so sleep over their first row.
const SLEEP: &str = "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF current_setting('test.sleeps', true) = 'on' THEN PERFORM pg_sleep(600); END IF;
         RETURN NEW; END $$;
     CREATE TRIGGER dawdle BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION dawdle()";
const SLEEPS: &str = "SET test.sleeps = on";
const RUN: &str = "CALL run_embedding_jobs()";
const SHOWN: &str =
    "SELECT source, rows, started_at >= backend_start, is_running FROM vector_tools.running_batches";
const LISTED: &str = "SELECT count(*) FROM vector_tools.started_batches";
const ERRORS: &str = "SELECT id, category, sqlstate, gave_up, attempts, message FROM vector_tools.embedding_errors ORDER BY id";

/// Waits until a session sleeps over a row of a batch, and gives its process.
fn sleeper(watcher: &mut Session) -> String {
    let sleepers = "SELECT b.pid FROM vector_tools.running_batches AS b JOIN pg_stat_activity AS a USING (pid, backend_start)
        WHERE wait_event = 'PgSleep'";
    let mut found = Vec::new();
    wait_until("a row is being written", || {
        found = watcher.rows(sleepers);
        !found.is_empty()
    });
    found.concat()
}

// trust 4
#[test]
fn a_batch_is_shown_while_it_runs_to_its_owner_and_to_those_who_watch() {
    let database = Database::with_extension("running_shown");
    for role in ["owner", "stranger", "monitor"] {
        database.create_role(&format!("running_{role}"));
    }
    let mut superuser = database.connect();
    superuser.run("GRANT CREATE ON SCHEMA public TO running_owner; GRANT pg_monitor TO running_monitor");
    let mut owner = database.connect_as("running_owner");
    owner
        .run("CREATE TABLE docs (id int PRIMARY KEY, body text); INSERT INTO docs VALUES (1, 'a'), (2, 'b')");
    owner.run("SELECT enable_search('docs', '{body}')");
    owner.run(SLEEP);
    let mut worker = database.connect_as("running_owner");
    worker.run(SLEEPS);
    thread::scope(|scope| {
        let call = scope.spawn(|| worker.fails("57014", RUN));
        let pid = sleeper(&mut superuser);
        let mut monitor = database.connect_as("running_monitor");
        for session in [&mut superuser, &mut owner, &mut monitor] {
            assert_eq!(session.rows(SHOWN), ["docs|2|t|t"]);
        }
        let mut stranger = database.connect_as("running_stranger");
        assert_eq!(stranger.rows(SHOWN), [""; 0], "expected a stranger to see nothing");
        monitor.fails("42501", "SELECT keys FROM vector_tools.started_batches");
        superuser.run(&format!("SELECT pg_cancel_backend({pid})"));
        call.join().expect("the batch was cancelled");
    });
    // Its session is there and could come back to it; nobody else takes that for its death.
    wait_until("its session has left the batch", || superuser.rows(SHOWN) == ["docs|2|t|f"]);
    owner.run(RUN);
    assert_eq!(superuser.text("SELECT count(*) FROM docs_search WHERE embedding IS NOT NULL"), "2");
    assert_eq!(superuser.rows(ERRORS), [""; 0]);
    owner.run("INSERT INTO docs VALUES (3, 'c')");
    worker.run("RESET test.sleeps");
    worker.run(RUN);
    assert_eq!(superuser.text(LISTED), "0", "expected the next batch to take the place of the last one");
}

// trust 9
#[test]
fn a_session_that_is_ended_in_its_batch_counts_no_attempt() {
    let (database, mut session) = enabled("running_ended");
    session.run(SLEEP);
    let mut worker = database.connect();
    worker.run(SLEEPS);
    thread::scope(|scope| {
        let call = scope.spawn(|| worker.try_rows(RUN).expect_err("it was ended"));
        let pid = sleeper(&mut session);
        session.run(&format!("SELECT pg_terminate_backend({pid}, 60000)"));
        call.join().expect("the session was ended");
    });
    assert_eq!(session.text(LISTED), "0", "expected nothing to be left of it");
    drain(&mut session);
    assert_eq!(session.rows(ERRORS), [""; 0]);
    assert_eq!(session.text("SELECT count(*) FROM docs_search"), "2");
}

// trust 10
#[test]
fn rows_of_processes_that_are_gone_come_under_suspicion_and_no_others() {
    let (database, mut session) = enabled("running_abandoned");
    session.run("INSERT INTO docs VALUES (3, 'c', 'd'); DELETE FROM vector_tools.queue");
    for id in 1..=3 {
        session.run(&format!("UPDATE docs SET body = body || '.' WHERE id = {id}"));
    }
    let other = Database::with_extension("running_elsewhere");
    let (mut living, mut elsewhere) = (database.connect(), other.connect());
    let process =
        "SELECT format('%s, %L', pid, backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let list = |process: &str, key: &str| {
        format!(
            "INSERT INTO vector_tools.started_batches (pid, backend_start, source, entries, keys)
             SELECT {process}, 'docs', ARRAY[id], keys FROM vector_tools.queue WHERE keys = '{{{{{key}}}}}'"
        )
    };
    // A process of the same number that began at another time, before the server did; one of another database; and one
    // that is there.
    session.run(&list("pg_backend_pid(), '2001-02-03'", "1"));
    let elsewhere = elsewhere.text(process);
    session.run(&list(&elsewhere, "2"));
    let living_process = living.text(process);
    session.run(&list(&living_process, "3"));
    database.create_role("running_other");
    let mut stranger = database.connect_as("running_other");
    stranger.run(RUN);
    assert_eq!(session.text(LISTED), "3", "expected a stranger to leave them to the owner");
    drain(&mut session);
    let expected = [
        "1|resource|57P01|f|1|the server went down while it embedded the row",
        "2|resource|57P02|f|1|the server process died while it embedded the row",
    ];
    assert_eq!(session.rows(ERRORS), expected);
    assert_eq!(session.text("SELECT string_agg(row_id::text, ',') FROM docs_search"), "3");
    assert_eq!(session.text("SELECT string_agg(pid::text, ',') FROM vector_tools.started_batches"), {
        living.text("SELECT pg_backend_pid()")
    });
    session.run("UPDATE vector_tools.queue SET next_try = now()");
    drain(&mut session);
    assert_eq!(session.rows(ERRORS), [""; 0]);
    // What is left of a table that is gone, or of rows that are done, is nothing.
    session.run("DELETE FROM vector_tools.started_batches");
    session.run("INSERT INTO vector_tools.started_batches VALUES (1, now(), now(), 'docs', '{1}', '{{1}}'), (2, now(), now(), 1, '{1}', '{{1}}')");
    drain(&mut session);
    assert_eq!(session.text(LISTED), "0");
}

#[test]
fn a_batch_that_was_begun_in_vain_keeps_no_other_from_running() {
    let (_database, mut session) = enabled("running_vain");
    let batch = "SELECT embedded FROM vector_tools.run_embedding_batch()";
    session.run("BEGIN; SELECT vector_tools.begin_embedding_batch(); ROLLBACK");
    assert_eq!(session.text(batch), "2");
    session.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    assert_eq!(session.text("SELECT vector_tools.begin_embedding_batch('docs')"), "t");
    assert_eq!(session.text(LISTED), "1");
    assert_eq!(session.text(batch), "1");
    assert_eq!(session.text(LISTED), "0");
    assert_eq!(session.text("SELECT vector_tools.begin_embedding_batch('docs')"), "f");
    session.run("SET default_transaction_read_only = on");
    session.fails("25006", "SELECT vector_tools.begin_embedding_batch()");
}

// trust 18
#[test]
fn a_standby_that_is_promoted_goes_on_with_what_its_primary_was_at() {
    let primary = Server::start("test-running-primary", &[("vector_tools.max_workers", "0")]);
    make_template(&primary);
    let database = Database::with_extension_on(&primary, "work");
    let mut session = database.connect();
    session.run(CREATE);
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'])");
    session.run(SLEEP);
    let mut worker = database.connect();
    worker.run(SLEEPS);
    let folder = Folder::new();
    thread::scope(|scope| {
        let call = scope.spawn(|| worker.try_rows(RUN).expect_err("the server went down"));
        sleeper(&mut session);
        let preloaded = [("shared_preload_libraries", "vector_tools")];
        let standby = start_standby(&primary, &folder, "test-running-standby", &preloaded);
        let mut reader = Session::open(&standby, "work", "postgres");
        assert_eq!(reader.rows(SHOWN), ["docs|2|t|f"], "expected its process not to be looked for here");
        primary.stop("immediate");
        call.join().expect("the session was ended");
        reader.run("SELECT pg_promote()");
        settled(&mut reader);
        assert_eq!(reader.text(LISTED), "0");
        assert_eq!(reader.rows(ERRORS), [""; 0]);
    });
}
