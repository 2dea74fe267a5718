//! Background workers that embed what is queued: when they start, whom they serve, and when they leave
//! (9, 10, 18).

use std::time::Duration;
use std::{fs, thread};

use crate::database::{Database, make_template};
use crate::models::Folder;
use crate::process::{is_alive, resident_kib, wait_until};
use crate::searchable::{CREATE, ENABLE, ENTRIES, SLEEP_OVER_ROWS, UNTRUE, cancel_sleeper, settled};
use crate::server::Server;
use crate::session::Session;
use crate::standby::start_standby;

const WORKERS: &str =
    "SELECT coalesce(datname, '-'), pid FROM pg_stat_activity WHERE backend_type = 'vector_tools worker'
    ORDER BY backend_start";

/// A server of its own, since workers of other tests would take its slots.
fn server(name: &str, settings: &[(&str, &str)]) -> Server {
    let server = Server::start(name, settings);
    make_template(&server);
    server
}

fn enabled<'a>(server: &'a Server, name: &str) -> (Database<'a>, Session) {
    let database = Database::with_extension_on(server, name);
    let mut session = database.connect();
    session.run(CREATE);
    session.run(ENABLE);
    (database, session)
}

fn workers(session: &mut Session) -> Vec<String> {
    session.rows(WORKERS)
}

/// The process id of the only worker.
fn worker(session: &mut Session) -> i32 {
    let mut pid = None;
    wait_until("there is one worker", || {
        let workers = workers(session);
        pid = workers.first().and_then(|line| line.rsplit('|').next()?.parse().ok());
        workers.len() == 1
    });
    pid.expect("its process id is a number")
}

/// Makes a worker that waits leave, and lets the next one wait for long again.
fn make_leave(session: &mut Session) {
    session.change_setting("vector_tools.worker_idle_timeout", "0");
    wait_until("the worker has left", || workers(session).is_empty());
    session.change_setting("vector_tools.worker_idle_timeout", "10min");
}

#[test]
fn a_worker_starts_without_a_restart_and_leaves() {
    let settings = [("vector_tools.worker_idle_timeout", "10min"), ("log_min_messages", "debug1")];
    let server = server("test-workers", &settings);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    let pid = worker(&mut session);
    let shown = "SELECT application_name, state, query FROM pg_stat_activity WHERE backend_type = 'vector_tools worker'";
    wait_until("the worker shows that it waits", || session.text(shown) == "vector_tools worker|idle|");
    make_leave(&mut session);
    wait_until("its process is gone", || !is_alive(pid));
    // It holds no table while it waits, and the next row starts the next worker.
    session.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    settled(&mut session);
    assert_ne!(worker(&mut session), pid);
    make_leave(&mut session);
    // What a transaction takes back starts none, and neither does a table that is driven by hand.
    session.run("BEGIN; INSERT INTO docs VALUES (4, 'c', 'd'); ROLLBACK");
    session.run("SELECT enable_search('docs', ARRAY['title', 'body'], mode => 'manual')");
    session.run("INSERT INTO docs VALUES (5, 'c', 'd')");
    assert_eq!(session.text(ENTRIES), "1");
    session.run(ENABLE);
    settled(&mut session);
    let log = server.log();
    let started = log.matches("starting background worker process \"vector_tools worker\"").count();
    assert_eq!(
        started, 3,
        "expected one at first, one for the row and one for the table that is driven again"
    );
    assert!(!log.contains("FATAL"), "{log}");
}

#[test]
fn a_worker_that_waits_is_woken_by_every_commit() {
    let settings = [("vector_tools.worker_idle_timeout", "10min"), ("max_prepared_transactions", "5")];
    let server = server("test-workers-wake", &settings);
    let (database, mut session) = enabled(&server, "work");
    settled(&mut session);
    let pid = worker(&mut session);
    // One row after another, each when the worker waits or is about to, from several sessions.
    thread::scope(|scope| {
        for writer in 1..=4 {
            let database = &database;
            scope.spawn(move || {
                let mut session = database.connect();
                for row in 0..40 {
                    let id = writer * 1000 + row;
                    session.run(&format!("INSERT INTO docs VALUES ({id}, 'title', 'body')"));
                    let done = format!("SELECT count(*) FROM docs_search WHERE row_id = {id}");
                    wait_until("the row is embedded", || session.text(&done) == "1");
                }
            });
        }
    });
    settled(&mut session);
    assert_eq!(worker(&mut session), pid, "expected the same worker");
    // A transaction that was prepared counts when it is committed, whoever does so.
    session.run("BEGIN; INSERT INTO docs VALUES (3, 'title', 'body'); PREPARE TRANSACTION 'later'");
    assert_eq!(session.text("SELECT count(*) FROM docs_search WHERE row_id = 3"), "0");
    session.run("COMMIT PREPARED 'later'");
    settled(&mut session);
}

