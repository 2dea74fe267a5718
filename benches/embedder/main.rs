//! The embedding process beside a model in each session, without PostgreSQL, in one run, because
//! only their ratio means anything on a machine that does other work.
//!
//! `cargo bench -p vector_tools_embedder --bench embedder -- [--model NAME] [--threads N] [--rounds N] [PART…]`

mod ceiling;
// The tests use more of both.
#[allow(dead_code)]
#[path = "../../pg_test/embedder/models.rs"]
mod models;
#[allow(dead_code)]
#[path = "../../pg_test/embedder/process.rs"]
mod process;
mod questions;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use models::{FP32, Registered, registered};
use process::Process;
use questions::question;
use vector_tools_core::embed::{Embedder, LocalEmbedder, Purpose};

const SESSIONS: usize = 16;
/// Of one side, in one round.
const PERIOD: Duration = Duration::from_secs(3);

struct Settings {
    model: Registered,
    threads: usize,
    rounds: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut name, mut threads, mut rounds) = (FP32.to_owned(), 4, 5);
    let mut parts = Vec::new();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option needs a value");
        match argument.as_str() {
            "--model" => name = value(),
            "--threads" => threads = value().parse().expect("a number"),
            "--rounds" => rounds = value().parse().expect("a number"),
            _ => parts.push(argument),
        }
    }
    // `cargo test` runs it to see that it still builds.
    if parts.iter().any(|part| part == "--test") {
        return;
    }
    let Some(model) = registered("the bench of the embedder", &name) else { return };
    let settings = Settings { model, threads, rounds };
    println!("{name}, {threads} threads, {rounds} rounds, medians of both sides in turn");
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("lone") {
        lone(&settings);
    }
    if wanted("sessions") {
        sessions(&settings);
    }
    if wanted("bulk") {
        bulk(&settings);
    }
    if wanted("mixed") {
        mixed(&settings);
    }
    if wanted("memory") {
        memory(&settings);
    }
    if wanted("ceiling") {
        ceiling::measure(&settings);
    }
}

/// One session and nothing else.
fn lone(settings: &Settings) {
    let process = start(settings);
    let mut client = process.client();
    let mut shared = client.embedder(&settings.model.record, &settings.model.source).expect("opened");
    let mut local = settings.model.local(1);
    let (mut ours, mut theirs, mut differences) = (vec![], vec![], vec![]);
    for round in 0..settings.rounds * 100 {
        let text = question(0, round);
        let (a, b) = if round % 2 == 0 {
            let a = time(|| query(&mut shared, &text));
            (a, time(|| query(&mut local, &text)))
        } else {
            let b = time(|| query(&mut local, &text));
            (time(|| query(&mut shared, &text)), b)
        };
        ours.push(a);
        theirs.push(b);
        differences.push(a - b);
    }
    let text = question(0, 0);
    let count = |embedder: &mut dyn Embedder| {
        embedder.count_tokens(&text, &mut || Ok(())).expect("counted");
    };
    let mut trips: Vec<f64> = (0..settings.rounds * 100)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            time(|| count(&mut shared)) - time(|| count(&mut local))
        })
        .collect();
    println!(
        "lone query: shared {:.3} ms, own {:.3} ms, paired difference {:+.3} ms, of which there and back {:.3} ms",
        median(&mut ours),
        median(&mut theirs),
        median(&mut differences),
        median(&mut trips)
    );
}

/// Many sessions of single queries.
fn sessions(settings: &Settings) {
    let process = start(settings);
    let locals: Vec<Mutex<LocalEmbedder>> =
        (0..SESSIONS).map(|_| Mutex::new(settings.model.local(1))).collect();
    let (mut rates, mut p99s, mut costs) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    for _ in 0..settings.rounds {
        let used = cpu_seconds(process.id());
        let shared = crowd(SESSIONS, &|number, ready| {
            let mut client = process.client();
            let mut shared = client.embedder(&settings.model.record, &settings.model.source).expect("opened");
            ready.wait();
            queries_until(&mut shared, number, Instant::now() + PERIOD, None)
        });
        costs[0].push((cpu_seconds(process.id()) - used) * 1000.0 / shared.len() as f64);
        let used = cpu_seconds(std::process::id());
        let own = crowd(SESSIONS, &|number, ready| {
            let mut local = locals[number].lock().expect("no thread has panicked");
            ready.wait();
            queries_until(&mut *local, number, Instant::now() + PERIOD, None)
        });
        costs[1].push((cpu_seconds(std::process::id()) - used) * 1000.0 / own.len() as f64);
        for (side, mut times) in [shared, own].into_iter().enumerate() {
            rates[side].push(times.len() as f64 / PERIOD.as_secs_f64());
            p99s[side].push(quantile(&mut times, 0.99));
        }
    }
    let mut ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect();
    let mut p99_ratios: Vec<f64> = p99s[0].iter().zip(&p99s[1]).map(|(a, b)| a / b).collect();
    println!(
        "{SESSIONS} sessions: shared {:.0}/s p99 {:.1} ms, own {:.0}/s p99 {:.1} ms, paired ratios: rate {:.2}, p99 {:.2}",
        median(&mut rates[0]),
        median(&mut p99s[0]),
        median(&mut rates[1]),
        median(&mut p99s[1]),
        median(&mut ratios),
        median(&mut p99_ratios)
    );
    let statistics = process.statistics();
    let model = &statistics.models[0];
    println!(
        "  processor time of a query: shared {:.2} ms, own {:.2} ms; mean batch {:.1} texts, {:.0} tokens; {} MB",
        median(&mut costs[0]),
        median(&mut costs[1]),
        model.texts as f64 / model.batches as f64,
        model.batch_tokens as f64 / model.batches as f64,
        statistics.memory_bytes >> 20
    );
}

