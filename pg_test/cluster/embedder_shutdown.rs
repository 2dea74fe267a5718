//! However the server ends, its embedding process ends too (9).

use std::thread;

use crate::database::{Database, make_template};
use crate::embedder::{check_nothing_leaks, started_process, supervisor, wait_until_gone};
use crate::process::{send_signal, wait_until};
use crate::server::Server;

/// Starts a server, has a session embed for long, ends the server by `stop` and starts it again.
fn check(name: &str, stop: impl FnOnce(&Server, i32)) {
    let server = Server::start(name, &[]);
    make_template(&server);
    let database = Database::with_extension_on(&server, "stopped");
    let mut session = database.connect();
    let process = started_process(&mut session);
    let worker = supervisor(&mut session).expect("expected a supervisor");
    let first_line = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)";
    let postmaster = session.text(first_line).parse().expect("the first line of postmaster.pid is a number");
    let mut busy = database.connect();
    let pid = busy.pid;
    let working = thread::spawn(move || {
        // It ends with the server.
        let _ = busy.try_rows("SELECT embed(array_fill(repeat('many words ', 50), ARRAY[50000]))");
    });
    wait_until("a session waits for vectors", || {
        let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
        session.rows(&waits) == ["Extension"]
    });
    stop(&server, postmaster);
    wait_until_gone(worker, process);
    working.join().expect("the thread only runs a statement");
    wait_until("the postmaster is gone", || !crate::process::is_alive(postmaster));
    server.start_again(&[]);
    check_nothing_leaks(&mut database.connect());
}

#[test]
fn a_fast_shutdown_ends_it() {
    check("test-embedder-fast", |server, _| server.stop("fast"));
}

#[test]
fn an_immediate_shutdown_ends_it() {
    check("test-embedder-immediate", |server, _| server.stop("immediate"));
}

#[test]
fn it_dies_with_a_killed_postmaster() {
    check("test-embedder-postmaster", |_, postmaster| send_signal(postmaster, "KILL"));
}
