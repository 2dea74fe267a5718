//! Many sessions that ask one question after another.

use std::thread;
use std::time::{Duration, Instant};

use crate::paired::{median, processor_time, time};
use crate::server::Server;
use crate::side::{Side, percentile, postmaster, with_descendants};
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
    let mut costs: [Vec<f64>; 2] = Default::default();
    let first = postmaster(server);
    for turn in 0..scale.turns {
        for side in Side::in_turn(turn) {
            let (mut took, cost) =
                ask(server, first, side, model, questions, Duration::from_secs(scale.seconds));
            rates[side as usize].push(took.len() as f64 / scale.seconds as f64);
            ends[side as usize].push(percentile(&mut took, 99));
            costs[side as usize].push(cost / took.len() as f64);
        }
    }
    let ratios = |numbers: &[Vec<f64>; 2]| {
        median(numbers[0].iter().zip(&numbers[1]).map(|(shared, backend)| shared / backend).collect())
    };
    let (rate, end, cost) = (ratios(&rates), ratios(&ends), ratios(&costs));
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
    let [shared, backend] = costs.map(median);
    table.add(
        format!("{what}, processor time of a query"),
        format!("{shared:.2} ms"),
        format!("backend {backend:.2} ms"),
        format!("{cost:.2} ×"),
        "",
    );
}

/// The milliseconds of all answers to the sessions within some time, and those of a processor that the
/// server took for them.
fn ask(
    server: &Server,
    postmaster: i32,
    side: Side,
    model: &str,
    questions: Questions,
    period: Duration,
) -> (Vec<f64>, f64) {
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| side.connect_warm(server, model)).collect();
    let processes: Vec<String> =
        with_descendants(postmaster).iter().map(|process| process.to_string()).collect();
    let used = || processes.iter().map(|process| processor_time(process)).collect::<Vec<_>>();
    let before = used();
    let until = Instant::now() + period;
    let took = thread::scope(|scope| {
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
    });
    let differences = used().into_iter().zip(before).filter_map(|(after, before)| Some(after? - before?));
    (took, differences.sum::<Duration>().as_secs_f64() * 1e3)
}
