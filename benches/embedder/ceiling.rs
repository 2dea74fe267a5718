//! The model alone, without a process or messages: what threads and batches can give at most.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use vector_tools_core::embed::{LocalEmbedder, Purpose};
use vector_tools_core::model::runtime::open_runtime;
use vector_tools_core::model::session::{Callers, WorkingMemory};

use crate::questions::question;
use crate::{SESSIONS, Settings, cpu_seconds, median};

/// Of one way, in one round.
const PERIOD: Duration = Duration::from_secs(1);

/// A way to run queries.
struct Way {
    callers: usize,
    /// Threads of each run.
    threads: usize,
    batch: usize,
    /// Whether all callers run one session.
    is_shared: bool,
}

impl Way {
    fn describe(&self) -> String {
        let sessions = if self.is_shared { "one session" } else { "a session each" };
        let Way { callers, threads, batch, .. } = self;
        format!("{callers} callers, {sessions}, {threads} threads a run, batches of {batch}")
    }
}

/// Prints the processor time of a query in each way, which other work on the machine disturbs less than
/// the queries a second.
pub fn measure(settings: &Settings) {
    let own = |callers, threads, batch| Way { callers, threads, batch, is_shared: false };
    let shared = |callers, batch| Way { callers, threads: 1, batch, is_shared: true };
    let all = settings.threads;
    let mut ways = vec![own(SESSIONS, 1, 1), own(all, 1, 1)];
    ways.extend([1, 2, 4, 8].map(|batch| shared(all, batch)));
    ways.extend([1, 2, 4, 8].map(|batch| shared(1, batch)));
    ways.extend([1, 2, 4, 8].map(|batch| own(1, all, batch)));
    ways.extend([1, 2, 4, 8].map(|batch| own((all / 2).max(1), 2, batch)));
    let models: Vec<Vec<LocalEmbedder>> = ways.iter().map(|way| load(settings, way)).collect();
    let (mut costs, mut rates) = (vec![vec![]; ways.len()], vec![vec![]; ways.len()]);
    for _ in 0..settings.rounds {
        for (number, way) in ways.iter().enumerate() {
            let used = cpu_seconds(std::process::id());
            let done = run(way, &models[number]) as f64;
            costs[number].push((cpu_seconds(std::process::id()) - used) * 1000.0 / done);
            rates[number].push(done / PERIOD.as_secs_f64());
        }
    }
    for ((way, mut costs), mut rates) in ways.iter().zip(costs).zip(rates) {
        let (cost, rate) = (median(&mut costs), median(&mut rates));
        println!("{}: {cost:.2} ms of a core for a query, {rate:.0} queries/s", way.describe());
    }
}

fn load(settings: &Settings, way: &Way) -> Vec<LocalEmbedder> {
    let model = &settings.model;
    let runtime = open_runtime(Some(&model.library), &[]).expect("ONNX Runtime opens");
    let (count, callers) = match way.is_shared {
        true => (1, Callers::Many),
        false => (way.callers, Callers::One { threads: way.threads }),
    };
    let load = || LocalEmbedder::load_registered_for(runtime, &model.record, &model.source, callers);
    (0..count).map(|_| load().expect("the model loads")).collect()
}

/// The number of queries within the period.
fn run(way: &Way, models: &[LocalEmbedder]) -> usize {
    let done = AtomicUsize::new(0);
    let until = Instant::now() + PERIOD;
    thread::scope(|scope| {
        for caller in 0..way.callers {
            let (model, done) = (&models[caller % models.len()], &done);
            scope.spawn(move || {
                let tokens =
                    |number| model.sequence(&question(caller, number), Purpose::Query).expect("tokenized");
                let sequences: Vec<Vec<u32>> = (0..way.batch).map(tokens).collect();
                let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
                while Instant::now() < until {
                    model.run(&batch, WorkingMemory::RelationCache).expect("it runs");
                    done.fetch_add(way.batch, Relaxed);
                }
            });
        }
    });
    done.into_inner()
}