#[test]
fn a_worker_keeps_no_memory_of_a_large_text() {
    let server = server("test-workers-memory", &[("vector_tools.worker_idle_timeout", "10min")]);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    let pid = worker(&mut session);
    let before = resident_kib(pid);
    session.run("INSERT INTO docs SELECT 3, 'title', repeat('words of a very long text ', 2000000)");
    settled(&mut session);
    assert_eq!(session.text("SELECT count(*) FROM docs_search WHERE row_id = 3"), "1");
    assert_eq!(worker(&mut session), pid, "expected the same worker");
    wait_until("the worker gives the memory of 50 MB of text back", || {
        resident_kib(pid) < before + (64 << 10)
    });
}

#[test]
fn no_row_waits_for_a_worker_that_is_just_leaving() {
    let server = server("test-workers-leave", &[("vector_tools.worker_idle_timeout", "0")]);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    for id in 10..110 {
        session.run(&format!("INSERT INTO docs VALUES ({id}, 'title', 'body')"));
        // Some of them come while the worker of the one before leaves.
        let done = format!("SELECT count(*) FROM docs_search WHERE row_id = {}", id - id % 2);
        wait_until("the row is embedded", || session.text(&done) == "1");
    }
    settled(&mut session);
}

#[test]
fn the_limit_is_that_of_the_cluster_and_every_database_has_its_turn() {
    let settings = [("vector_tools.max_workers", "1"), ("vector_tools.worker_idle_timeout", "10min")];
    let server = server("test-workers-limit", &settings);
    let (_first, mut first) = enabled(&server, "first");
    settled(&mut first);
    let names = |session: &mut Session| -> Vec<String> {
        let lines = workers(session).into_iter();
        lines.map(|line| line.split('|').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&mut first), ["first"]);
    // The worker lingers in the first database, and makes room for the others.
    let (_second, mut second) = enabled(&server, "second");
    let (_third, mut third) = enabled(&server, "third");
    let mut most = 0;
    for session in [&mut second, &mut third] {
        wait_until("the queue is empty", || {
            most = most.max(names(session).iter().filter(|name| *name != "-").count());
            session.text(ENTRIES) == "0"
        });
        assert_eq!(session.text(UNTRUE), "0");
    }
    assert_eq!(most, 1);
    first.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    settled(&mut first);
    // A database that is busy does not keep another one waiting for ever.
    first.run(
        "INSERT INTO docs SELECT i, 'title', repeat('text ', 100) || i FROM generate_series(10, 3000) AS i",
    );
    second.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    wait_until("the row of the second is embedded", || second.text(ENTRIES) == "0");
    assert_ne!(first.text(ENTRIES), "0", "expected the first to be busy still");
    // The limit can be changed without a restart, and none is a limit too.
    first.change_setting("vector_tools.max_workers", "0");
    wait_until("the workers have left", || workers(&mut first).is_empty());
    assert_ne!(first.text(ENTRIES), "0");
    first.change_setting("vector_tools.max_workers", "2");
    first.run("TRUNCATE docs CASCADE");
    first.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    settled(&mut first);
}

