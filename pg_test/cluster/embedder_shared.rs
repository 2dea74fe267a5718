//! One embedding process for all sessions: it starts by itself, and everybody uses it.

use std::thread;

use crate::database::{Database, MODEL, make_template, shared_server};
use crate::embedder::{files, process, server_started, started_process, statistic, supervisor};
use crate::process::{has_onnxruntime, open_files, open_sockets, private_kib, threads_of, wait_until};
use crate::report::skipped;
use crate::server::Server;
use crate::session::Schemas;

#[test]
fn the_first_call_of_many_sessions_starts_one_process() {
    let server = Server::start("test-embedder-first", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "first");
    let mut session = database.connect();
    assert_eq!(session.text("SHOW shared_preload_libraries"), "");
    assert_eq!(process(&mut session), None, "expected no process before the first call");
    assert_eq!(supervisor(&mut session), None, "expected the statistics not to start a process");
    let mut sessions: Vec<_> = (0..8).map(|_| database.connect()).collect();
    thread::scope(|scope| {
        for session in &mut sessions {
            scope.spawn(|| session.still_embeds());
        }
    });
    let found: Vec<_> = sessions.iter_mut().map(process).collect();
    assert!(found[0].is_some(), "expected a process after the first calls");
    assert_eq!(found, vec![found[0]; 8], "expected one process for all sessions");
    for session in &mut sessions {
        assert!(session.take_notices().is_empty(), "expected no session to load the model itself");
        assert!(!has_onnxruntime(session.pid), "expected no ONNX Runtime in a session");
        assert_eq!(threads_of(session.pid), [session.pid], "expected no thread in a session");
    }
    assert!(supervisor(&mut session).is_some(), "expected pg_stat_activity to show the supervisor");
    assert_eq!(
        files(&mut session).len(),
        2,
        "expected a socket and a lock file, not {:?}",
        files(&mut session)
    );
    assert_eq!(statistic(&mut session, "texts"), 8, "expected the process to have embedded for all of them");
    assert_eq!(statistic(&mut session, "loads"), 1, "expected the model to be loaded once");
}

#[test]
fn a_session_and_the_process_give_the_same_vectors() {
    let database = Database::with_extension("embedder_vectors");
    let mut session = database.connect();
    for model in ["all-MiniLM-L6-v2", MODEL] {
        session.run(&format!(
            "CREATE TEMP TABLE texts AS SELECT 'a text of some words'||repeat(' and more', i) AS body
                 FROM generate_series(0, 40) AS i;
             SET vector_tools.embedder = 'shared';
             CREATE TEMP TABLE shared AS SELECT body, embed(body, '{model}') AS v, count_tokens(body, '{model}') AS n FROM texts;
             SET vector_tools.embedder = 'backend';"
        ));
        let differing = session.text(&format!(
            "SELECT count(*) FROM shared WHERE v <=> embed(body, '{model}') > 1e-6 OR n <> count_tokens(body, '{model}')"
        ));
        assert_eq!(differing, "0", "expected the vectors and tokens of {model} to be the same");
        session.run("DROP TABLE texts, shared; RESET vector_tools.embedder");
    }
}

#[test]
fn long_arrays_come_back_whole_and_in_order() {
    let database = Database::with_extension("embedder_arrays");
    let mut session = database.connect();
    session.run("SET vector_tools.embedder = 'shared'");
    let wrong = session.text(
        "WITH texts AS (SELECT array_agg(CASE WHEN i % 100 = 0 THEN NULL ELSE 'text ' || i END ORDER BY i) AS a
                        FROM generate_series(1, 3000) AS i),
              vectors AS (SELECT v, place FROM texts, unnest(embed(a)) WITH ORDINALITY AS u(v, place))
         SELECT count(*) FROM vectors
         WHERE (v IS NULL) <> (place % 100 = 0) OR (place % 500 = 1 AND v <=> embed('text ' || place) > 1e-5)",
    );
    assert_eq!(wrong, "0", "expected each vector in the place of its text");
    assert_eq!(session.text("SELECT array_length(embed(ARRAY[]::text[]), 1)"), "∅");
}

#[test]
fn two_databases_may_give_one_name_to_two_models() {
    let (first, second) =
        (Database::with_extension("embedder_one"), Database::with_extension("embedder_two"));
    let (mut one, mut two) = (first.connect(), second.connect());
    one.run(&format!("SELECT register_model('same', '{MODEL}')"));
    two.run("SELECT register_model('same', 'all-MiniLM-L6-v2')");
    let question = "SELECT embed('which model is this?', 'same')::text";
    let alone = |name: &str| format!("SELECT embed('which model is this?', '{name}')::text");
    assert_eq!(one.text(question), one.text(&alone(MODEL)));
    assert_eq!(two.text(question), two.text(&alone("all-MiniLM-L6-v2")));
    assert_ne!(one.text(question), two.text(question), "expected each database its own model");
    assert_eq!(process(&mut one), process(&mut two), "expected one process for both");
    // Another model under the same name, in a session that has used the first one.
    one.run("SELECT drop_model('same'); SELECT register_model('same', 'all-MiniLM-L6-v2')");
    assert_eq!(one.text(question), two.text(question), "expected the new registration to count");
}

