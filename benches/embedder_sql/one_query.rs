//! One session: a warm query, and the first call of a session.

use crate::paired::{median, time};
use crate::server::Server;
use crate::side::{Side, percentile};
use crate::table::Table;
use crate::{Scale, questions};

/// Adds the rows about lone queries.
pub fn measure(server: &Server, scale: &Scale, (kind, model): (&str, &str), table: &mut Table) {
    let questions = questions();
    let mut sides = [Side::Shared, Side::Backend].map(|side| (side, side.connect_warm(server, model)));
    let mut all: [Vec<f64>; 2] = Default::default();
    let mut added = Vec::new();
    // The first round warms up.
    for round in 0..=scale.rounds {
        let mut medians = [0.0; 2];
        for side in Side::in_turn(round) {
            let place = side as usize;
            let (client, query) = &mut sides[place].1;
            let ask = |question: &String| {
                let answer = || client.query_one(query, &[question]).expect("it embeds");
                time(answer).as_secs_f64() * 1e3
            };
            let took: Vec<f64> = questions.iter().map(ask).collect();
            medians[place] = median(took.clone());
            if round > 0 {
                all[place].extend(took);
            }
        }
        if round > 0 {
            added.push(medians[0] - medians[1]);
        }
    }
    let [mut shared, mut backend] = all;
    table.add(
        format!("warm query of 13 tokens, {kind}, p50"),
        format!("{:.2} ms", percentile(&mut shared, 50)),
        format!("backend {:.2} ms", percentile(&mut backend, 50)),
        format!("{:+.2} ms", median(added)),
        "at most +0.15 ms",
    );
    table.add(
        format!("warm query of 13 tokens, {kind}, p99"),
        format!("{:.2} ms", percentile(&mut shared, 99)),
        format!("backend {:.2} ms", percentile(&mut backend, 99)),
        String::new(),
        "",
    );
    let first = |side: Side| {
        let calls = (0..scale.first_calls).map(|_| {
            let mut client = side.connect(server, model);
            let statement = format!("SELECT embed_query('{}')", questions[0]);
            time(|| client.simple_query(&statement).expect("it embeds")).as_secs_f64() * 1e3
        });
        median(calls.collect())
    };
    let (shared, backend) = (first(Side::Shared), first(Side::Backend));
    table.add(
        format!("first call of a new session, {kind}, the process being warm"),
        format!("{shared:.1} ms"),
        format!("backend {backend:.0} ms"),
        String::new(),
        "at most 10 ms",
    );
}