#[test]
fn a_worker_that_is_just_starting_hears_that_the_limit_has_changed() {
    let settings = [("vector_tools.max_workers", "1"), ("vector_tools.worker_idle_timeout", "10min")];
    let server = server("test-workers-reload", &settings);
    let (database, mut session) = enabled(&server, "work");
    settled(&mut session);
    let mut administrator = database.connect();
    let oid = session.text("SELECT oid FROM pg_database WHERE datname = current_database()");
    // A worker that has no slot leaves word that its database waits.
    let waits = server.data().join(format!("pg_stat_tmp/vector_tools_due.{oid}"));
    let mut limit = |limit: i32| {
        administrator.run(&format!("ALTER SYSTEM SET vector_tools.max_workers = {limit}"));
    };
    let reload = |session: &mut Session, limit: &str| {
        session.run("SELECT pg_reload_conf()");
        wait_until("the limit is known", || session.text("SHOW vector_tools.max_workers") == limit);
    };
    limit(0);
    reload(&mut session, "0");
    for round in 0..40 {
        wait_until("the worker has left", || workers(&mut session).is_empty() && waits.exists());
        fs::remove_file(&waits).expect("the test may remove a file of its own server");
        limit(1);
        reload(&mut session, "1");
        limit(0);
        session.run(&format!("INSERT INTO docs VALUES ({}, 'title', 'body')", 100 + round));
        // The server has begun to start a worker, which cannot listen before it has loaded the library.
        thread::sleep(Duration::from_millis(round % 20));
        reload(&mut session, "0");
    }
}

#[test]
fn a_failure_that_passes_is_tried_again_by_the_worker_that_waits_for_it() {
    let settings = [("vector_tools.worker_idle_timeout", "0"), ("max_worker_processes", "12")];
    let server = server("test-workers-later", &settings);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    wait_until("the worker has left", || workers(&mut session).is_empty());
    // A trigger of the companion fails in a way that may pass.
    session.run(
        "CREATE TABLE broken (); CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF to_regclass('public.broken') IS NOT NULL THEN RAISE 'not now' USING ERRCODE = '53100'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION refuse();
         INSERT INTO docs VALUES (3, 'c', 'd')",
    );
    let errors = "SELECT category, sqlstate, attempts > 0 FROM vector_tools.embedding_errors";
    wait_until("it has failed", || session.rows(errors) == ["resource|53100|t"]);
    session.run("DROP TABLE broken");
    settled(&mut session);
}

// trust 8
#[test]
fn a_worker_goes_on_after_a_cancel_in_the_middle_of_writing() {
    let server = server("test-workers-cancel", &[("vector_tools.worker_idle_timeout", "10min")]);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    let pid = worker(&mut session);
    session.run(SLEEP_OVER_ROWS);
    session.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    cancel_sleeper(&mut session, pid);
    settled(&mut session);
    assert_eq!(worker(&mut session), pid, "expected the worker to be the same process");
}

#[test]
fn a_table_whose_batches_raise_does_not_stop_the_others() {
    let server = server("test-workers-raise", &[]);
    let (database, mut session) = enabled(&server, "work");
    settled(&mut session);
    session.run(
        "CREATE TABLE others (id int PRIMARY KEY, body text);
         SELECT enable_search('others', ARRAY['body'])",
    );
    // Somebody who holds the companion keeps a batch from beginning.
    let mut holder = database.connect();
    holder.run("BEGIN; LOCK TABLE docs_search IN ACCESS EXCLUSIVE MODE");
    session.run("INSERT INTO docs VALUES (3, 'c', 'd'); INSERT INTO others VALUES (1, 'a'), (2, 'b')");
    wait_until("the other table is done", || session.text("SELECT count(*) FROM others_search") == "2");
    wait_until("the batch has failed", || server.log().contains("vector_tools worker: a batch of"));
    holder.run("COMMIT");
    settled(&mut session);
    assert_eq!(session.rows("SELECT * FROM vector_tools.embedding_errors"), [""; 0]);
}

// trust 9
#[test]
fn a_worker_stops_with_the_server_and_goes_on_with_it() {
    let preloaded =
        [("shared_preload_libraries", "vector_tools"), ("vector_tools.worker_idle_timeout", "10min")];
    let server = server("test-workers-stop", &preloaded);
    let (database, mut session) = enabled(&server, "work");
    settled(&mut session);
    session.run(
        "INSERT INTO docs SELECT i, 'title', repeat('text ', 200) || i FROM generate_series(10, 2000) AS i",
    );
    wait_until("a batch is done", || session.text("SELECT count(*) > 2 FROM docs_search") == "t");
    server.stop("fast");
    let log = server.log();
    let ours: Vec<&str> =
        log.lines().filter(|line| line.contains("FATAL") && line.contains("vector_tools")).collect();
    assert_eq!(ours, [""; 0], "expected the worker to leave quietly");
    // Nobody writes; the launcher finds what is left.
    server.start_again(&preloaded);
    let mut session = database.connect();
    assert_ne!(session.text(ENTRIES), "0", "expected work to be left");
    let done = session.text("SELECT count(*) FROM docs_search");
    wait_until("the work goes on", || session.text("SELECT count(*) FROM docs_search") != done);
    session.run("DELETE FROM docs WHERE id >= 10");
    settled(&mut session);
    assert_eq!(
        session.rows("SELECT * FROM vector_tools.embedding_errors"),
        [""; 0],
        "expected no attempt to count"
    );
}