/// One session with an array.
fn bulk(settings: &Settings) {
    let process = start(settings);
    let texts = texts(1200);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut client = process.client();
    let mut shared = client.embedder(&settings.model.record, &settings.model.source).expect("opened");
    let mut local = settings.model.local(settings.threads);
    let (mut ours, mut theirs, mut ratios) = (vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let a = time(|| passages(&mut shared, &texts));
        let b = time(|| passages(&mut local, &texts));
        ours.push(1000.0 * texts.len() as f64 / a);
        theirs.push(1000.0 * texts.len() as f64 / b);
        ratios.push(b / a);
    }
    println!(
        "bulk: shared {:.0} texts/s, own with as many threads {:.0} texts/s, paired ratio {:.2}",
        median(&mut ours),
        median(&mut theirs),
        median(&mut ratios)
    );
}

/// Queries of one session while another has an array embedded.
fn mixed(settings: &Settings) {
    let process = start(settings);
    let texts = texts(400);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (record, source) = (&settings.model.record, &settings.model.source);
    let mut client = process.client();
    let mut shared = client.embedder(record, source).expect("opened");
    let (mut idle, mut p50, mut p99, mut ratios, mut rates) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        let pause = Some(Duration::from_millis(2));
        let mut alone = queries_until(&mut shared, 0, Instant::now() + PERIOD, pause);
        let over = AtomicBool::new(false);
        let (mut busy, embedded) = thread::scope(|scope| {
            let working = scope.spawn(|| {
                let mut client = process.client();
                let mut shared = client.embedder(record, source).expect("opened");
                let began = Instant::now();
                let mut count = 0;
                while !over.load(Relaxed) {
                    passages(&mut shared, &texts);
                    count += texts.len();
                }
                count as f64 / began.elapsed().as_secs_f64()
            });
            thread::sleep(Duration::from_millis(300));
            let times = queries_until(&mut shared, 0, Instant::now() + PERIOD * 2, pause);
            over.store(true, Relaxed);
            (times, working.join().expect("the bulk job goes on"))
        });
        let (usual, worst) = (quantile(&mut alone, 0.5), quantile(&mut busy, 0.99));
        idle.push(usual);
        p50.push(quantile(&mut busy, 0.5));
        p99.push(worst);
        ratios.push(worst / usual);
        rates.push(embedded);
    }
    println!(
        "query beside bulk: idle p50 {:.2} ms, p50 {:.2} ms, p99 {:.2} ms, p99 to idle p50 {:.2}; bulk {:.0} texts/s",
        median(&mut idle),
        median(&mut p50),
        median(&mut p99),
        median(&mut ratios),
        median(&mut rates)
    );
}

/// What the process takes with 50 sessions, beside one loaded model.
fn memory(settings: &Settings) {
    let process = start(settings);
    let empty = process.statistics().memory_bytes;
    let mut clients: Vec<_> = (0..50).map(|_| process.client()).collect();
    for client in &mut clients {
        let mut shared = client.embedder(&settings.model.record, &settings.model.source).expect("opened");
        query(&mut shared, &question(0, 0));
    }
    let statistics = process.statistics();
    println!(
        "memory: empty {} MB, with 50 sessions {} MB, of which the model {} MB",
        empty >> 20,
        statistics.memory_bytes >> 20,
        statistics.models[0].memory_bytes >> 20
    );
}

fn start(settings: &Settings) -> Process {
    let threads = settings.threads.to_string();
    let process = Process::start(&settings.model.library, &["--threads", &threads]);
    process.client().statistics().expect("it answers");
    process
}

/// All sessions at once; the times of their queries.
fn crowd(count: usize, session: &(dyn Fn(usize, &Barrier) -> Vec<f64> + Sync)) -> Vec<f64> {
    let ready = Barrier::new(count);
    thread::scope(|scope| {
        let ready = &ready;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || session(number, ready))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no session fails")).collect()
    })
}

fn queries_until(
    embedder: &mut dyn Embedder,
    session: usize,
    until: Instant,
    pause: Option<Duration>,
) -> Vec<f64> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let text = question(session, times.len());
        times.push(time(|| query(embedder, &text)));
        pause.into_iter().for_each(thread::sleep);
    }
    times
}

fn query(embedder: &mut dyn Embedder, text: &str) {
    embedder.embed(&[text], Purpose::Query, &mut || Ok(())).expect("embedded");
}

fn passages(embedder: &mut dyn Embedder, texts: &[&str]) {
    embedder.embed(texts, Purpose::Passage, &mut || Ok(())).expect("embedded");
}

/// The processor time that a process has used.
fn cpu_seconds(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().expect("a number");
    // utime and stime, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

/// In milliseconds.
fn time(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Passages of 5 to 120 words, as package descriptions are long.
fn texts(count: usize) -> Vec<String> {
    let words =
        ["package", "provides", "the", "library", "for", "reading", "files", "and", "a", "daemon", "of"];
    (0..count)
        .map(|number| {
            let length = 5 + (number * 7919) % 116;
            let word = |place: usize| words[(number * 31 + place * 17) % words.len()];
            (0..length).map(word).collect::<Vec<_>>().join(" ")
        })
        .collect()
}
