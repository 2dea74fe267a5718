//! A session that waits for the embedding process can be stopped while the process does nothing at
//! all (8, 9): it is itself what wakes up, not the process that lets it go.

use std::thread;

use postgres::NoTls;

use crate::database::{Database, make_template};
use crate::embedder::{server_started, started_process, supervisor, wait_until_gone};
use crate::process::{is_alive, send_signal, wait_until};
use crate::server::Server;
use crate::session::{Session, described};

const CALLS: [&str; 3] = [
    "SELECT embed('one question')",
    "SELECT count(v) FROM unnest(embed(array_fill('many questions'::text, ARRAY[5000]))) AS v",
    "SELECT count_tokens('how many words?')",
];

/// What a session says whose process has not greeted it within five seconds: a machine that stood
/// still for as long, not the call, which is then made again.
const SILENT: &str = "57P03 ";

/// Runs `statement` in `session` and calls `stop` once it waits for the process; gives back the
/// session, and what the statement ended with.
fn interrupt(
    observer: &mut Session,
    mut session: Session,
    statement: &'static str,
    stop: impl Fn(&mut Session, i32),
) -> (Session, String) {
    let pid = session.pid;
    let activity = format!(
        "SELECT state || ' ' || coalesce(wait_event_type, '') FROM pg_stat_activity WHERE pid = {pid}"
    );
    loop {
        let waiting = thread::spawn(move || {
            let result = session.try_rows(statement);
            (session, result.map_err(|error| described(&error)))
        });
        wait_until("the session waits for the process", || {
            waiting.is_finished() || observer.text(&activity) == "active Extension"
        });
        if !waiting.is_finished() {
            stop(observer, pid);
        }
        wait_until("the statement ends while the process stands still", || waiting.is_finished());
        let result;
        (session, result) = waiting.join().expect("the thread only runs a statement");
        match result {
            Err(error) if error.starts_with(SILENT) => {}
            Err(error) => return (session, error),
            Ok(rows) => return (session, format!("rows {rows:?}")),
        }
    }
}

// trust 8, 9
#[test]
fn a_session_is_stopped_while_the_process_stands_still() {
    let server = Server::start("test-embedder-still", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "still");
    let mut observer = database.connect();
    observer.run("LOAD 'vector_tools'");
    let started = server_started(&mut observer);
    let process = started_process(&mut observer);
    for call in CALLS {
        let mut session = database.connect();
        session.still_embeds();
        let token = session.cancel_token();
        send_signal(process, "STOP");
        let (session, error) = interrupt(&mut observer, session, call, |observer, pid| {
            observer.run(&format!("SELECT pg_cancel_backend({pid})"));
        });
        assert!(error.starts_with("57014 "), "expected SQLSTATE 57014, not {error}");
        // On a new connection to the process, since the last one was left in the middle of a call.
        let (mut session, error) = interrupt(&mut observer, session, call, |_, _| {
            token.cancel_query(NoTls).expect("the server takes cancel requests");
        });
        assert!(error.starts_with("57014 "), "expected SQLSTATE 57014, not {error}");
        session.run("SET statement_timeout = '200ms'");
        session.fails("57014", call);
        session.run("SET statement_timeout = 0");
        let pid = session.pid;
        let (_, error) = interrupt(&mut observer, session, call, |observer, pid| {
            observer.run(&format!("SELECT pg_terminate_backend({pid})"));
        });
        // The client may read no message that comes together with the end of the connection.
        let is_told = error.starts_with("57P01 ") || error.contains("kind: Closed");
        assert!(is_told, "expected SQLSTATE 57P01, not {error}");
        wait_until("the backend is gone", || !is_alive(pid));
        send_signal(process, "CONT");
        assert_eq!(started_process(&mut observer), process, "expected the same process to go on");
    }
    wait_until("only living sessions are connected", || {
        // That of this session's embeddings and that of the question itself.
        observer.text("SELECT max(connections) FROM vector_tools.embedder_stats") == "2"
    });
    assert_eq!(server_started(&mut observer), started, "expected the server not to restart");
}

// trust 9
#[test]
fn a_fast_shutdown_ends_waiting_sessions_and_a_process_that_stands_still() {
    let server = Server::start("test-embedder-still-stop", &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "still_stop");
    let mut observer = database.connect();
    let process = started_process(&mut observer);
    let worker = supervisor(&mut observer).expect("expected a supervisor");
    let mut session = database.connect();
    session.still_embeds();
    send_signal(process, "STOP");
    let (_, error) = interrupt(&mut observer, session, CALLS[0], |_, _| server.stop("fast"));
    let is_told = error.starts_with("57P01 ") || error.contains("kind: Closed");
    assert!(is_told, "expected SQLSTATE 57P01, not {error}");
    wait_until_gone(worker, process);
}