#[test]
fn a_database_with_a_worker_can_be_dropped_copied_and_renamed() {
    let server = server("test-workers-drop", &[("vector_tools.worker_idle_timeout", "10min")]);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    worker(&mut session);
    drop(session);
    let mut other = Session::open(&server, "postgres", "postgres");
    other.run("CREATE DATABASE copy TEMPLATE work");
    other.run("ALTER DATABASE copy RENAME TO copied");
    // One that waits for a row that has failed, and one that is in the middle of a batch.
    let mut session = Session::open(&server, "copied", "postgres");
    session.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    session.run(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION dawdle();
         INSERT INTO docs SELECT i, 'title', repeat('text ', 300) || i FROM generate_series(10, 1000) AS i",
    );
    wait_until("the worker is at work", || {
        session.text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'embedding rows of %docs'")
            == "1"
    });
    drop(session);
    let left = |other: &mut Session| {
        other.text("SELECT count(*) FROM pg_stat_activity WHERE datname = 'copied' AND backend_type = 'client backend'")
    };
    wait_until("the session is gone", || left(&mut other) == "0");
    other.run("DROP DATABASE copied");
    other.run("DROP DATABASE work");
    assert!(!server.log().contains("PANIC"), "{}", server.log());
}

#[test]
fn the_extension_can_be_dropped_beside_a_worker() {
    let server = server("test-workers-extension", &[("vector_tools.worker_idle_timeout", "10min")]);
    let (_database, mut session) = enabled(&server, "work");
    settled(&mut session);
    worker(&mut session);
    session.run("SET lock_timeout = '60s'; DROP EXTENSION vector_tools CASCADE");
    wait_until("the worker has left", || workers(&mut session).is_empty());
    session.run("DROP TABLE docs_search; CREATE EXTENSION vector_tools");
    session.run(ENABLE);
    settled(&mut session);
}

