//! Bulk work: how fast it is, and what it does to a query beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use postgres::Client;

use crate::paired::{Pairs, time};
use crate::server::Server;
use crate::side::{Side, connect, percentile};
use crate::table::Table;
use crate::{Scale, questions};

/// Texts of two to two hundred words, as package descriptions have them, from the words that the
/// server describes its own objects with.
const TEXTS: &str = "CREATE TABLE IF NOT EXISTS bulk AS
    WITH words AS (SELECT row_number() OVER () AS n, w FROM pg_description, regexp_split_to_table(description, ' ') AS w)
    SELECT i, (SELECT string_agg(w, ' ' ORDER BY n) FROM words WHERE n BETWEEN i * 13 AND i * 13 + 2 + (i * 7919) % 120) AS body
    FROM generate_series(1, 600) AS i";
const EMBED: &str = "SELECT count(v) FROM unnest(embed(ARRAY(SELECT body FROM bulk, generate_series(1, 1 + $1 / 600) \
     ORDER BY random() LIMIT $1))) AS v";

fn embed(client: &mut Client, texts: usize) -> Duration {
    time(|| {
        let count: i64 =
            client.query_one(EMBED, &[&(texts as i32)]).expect("the texts can be embedded").get(0);
        assert_eq!(count, texts as i64);
    })
}

/// Adds the row about throughput with as many threads on both sides as there are cores.
pub fn measure_throughput(
    server: &Server,
    scale: &Scale,
    (kind, model): (&str, &str),
    cores: usize,
    table: &mut Table,
) {
    connect(server).batch_execute(TEXTS).expect("a table can be made");
    let (mut shared, _) = Side::Shared.connect_warm(server, model);
    let mut backend = Side::Backend.connect(server, model);
    backend.batch_execute(&format!("SET vector_tools.backend_threads = {cores}")).expect("a setting");
    let mut pairs = Pairs::default();
    embed(&mut shared, 64);
    embed(&mut backend, 64);
    for turn in 0..scale.turns {
        let early = (turn % 2 == 0).then(|| embed(&mut shared, scale.texts));
        let beside = embed(&mut backend, scale.texts);
        pairs.add(scale.texts, early.unwrap_or_else(|| embed(&mut shared, scale.texts)), beside);
    }
    let measure = format!("embed(text[]) of {} texts, {kind}, {cores} threads", scale.texts);
    table.add_throughput(measure, "backend", &pairs, "at least 0.98 ×");
}

/// Adds the row about a query while bulk work runs in the same process.
pub fn measure_queries_beside(
    server: &Server,
    scale: &Scale,
    (kind, model): (&str, &str),
    table: &mut Table,
) {
    connect(server).batch_execute(TEXTS).expect("a table can be made");
    let (mut client, query) = Side::Shared.connect_warm(server, model);
    let questions = questions();
    let mut ask = |rounds: usize| -> Vec<f64> {
        let texts = questions.iter().cycle().take(rounds * questions.len());
        texts
            .map(|text| time(|| client.query_one(&query, &[text]).expect("it embeds")).as_secs_f64() * 1e3)
            .collect()
    };
    let mut idle = ask(scale.rounds);
    let stop = AtomicBool::new(false);
    let mut beside = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut client, _) = Side::Shared.connect_warm(server, model);
            while !stop.load(Ordering::Relaxed) {
                embed(&mut client, scale.texts);
            }
        });
        let mut observer = connect(server);
        let queued = "SELECT coalesce(sum(queued), 0)::bigint FROM vector_tools.embedder_stats";
        while observer.query_one(queued, &[]).expect("it answers").get::<_, i64>(0) == 0 {}
        let took = ask(scale.rounds * 2);
        stop.store(true, Ordering::Relaxed);
        took
    });
    let (idle, middle, end) =
        (percentile(&mut idle, 50), percentile(&mut beside, 50), percentile(&mut beside, 99));
    table.add(
        format!("query of 13 tokens while bulk work runs, {kind}, p99"),
        format!("{end:.1} ms (p50 {middle:.1} ms)"),
        format!("idle p50 {idle:.1} ms"),
        format!("{:.2} ×", end / idle),
        "at most 3 ×",
    );
}
