//! The embedding process of a server, as its statistics and the kernel show it.

use crate::process::{children_of, is_alive, wait_until};
use crate::server::Server;
use crate::session::Session;

/// The embedding process, when one answers.
pub fn process(session: &mut Session) -> Option<i32> {
    // One that is being started anew may leave the question unanswered.
    let rows = session.ask_rows("SELECT DISTINCT process_id FROM vector_tools.embedder_stats").ok()?;
    rows.first()?.parse().ok()
}

/// The embedding process after a call has started it.
pub fn started_process(session: &mut Session) -> i32 {
    session.still_embeds();
    process(session).expect("expected an embedding process after an embedding")
}

/// The background worker that supervises the embedding process.
pub fn supervisor(session: &mut Session) -> Option<i32> {
    let rows = session.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'vector_tools embedder'");
    assert!(rows.len() < 2, "expected one supervisor, not {rows:?}");
    rows.first()?.parse().ok()
}

/// The sum of a column of the statistics over all models.
pub fn statistic(session: &mut Session, column: &str) -> i64 {
    let sum =
        session.text(&format!("SELECT coalesce(sum({column}), 0)::bigint FROM vector_tools.embedder_stats"));
    sum.parse().expect("a sum is a number")
}

/// What lies beside the sockets of a server.
pub fn files(session: &mut Session) -> Vec<String> {
    let mut files = session.rows("SELECT pg_ls_dir('pg_stat_tmp') AS file ORDER BY file");
    files.retain(|file| file.starts_with("vector_tools_embedder"));
    files
}

/// Checks that one supervisor owns one process and two files, and nothing else is left of others.
pub fn check_nothing_leaks(session: &mut Session) {
    let process = started_process(session);
    let supervisor = supervisor(session).expect("expected a supervisor of the embedding process");
    wait_until("the supervisor has one child", || children_of(supervisor) == [process]);
    let kinds: Vec<String> =
        files(session).iter().filter_map(|file| Some(file.rsplit_once('.')?.1.to_owned())).collect();
    assert_eq!(kinds, ["lock", "sock"], "expected one lock file and one socket");
}

/// When the server was started, which a crash of one of its processes would change.
pub fn server_started(session: &mut Session) -> String {
    session.text("SELECT pg_postmaster_start_time()")
}

/// Checks that no process of the server itself died.
pub fn check_server_unharmed(server: &Server) {
    let said = server.log();
    let bad = ["terminated by signal", "PANIC", "was not properly shut down", "reinitializing"];
    let lines: Vec<&str> = said.lines().filter(|line| bad.iter().any(|words| line.contains(words))).collect();
    assert!(lines.is_empty(), "expected no process of the server to die, but its log has {lines:?}");
}

/// Waits until a process and its supervisor are gone.
pub fn wait_until_gone(supervisor: i32, process: i32) {
    wait_until("the embedding process is gone", || !is_alive(process));
    wait_until("its supervisor is gone", || !is_alive(supervisor));
}