// trust 6
#[test]
fn what_a_table_brings_along_runs_as_its_owner() {
    let server = server("test-workers-rights", &[("vector_tools.worker_idle_timeout", "10min")]);
    let database = Database::with_extension_on(&server, "work");
    database.create_role("mallory");
    let mut session = database.connect();
    session.run(
        "CREATE SCHEMA mallory AUTHORIZATION mallory; CREATE TABLE others (id int PRIMARY KEY, body text)",
    );
    let mut mallory = database.connect_as("mallory");
    mallory.run(
        "CREATE TABLE seen (who text, what text);
         CREATE FUNCTION try(attempt text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             EXECUTE attempt; INSERT INTO mallory.seen VALUES (current_user, 'success: ' || attempt);
         EXCEPTION WHEN OTHERS THEN INSERT INTO mallory.seen VALUES (current_user, SQLSTATE || ' ' || attempt);
         END $$;
         CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM mallory.try('SET ROLE postgres');
             PERFORM mallory.try('SET SESSION AUTHORIZATION postgres');
             PERFORM mallory.try('RESET SESSION AUTHORIZATION');
             PERFORM mallory.try('ALTER ROLE mallory SUPERUSER');
             PERFORM mallory.try('CREATE TEMP TABLE pg_class ()');
             PERFORM mallory.try('DELETE FROM vector_tools.queue');
             PERFORM set_config('search_path', 'mallory', false);
             PERFORM set_config('default_transaction_read_only', 'on', false);
             PERFORM pg_advisory_unlock_all();
             RETURN NEW; END $$;
         CREATE FUNCTION spy(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
             PERFORM mallory.try('ALTER ROLE mallory CREATEROLE'); RETURN $1; END $$;
         CREATE TABLE docs (id int PRIMARY KEY, body text, shadow text GENERATED ALWAYS AS (spy(body)) STORED);
         SELECT enable_search('docs', ARRAY['body'], mode => 'manual');
         CREATE TRIGGER climb BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION climb();
         CREATE INDEX ON docs_search (spy(content));
         SELECT enable_search('docs', ARRAY['body']);
         INSERT INTO docs VALUES (1, 'a'), (2, 'b')",
    );
    session.run("SELECT enable_search('others', ARRAY['body']); INSERT INTO others VALUES (1, 'x')");
    wait_until("the queue is empty", || session.text(ENTRIES) == "0");
    let seen = session.rows("SELECT DISTINCT who, what FROM mallory.seen ORDER BY what");
    let expected = [
        "mallory|42501 ALTER ROLE mallory CREATEROLE",
        "mallory|42501 ALTER ROLE mallory SUPERUSER",
        "mallory|42501 CREATE TEMP TABLE pg_class ()",
        "mallory|42501 DELETE FROM vector_tools.queue",
        "mallory|42501 RESET SESSION AUTHORIZATION",
        "mallory|42501 SET ROLE postgres",
        "mallory|42501 SET SESSION AUTHORIZATION postgres",
    ];
    assert_eq!(seen, expected);
    // What it set does not stay for others.
    session.run("INSERT INTO others VALUES (2, 'y')");
    wait_until("the queue is empty", || session.text(ENTRIES) == "0");
    assert_eq!(session.text("SELECT count(*) FROM others_search WHERE embedding IS NOT NULL"), "2");
    assert_eq!(workers(&mut session).len(), 1);
    // A trigger that waits for the commit would run as whoever commits.
    mallory.run(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON docs_search DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION climb();
         INSERT INTO docs VALUES (3, 'c')",
    );
    let errors = "SELECT sqlstate, message FROM vector_tools.embedding_errors";
    let refused = "42501|cannot fire deferred trigger within security-restricted operation";
    wait_until("the row has failed", || session.rows(errors) == [refused]);
    assert_eq!(session.text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'mallory'"), "f");
}

#[test]
fn a_batch_that_takes_too_long_is_given_up_and_its_rows_are_tried_in_smaller_ones() {
    let server = server("test-workers-overdue", &[("vector_tools.worker_batch_timeout", "1s")]);
    let database = Database::with_extension_on(&server, "work");
    let mut session = database.connect();
    session.run("CREATE TABLE docs (id int PRIMARY KEY, title text, body text)");
    session.run(ENABLE);
    // It does not listen when it is cancelled.
    session.run(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             WHILE NEW.row_id = 7 LOOP
                 BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END;
             END LOOP;
             RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION dawdle();
         INSERT INTO docs SELECT i, 't', 'b' || i FROM generate_series(1, 40) AS i",
    );
    wait_until("the other rows are embedded", || {
        session.run(
            "INSERT INTO docs VALUES (99, 't', 'b') ON CONFLICT (id) DO UPDATE SET body = docs.body || '.'",
        );
        session.text("SELECT count(*) FROM docs_search WHERE row_id <= 40") == "39"
    });
    let left = "SELECT id, category, sqlstate FROM vector_tools.embedding_errors WHERE id = '7'";
    wait_until("the row is alone", || session.rows(left) == ["7|resource|57P02"]);
    // The table is not held for long, and the server stops.
    server.stop("fast");
}

/// A trigger on a companion that sleeps and does not listen when it is cancelled.
const SNOOZE: &str = "CREATE FUNCTION snooze() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN LOOP
         BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
     END LOOP; END $$";

// trust 9, 29
#[test]
fn a_table_whose_batches_do_not_end_keeps_nobody_waiting_for_long() {
    let settings =
        [("vector_tools.worker_batch_timeout", "2s"), ("vector_tools.worker_idle_timeout", "10min")];
    let server = server("test-workers-hog", &settings);
    let database = Database::with_extension_on(&server, "work");
    for role in ["hog", "alice"] {
        database.create_role(role);
    }
    database.connect().run("GRANT CREATE ON SCHEMA public TO hog, alice");
    // The first turn would be those of the lower numbers.
    let mut hog = database.connect_as("hog");
    hog.run(SNOOZE);
    for table in 1..=3 {
        hog.run(&format!(
            "CREATE TABLE hog{table} (id int PRIMARY KEY, body text);
             SELECT enable_search('hog{table}', '{{body}}', mode => 'async', index_kind => 'none');
             CREATE TRIGGER s BEFORE INSERT ON hog{table}_search FOR EACH ROW EXECUTE FUNCTION snooze()"
        ));
    }
    let mut alice = database.connect_as("alice");
    alice.run("CREATE TABLE vict (id int PRIMARY KEY, body text); SELECT enable_search('vict', '{body}')");
    hog.run("INSERT INTO hog1 VALUES (1, 'hog'); INSERT INTO hog2 VALUES (1, 'hog'); INSERT INTO hog3 VALUES (1, 'hog')");
    let mut watcher = database.connect();
    let at_hog = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'embedding rows of %hog%'";
    wait_until("a worker is at the hog", || watcher.text(at_hog) == "1");
    // Nobody else commits anything that would start a worker, or wake one.
    for id in 501..=503 {
        alice.run(&format!("INSERT INTO vict VALUES ({id}, 'victim row')"));
        let done = format!("SELECT count(*) FROM vict_search WHERE row_id = {id}");
        wait_until("the row of the other is embedded", || watcher.text(&done) == "1");
    }
    // The hog's rows are found to be to blame, each of its tables is left alone for longer than a batch, and what it is
    // given is ever less.
    let ended = "terminating background worker \"vector_tools worker\"";
    wait_until("every table of the hog has had its turn", || server.log().matches(ended).count() >= 3);
    let blamed =
        "SELECT count(*) FROM vector_tools.queue WHERE source::text LIKE 'hog%' AND sqlstate = '57P02'";
    wait_until("the rows of the hog are under suspicion", || watcher.text(blamed) == "3");
    server.stop("fast");
}

// trust 9, 29
#[test]
fn whoever_ends_a_worker_has_the_next_one_start_where_rows_are_due() {
    let server = server("test-workers-ended", &[("vector_tools.worker_idle_timeout", "10min")]);
    let (database, mut session) = enabled(&server, "work");
    settled(&mut session);
    // Nothing is due: none stays.
    let pid = worker(&mut session);
    session.run(&format!("SELECT pg_terminate_backend({pid}, 10000)"));
    wait_until("no worker is left", || workers(&mut session).is_empty());
    // Something is: it is done without another commit.
    session.run(SLEEP_OVER_ROWS);
    session.run("INSERT INTO docs VALUES (3, 'c', 'd')");
    let sleeps = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'vector_tools worker' AND wait_event = 'PgSleep'";
    let mut sleeper = String::new();
    wait_until("a row is being written", || {
        sleeper = session.rows(sleeps).concat();
        !sleeper.is_empty()
    });
    session.run(&format!("BEGIN; DROP TABLE slow; SELECT pg_terminate_backend({sleeper}); COMMIT"));
    settled(&mut session);
    assert_ne!(worker(&mut session).to_string(), sleeper);
    let errors = session.rows("SELECT * FROM vector_tools.embedding_errors");
    assert_eq!(errors, [""; 0], "expected no attempt to count");
    // Whoever drops the database is not held up by one that follows.
    session.run(SNOOZE);
    session.run("CREATE TRIGGER s BEFORE INSERT ON docs_search FOR EACH ROW EXECUTE FUNCTION snooze()");
    session.run("INSERT INTO docs VALUES (4, 'c', 'd')");
    wait_until("the worker is at work", || !session.rows(sleeps).is_empty());
    drop((session, database));
    let mut other = Session::open(&server, "postgres", "postgres");
    other.run("DROP DATABASE work WITH (FORCE)");
    wait_until("no worker is left", || workers(&mut other).is_empty());
    server.stop("fast");
}

// trust 18
#[test]
fn workers_sleep_on_a_standby_and_wake_when_it_is_promoted() {
    let primary = server("test-workers-primary", &[("vector_tools.max_workers", "0")]);
    let (_database, writer) = enabled(&primary, "work");
    let folder = Folder::new();
    let preloaded = [("shared_preload_libraries", "vector_tools")];
    let standby = start_standby(&primary, &folder, "test-workers-standby", &preloaded);
    let mut reader = Session::open(&standby, "work", "postgres");
    assert_eq!(reader.text(ENTRIES), "1");
    let processes = "SELECT backend_type FROM pg_stat_activity WHERE backend_type LIKE 'vector_tools%'";
    assert_eq!(reader.rows(processes), [""; 0], "expected neither a launcher nor a worker on a standby");
    drop(writer);
    primary.stop("immediate");
    reader.run("SELECT pg_promote()");
    settled(&mut reader);
}
