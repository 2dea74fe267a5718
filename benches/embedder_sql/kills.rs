//! Killing the embedding process under load, again and again.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::server::Server;
use crate::side::{Side, connect};
use crate::table::Table;
use crate::{MODELS, Scale, questions};

const SESSIONS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(60);

/// Adds the rows about kills.
pub fn measure(server: &Server, scale: &Scale, table: &mut Table) {
    let mut observer = connect(server);
    let started = text(&mut observer, "SELECT pg_postmaster_start_time()::text");
    let (stop, answers, failures) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut restarted = Vec::new();
    thread::scope(|scope| {
        for _ in 0..SESSIONS {
            scope.spawn(|| {
                let (mut client, query) = Side::Shared.connect_warm(server, MODELS[1].1);
                for question in questions().iter().cycle() {
                    match client.query_one(&query, &[question]) {
                        Ok(_) => answers.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            let code = error.code().map(|code| code.code());
                            assert_eq!(code, Some("57P03"), "expected a retryable error, not {error:?}");
                            failures.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let mut last = String::new();
        for _ in 0..scale.kills {
            let began = Instant::now();
            let seen = answers.load(Ordering::Relaxed);
            let process = loop {
                assert!(began.elapsed() < DEADLINE, "expected another process");
                let rows = observer.query("SELECT process_id::text FROM vector_tools.embedder_stats", &[]);
                let process = rows.ok().and_then(|rows| rows.first().map(|row| row.get::<_, String>(0)));
                match process {
                    Some(process) if process != last && answers.load(Ordering::Relaxed) > seen => {
                        break process;
                    }
                    _ => thread::sleep(Duration::from_millis(5)),
                }
            };
            restarted.push(began.elapsed().as_secs_f64());
            let killed = Command::new("sh").args(["-c", &format!("kill -9 {process}")]).status();
            assert!(killed.is_ok_and(|status| status.success()), "expected the process to be killed");
            last = process;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let restarts = text(&mut observer, "SELECT max(restarts)::text FROM vector_tools.embedder_stats");
    let files = text(&mut observer, "SELECT count(*)::text FROM pg_ls_dir('pg_stat_tmp')");
    let now = text(&mut observer, "SELECT pg_postmaster_start_time()::text");
    let (answers, failures) = (answers.into_inner(), failures.into_inner());
    table.add(
        format!("{} × kill -9 while {SESSIONS} sessions ask", scale.kills),
        format!("{failures} calls failed, {answers} were answered"),
        format!("{restarts} restarts, {files} files"),
        if now == started { "server not restarted".to_owned() } else { "SERVER RESTARTED".to_owned() },
        "only calls in flight",
    );
}

fn text(client: &mut Client, query: &str) -> String {
    client.query_one(query, &[]).expect("the query gives one row").get(0)
}
