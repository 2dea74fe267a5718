//! How soon a session that waits for vectors of a long array hears that it is to stop.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::Scale;
use crate::server::Server;
use crate::side::{Side, connect, percentile};
use crate::table::Table;

/// Work for a minute, unless it is stopped.
const LONG: &str =
    "SELECT count(v) FROM unnest(embed(array_fill(repeat('many words of a text ', 40), ARRAY[20000]))) AS v";
const TIMEOUT: Duration = Duration::from_millis(300);

/// Adds the rows about stopping a call.
pub fn measure(server: &Server, scale: &Scale, (kind, model): (&str, &str), table: &mut Table) {
    let (mut client, _) = Side::Shared.connect_warm(server, model);
    let token = client.cancel_token();
    let ask = |_: &mut Client, _| token.cancel_query(NoTls).expect("the server takes cancel requests");
    let mut cancelled: Vec<f64> = (0..scale.stops).map(|_| stop(server, &mut client, "57014", ask)).collect();
    let mut function: Vec<f64> = (0..scale.stops)
        .map(|_| stop(server, &mut client, "57014", |observer, pid| tell(observer, "pg_cancel_backend", pid)))
        .collect();
    client.batch_execute(&format!("SET statement_timeout = {}", TIMEOUT.as_millis())).expect("a setting");
    let mut late: Vec<f64> = (0..scale.stops)
        .map(|_| {
            let began = Instant::now();
            let error = client.simple_query(LONG).expect_err("it takes longer than that");
            let took = began.elapsed();
            assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
            took.saturating_sub(TIMEOUT).as_secs_f64() * 1e3
        })
        .collect();
    let mut terminated: Vec<f64> = (0..scale.stops)
        .map(|_| {
            let (mut client, _) = Side::Shared.connect_warm(server, model);
            stop(server, &mut client, "57P01", |observer, pid| tell(observer, "pg_terminate_backend", pid))
        })
        .collect();
    let ways = [
        ("a client's cancel request", &mut cancelled),
        ("pg_cancel_backend", &mut function),
        ("statement_timeout, beyond its time", &mut late),
        ("pg_terminate_backend", &mut terminated),
    ];
    for (way, took) in ways {
        table.add(
            format!("{way} in a long embed(text[]), {kind}"),
            format!(
                "median {:.1} ms, of {} at most {:.1} ms",
                percentile(took, 50),
                took.len(),
                percentile(took, 100)
            ),
            String::new(),
            String::new(),
            "at most 100 ms",
        );
    }
}

/// Has `client` embed for long, and tells by `ask` that it is to stop; the milliseconds until it has
/// heard of it.
fn stop(server: &Server, client: &mut Client, sqlstate: &str, ask: impl FnOnce(&mut Client, i32)) -> f64 {
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("it answers").get(0);
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            let error = client.simple_query(LONG).expect_err("it is stopped");
            let ended = Instant::now();
            // The client may read no message that comes together with the end of the connection.
            let found = error.code().map(|code| code.code().to_owned());
            assert!(found.is_none_or(|found| found == sqlstate), "{error:?}");
            ended
        });
        let mut observer = connect(server);
        let is_waiting = "SELECT wait_event_type = 'Extension' AND (SELECT sum(queued) > 0 FROM vector_tools.embedder_stats) \
                          FROM pg_stat_activity WHERE pid = $1";
        while !observer
            .query_one(is_waiting, &[&pid])
            .expect("it answers")
            .get::<_, Option<bool>>(0)
            .unwrap_or_default()
        {}
        let began = Instant::now();
        ask(&mut observer, pid);
        let ended = working.join().expect("it only waits");
        ended.saturating_duration_since(began).as_secs_f64() * 1e3
    })
}

fn tell(observer: &mut Client, function: &str, pid: i32) {
    let told = observer.query_one(&format!("SELECT {function}($1)"), &[&pid]);
    assert!(told.is_ok_and(|row| row.get(0)), "expected the session to be told");
}
