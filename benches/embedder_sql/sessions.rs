//! Many sessions that ask one question after another.

use std::thread;
use std::time::{Duration, Instant};

use crate::paired::{median, time};
use crate::server::Server;
use crate::side::{Side, percentile};
use crate::table::Table;
use crate::{CLIENTS, Scale, question};

/// What sessions that ask at the same time ask.
#[derive(Clone, Copy)]
enum Questions {
    /// Never the same.
    Different,
    /// All the same ones, in the same order.
    Same,
}

/// Adds the rows about many sessions.
pub fn measure(server: &Server, scale: &Scale, (kind, model): (&str, &str), table: &mut Table) {
    let what = format!("{CLIENTS} sessions of single queries, {kind}");
    let asked = ["at least 2 ×", "at most 1 ×"];
    compare(server, scale, model, Questions::Different, &what, asked, table);
    let what = format!("{CLIENTS} sessions that all ask the same, {kind}");
    compare(server, scale, model, Questions::Same, &what, ["", ""], table);
}

fn compare(
    server: &Server,
    scale: &Scale,
    model: &str,
    questions: Questions,
    what: &str,
    asked: [&str; 2],
    table: &mut Table,
) {
    let mut rates: [Vec<f64>; 2] = Default::default();
    let mut ends: [Vec<f64>; 2] = Default::default();
    for turn in 0..scale.turns {
        for side in Side::in_turn(turn) {
            let mut took = ask(server, side, model, questions, Duration::from_secs(scale.seconds));
            rates[side as usize].push(took.len() as f64 / scale.seconds as f64);
            ends[side as usize].push(percentile(&mut took, 99));
        }
    }
    let ratios = |numbers: &[Vec<f64>; 2]| {
        median(numbers[0].iter().zip(&numbers[1]).map(|(shared, backend)| shared / backend).collect())
    };
    let (rate, end) = (ratios(&rates), ratios(&ends));
    let [shared, backend] = rates.map(median);
    table.add(
        what.to_owned(),
        format!("{shared:.0} queries/s"),
        format!("backend {backend:.0} queries/s"),
        format!("{rate:.2} ×"),
        asked[0],
    );
    let [shared, backend] = ends.map(median);
    table.add(
        format!("{what}, p99"),
        format!("{shared:.0} ms"),
        format!("backend {backend:.0} ms"),
        format!("{end:.2} ×"),
        asked[1],
    );
}

/// The milliseconds of all answers to the sessions within some time.
fn ask(server: &Server, side: Side, model: &str, questions: Questions, period: Duration) -> Vec<f64> {
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| side.connect_warm(server, model)).collect();
    let until = Instant::now() + period;
    thread::scope(|scope| {
        let asking: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, (client, query))| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while Instant::now() < until {
                        let text = match questions {
                            Questions::Different => question(number, took.len()),
                            Questions::Same => question(0, took.len()),
                        };
                        let answer = || client.query_one(&*query, &[&text]).expect("it embeds");
                        took.push(time(answer).as_secs_f64() * 1e3);
                    }
                    took
                })
            })
            .collect();
        asking.into_iter().flat_map(|session| session.join().expect("a session only asks")).collect()
    })
}
