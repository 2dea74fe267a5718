//! The death of the embedding process and of its supervisor, which harms nobody else (10).

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::database::{Database, MODEL, make_template};
use crate::embedder::{
    check_nothing_leaks, check_server_unharmed, process, server_started, started_process, statistic,
    supervisor, wait_until_gone,
};
use crate::models::Folder;
use crate::process::{send_signal, wait_until};
use crate::server::Server;
use crate::session::Session;

const SESSIONS: usize = 6;
const KILLS: usize = 20;

/// What a session met while the process was killed again and again.
#[derive(Default)]
struct Met {
    answers: AtomicUsize,
    failures: AtomicUsize,
}

fn embed_until(stop: &AtomicBool, met: &Met, session: &mut Session, number: usize) {
    // One in two sends more than one request at a time.
    let texts = if number.is_multiple_of(2) { 1 } else { 1500 };
    let call = format!(
        "SELECT count(v) FROM unnest(embed(array_fill('a word and {number}'::text, ARRAY[{texts}]))) AS v"
    );
    while !stop.load(Ordering::SeqCst) {
        match session.ask_rows(&call) {
            Ok(rows) => {
                assert_eq!(rows, [texts.to_string()], "expected a vector for each text");
                met.answers.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => {
                assert_eq!(error.code().code(), "57P03", "expected a retryable error, not {error:?}");
                assert!(
                    error.hint().is_some_and(|hint| hint.contains("again")),
                    "expected a hint in {error:?}"
                );
                met.failures.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

#[test]
fn a_killed_process_costs_at_most_the_calls_in_flight() {
    let server = Server::start("test-embedder-kill", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "kills");
    let mut session = database.connect();
    let started = server_started(&mut session);
    let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| database.connect()).collect();
    let backends: Vec<i32> = sessions.iter().map(|session| session.pid).collect();
    let (stop, met) = (AtomicBool::new(false), Met::default());
    thread::scope(|scope| {
        for (number, session) in sessions.iter_mut().enumerate() {
            let (stop, met) = (&stop, &met);
            scope.spawn(move || embed_until(stop, met, session, number));
        }
        let mut last = 0;
        for _ in 0..KILLS {
            let answers = met.answers.load(Ordering::SeqCst);
            let mut next = None;
            wait_until("another process serves", || {
                next = process(&mut session).filter(|process| *process != last);
                next.is_some() && met.answers.load(Ordering::SeqCst) > answers
            });
            last = next.unwrap_or_default();
            send_signal(last, "KILL");
        }
        stop.store(true, Ordering::SeqCst);
    });
    let failures = met.failures.load(Ordering::SeqCst);
    assert!(
        failures <= KILLS * SESSIONS,
        "expected at most the calls in flight to fail, not {failures} of {SESSIONS} sessions and {KILLS} kills"
    );
    for (session, backend) in sessions.iter_mut().zip(backends) {
        session.still_embeds();
        assert_eq!(session.pid, backend, "expected each session to live on");
        assert!(session.take_notices().is_empty(), "expected no session to load the model itself");
    }
    assert_eq!(server_started(&mut session), started, "expected the server not to restart");
    assert_eq!(statistic(&mut session, "restarts"), KILLS as i64, "expected each restart to be counted");
    check_nothing_leaks(&mut session);
    check_server_unharmed(&server);
}

#[test]
fn a_killed_supervisor_takes_the_process_along_and_the_next_call_starts_both() {
    let server = Server::start("test-embedder-supervisor", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "supervisor");
    let mut session = database.connect();
    let started = server_started(&mut session);
    for end in ["signal", "function"] {
        let first = started_process(&mut session);
        let worker = supervisor(&mut session).expect("expected a supervisor");
        if end == "signal" {
            send_signal(worker, "TERM");
        } else {
            session.run(&format!("SELECT pg_terminate_backend({worker})"));
        }
        wait_until_gone(worker, first);
        assert_ne!(started_process(&mut session), first, "expected the next call to start another process");
    }
    let worker = supervisor(&mut session).expect("expected a supervisor");
    session.run(&format!("SELECT pg_cancel_backend({worker})"));
    session.still_embeds();
    assert_eq!(
        supervisor(&mut session),
        Some(worker),
        "expected a cancel request to leave the supervisor alone"
    );
    check_nothing_leaks(&mut session);
    assert_eq!(server_started(&mut session), started, "expected the server not to restart");
    check_server_unharmed(&server);
}

#[test]
fn a_new_process_refuses_a_model_file_that_was_replaced() {
    let server = Server::start("test-embedder-file", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "file");
    let folder = Folder::new();
    let model = folder.copy_model(MODEL, "copy");
    let mut session = database.connect();
    session.run(&format!("SELECT register_model('m', '{}')", model.display()));
    let question = "SELECT embed('which file was this?', 'm')::text";
    let before = session.text(question);
    let path = model.join("model.onnx");
    let mut bytes = fs::read(&path).expect("the copy can be read");
    bytes.extend_from_slice(b"\n");
    fs::write(&path, bytes).expect("the copy can be written");
    let mut fresh = database.connect();
    assert_eq!(fresh.text(question), before, "expected the process to go on with what it has loaded");
    send_signal(started_process(&mut session), "KILL");
    let error = fresh.fails("XX001", question);
    assert!(
        error.message().contains(&path.display().to_string()),
        "expected the path in: {}",
        error.message()
    );
    assert!(error.detail().is_some() && error.hint().is_some(), "expected a detail and a hint in {error:?}");
    fresh.still_embeds();
    session.still_embeds();
}
