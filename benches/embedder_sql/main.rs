//! Measures the embedding process beside models in the sessions, as clients of a server meet both.
//!
//! The sides take turns, so that a busy minute of the machine falls on both; each ratio is the
//! median of the turns. `VECTOR_TOOLS_BENCH=quick` measures a small part, to see that everything runs, and
//! `VECTOR_TOOLS_PART=queries,memory` some of the
//! parts: queries, sessions, bulk, beside, cancel, memory, kills.

mod bulk;
mod cancel;
mod kills;
mod memory;
mod one_query;
#[path = "../sql/paired.rs"]
#[allow(dead_code, reason = "another bench uses more of it")]
mod paired;
#[path = "../embedder/questions.rs"]
mod questions;
#[allow(dead_code, reason = "the tests of the cluster use more of it")]
#[path = "../../pg_test/cluster/server.rs"]
mod server;
mod sessions;
mod side;
#[path = "../sql/table.rs"]
#[allow(dead_code, reason = "another bench uses more of it")]
mod table;

use std::fs;
use std::thread::available_parallelism;

use questions::question;
use server::Server;
use side::Side;
use table::Table;

/// The models, by their names here and in the extension.
const MODELS: [(&str, &str); 2] = [("fp32", "all-MiniLM-L6-v2"), ("int8", "all-MiniLM-L6-v2-int8")];

/// How much is measured.
struct Scale {
    /// Rounds in which each side answers each of the questions.
    rounds: usize,
    /// New sessions that ask their first question.
    first_calls: usize,
    /// Sessions whose memory is added up.
    sessions: usize,
    /// Turns of many sessions, and of bulk work.
    turns: usize,
    /// Seconds of a turn.
    seconds: u64,
    /// Texts of an array.
    texts: usize,
    /// How often the process is killed.
    kills: usize,
    /// How often a call is stopped, in each of the ways.
    stops: usize,
}

const FULL: Scale = Scale {
    rounds: 40,
    first_calls: 15,
    sessions: 50,
    turns: 5,
    seconds: 3,
    texts: 500,
    kills: 100,
    stops: 50,
};
const QUICK: Scale =
    Scale { rounds: 5, first_calls: 3, sessions: 10, turns: 1, seconds: 1, texts: 200, kills: 5, stops: 5 };

/// Sessions that ask at once.
const CLIENTS: usize = 16;

fn main() {
    // `cargo test --all-targets` runs this program as well, without that argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let is_quick = std::env::var("VECTOR_TOOLS_BENCH").is_ok_and(|mode| mode == "quick");
    let scale = if is_quick { QUICK } else { FULL };
    let parts = std::env::var("VECTOR_TOOLS_PART").unwrap_or_default();
    let is_wanted = |part: &str| parts.is_empty() || parts.split(',').any(|wanted| wanted == part);
    let cores = available_parallelism().map_or(1, usize::from);
    let server = Server::start("bench-embedder", &[("shared_buffers", "256MB"), ("max_connections", "120")]);
    side::create_extension(&server);
    println!("\n- machine: {cores} cores; load when it began: {}", load());
    println!(
        "- vector_tools {}, on PostgreSQL {}\n",
        env!("CARGO_PKG_VERSION"),
        Side::Shared.version(&server)
    );
    let mut table = Table::default();
    for model in MODELS {
        if is_wanted("queries") {
            one_query::measure(&server, &scale, model, &mut table);
        }
        if is_wanted("sessions") {
            sessions::measure(&server, &scale, model, &mut table);
        }
        if is_wanted("bulk") {
            bulk::measure_throughput(&server, &scale, model, cores, &mut table);
        }
        if is_wanted("beside") {
            bulk::measure_queries_beside(&server, &scale, model, &mut table);
        }
    }
    if is_wanted("cancel") {
        cancel::measure(&server, &scale, MODELS[1], &mut table);
    }
    if is_wanted("memory") {
        memory::measure(&scale, MODELS[0], &mut table);
    }
    if is_wanted("kills") {
        kills::measure(&server, &scale, &mut table);
    }
    println!("\n{table}");
}

/// The questions of one session.
fn questions() -> Vec<String> {
    (0..8).map(|number| question(0, number)).collect()
}

/// How many processes ran or wanted to, on average over the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
