//! Embedding and storing many texts, beside the plain loop and beside sentence-transformers.

use std::time::{Duration, Instant};

use postgres::{Client, Statement};
use vector_tools_core::embed::{LocalEmbedder, Purpose};

use crate::neighbour::Neighbour;
use crate::paired::{Pairs, Taken, take};
use crate::server::Server;
use crate::table::Table;
use crate::{MODELS, QUESTION, Scale, plain, sql};

/// No further array is begun after this time, so that slow machines are done in some minutes too.
const ENOUGH: Duration = Duration::from_secs(270);

/// A session that ingests, with the plain loop to compare it with.
struct Contest {
    kind: &'static str,
    embedder: LocalEmbedder,
    client: Client,
    /// The server's process.
    process: String,
    ingest: Statement,
    time: Pairs,
    processor: Pairs,
}

impl Contest {
    fn new(server: &Server, (kind, model): (&'static str, &str), threads: usize) -> Contest {
        let mut client = sql::connect_for(server, model, threads);
        let process = sql::number(&mut client, "SELECT pg_backend_pid()").to_string();
        let ingest = sql::prepare_ingest(&mut client);
        let embedder = plain::load(model, threads);
        let (time, processor) = (Pairs::default(), Pairs::default());
        let mut contest = Contest { kind, embedder, client, process, ingest, time, processor };
        contest.by_sql(&[QUESTION; 16]);
        contest.by_loop(&[QUESTION; 16]);
        contest
    }

    fn by_sql(&mut self, texts: &[&str]) -> Taken {
        sql::run(&mut self.client, "TRUNCATE passages");
        let ingest = || self.client.execute(&self.ingest, &[&texts]).expect("the texts can be ingested");
        take(&self.process, ingest)
    }

    fn by_loop(&mut self, texts: &[&str]) -> Taken {
        take("self", || plain::embed(&mut self.embedder, texts, Purpose::Passage))
    }

    /// Measures both sides, SQL first or last, and returns the time of SQL.
    fn measure(&mut self, texts: &[&str], sql_first: bool) -> Duration {
        let early = sql_first.then(|| self.by_sql(texts));
        let beside = self.by_loop(texts);
        let ours = early.unwrap_or_else(|| self.by_sql(texts));
        self.time.add(texts.len(), ours.time, beside.time);
        self.processor.add(texts.len(), ours.processor, beside.processor);
        ours.time
    }

    fn report(&self, measure: &str, padding: f64, table: &mut Table) {
        table.add_throughput(
            format!("{measure}, {}, {:.0} % padding", self.kind, padding * 100.0),
            "plain loop",
            &self.time,
            "at least 0.95 ×",
        );
        table.add_processor_time(
            format!("{measure}, {}, processor time a text", self.kind),
            "plain loop",
            &self.processor,
        );
    }
}

/// Adds the rows about ingest on the session's own thread.
pub fn measure_one_thread(server: &Server, scale: &Scale, texts: &[String], table: &mut Table) {
    let texts: Vec<&str> = spread(texts, texts.len().div_ceil(scale.texts_on_one_thread), 0);
    let arrays: Vec<Vec<&str>> = (0..scale.arrays).map(|turn| spread(&texts, scale.arrays, turn)).collect();
    for model in MODELS {
        let mut contest = Contest::new(server, model, 1);
        for (turn, array) in arrays.iter().enumerate() {
            contest.measure(array, turn % 2 == 0);
        }
        let padding = plain::padding(&contest.embedder, &arrays[0]);
        contest.report(&format!("ingest of {} texts, 1 thread", texts.len()), padding, table);
    }
}

/// Adds the rows about ingest on all cores.
pub fn measure_all_cores(
    server: &Server,
    scale: &Scale,
    texts: &[String],
    cores: usize,
    mut neighbour: Option<&mut Neighbour>,
    table: &mut Table,
) {
    let began = Instant::now();
    let [mut fp32, mut int8] = MODELS.map(|model| Contest::new(server, model, cores));
    let mut int8_beside_fp32 = Pairs::default();
    let mut beside_neighbour = Pairs::default();
    let mut count = 0;
    for turn in 0..scale.arrays {
        let array: Vec<&str> = spread(texts, scale.arrays, turn);
        let fp32_took = fp32.measure(&array, turn % 2 == 0);
        let int8_took = int8.measure(&array, turn % 2 == 0);
        int8_beside_fp32.add(array.len(), int8_took, fp32_took);
        if let Some(neighbour) = neighbour.as_deref_mut() {
            beside_neighbour.add(array.len(), fp32_took, neighbour.embed(&array));
        }
        count += array.len();
        if began.elapsed() > ENOUGH && count < texts.len() {
            eprintln!("{count} of {} texts have taken long enough", texts.len());
            break;
        }
    }
    let measure = format!("ingest of {count} texts, {cores} threads");
    let first: Vec<&str> = spread(texts, scale.arrays, 0);
    let padding = plain::padding(&fp32.embedder, &first);
    fp32.report(&measure, padding, table);
    int8.report(&measure, padding, table);
    table.add_throughput(format!("{measure}, int8 beside fp32"), "fp32", &int8_beside_fp32, "at least 1.8 ×");
    if neighbour.is_some() {
        table.add_throughput(
            format!("{measure}, fp32 beside sentence-transformers"),
            "sentence-transformers",
            &beside_neighbour,
            "at least 3 ×",
        );
    }
}

/// Every `step`th text from `first` on, so that all parts are alike.
fn spread<T: AsRef<str>>(texts: &[T], step: usize, first: usize) -> Vec<&str> {
    texts.iter().skip(first).step_by(step.max(1)).map(AsRef::as_ref).collect()
}