#[test]
fn the_process_outlives_the_extension() {
    let database = Database::with_extension("embedder_create");
    let mut session = database.connect();
    session.still_embeds();
    let schema = Schemas::in_use().extension;
    session
        .run(&format!("DROP EXTENSION vector_tools CASCADE; CREATE EXTENSION vector_tools SCHEMA {schema}"));
    session.still_embeds();
    assert!(session.take_notices().iter().all(|notice| !notice.message().contains("embedding process")));
    database.connect().still_embeds();
}

#[test]
fn sessions_hold_no_model() {
    let database = Database::with_extension("embedder_memory");
    let mut sessions: Vec<_> = (0..12).map(|_| database.connect()).collect();
    // What a session needs for any statement of the extension is there before.
    let statement = "SELECT count(*) FROM vector_tools.models WHERE name <> ''";
    sessions.iter_mut().for_each(|session| session.run(statement));
    let before: u64 = sessions.iter().map(|session| private_kib(session.pid)).sum();
    sessions.iter_mut().for_each(|session| session.still_embeds());
    let shared: u64 = sessions.iter().map(|session| private_kib(session.pid)).sum::<u64>() - before;
    let mut own = database.connect();
    own.run(statement);
    own.run("SET vector_tools.embedder = 'backend'");
    let before = private_kib(own.pid);
    own.still_embeds();
    let backend = private_kib(own.pid) - before;
    assert!(
        shared < backend,
        "expected twelve sessions to grow by less than one that loads the model ({backend} KiB), not by {shared} KiB"
    );
}

#[test]
fn the_process_reports_to_nobody_and_keeps_no_file() {
    let database = Database::with_extension("embedder_reports");
    let mut session = database.connect();
    let process = started_process(&mut session);
    if std::fs::read_dir(format!("/proc/{process}/fd")).is_err() {
        return skipped(
            "the_process_reports_to_nobody_and_keeps_no_file",
            "only root may look into the process",
        );
    }
    let files = open_files(process);
    let written: Vec<&String> = files.iter().filter(|file| file.contains("/.cache/")).collect();
    assert!(written.is_empty(), "expected no file in a home folder to be open or mapped, not {written:?}");
    // Of the server's own files, neither data nor WAL nor log but its error output.
    let data = shared_server().data().display().to_string();
    let kept: Vec<&String> = files.iter().filter(|file| file.contains(&data)).collect();
    assert!(kept.is_empty(), "expected none of the server's files, not {kept:?}");
    // One socket listens, and one is each session's.
    wait_until("every socket is a session's or the listening one", || {
        open_sockets(process).len() as i64 <= statistic_of_one(&mut session) + 1
    });
}

/// The number of sessions that are connected.
fn statistic_of_one(session: &mut crate::session::Session) -> i64 {
    let connections = session.text("SELECT max(connections) FROM vector_tools.embedder_stats");
    connections.parse().expect("a number")
}

#[test]
fn warm_up_loads_and_the_statistics_count() {
    let server = Server::start("test-embedder-counts", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "counts");
    let mut session = database.connect();
    let started = server_started(&mut session);
    assert_eq!(session.text("SELECT warm_up()"), "384");
    assert_eq!(session.text("SELECT warm_up('all-MiniLM-L6-v2')"), "384");
    session.fails("42704", "SELECT warm_up('no such model')");
    let loaded = "SELECT model, dimensions, loaded, loads FROM vector_tools.embedder_stats ORDER BY model";
    assert_eq!(session.rows(loaded), ["all-MiniLM-L6-v2|384|t|1", "all-MiniLM-L6-v2-int8|384|t|1"]);
    let texts = statistic(&mut session, "texts");
    session.run("SELECT embed(array_agg('text ' || i)) FROM generate_series(1, 100) AS i");
    assert_eq!(statistic(&mut session, "texts"), texts + 100);
    let sound = session.text(
        "SELECT bool_and(process_id > 0 AND started_at > pg_postmaster_start_time() AND started_at <= now()
                    AND restarts = 0 AND threads > 0 AND connections > 0 AND memory_bytes > model_memory_bytes
                    AND memory_limit_bytes IS NULL AND requests > 0 AND failures = 0 AND batches > 0
                    AND mean_batch_tokens > 0 AND queued = 0 AND p50_ms > 0 AND p99_ms >= p50_ms)
         FROM vector_tools.embedder_stats",
    );
    assert_eq!(
        sound,
        "t",
        "expected sound statistics, not {:?}",
        session.rows("TABLE vector_tools.embedder_stats")
    );
    assert_eq!(server_started(&mut session), started);
}
