//! Measures SQL beside a plain Rust loop and beside sentence-transformers, and prints a table.
//!
//! Sides that are compared take turns, so that a busy minute of the machine falls on all of them.
//! `VECTOR_TOOLS_BENCH=quick` measures a small part, to see that everything runs.

mod ingest;
mod machine;
mod neighbour;
mod paired;
mod plain;
mod query;
#[allow(dead_code, reason = "the tests of the cluster use more of it")]
#[path = "../../pg_test/cluster/server.rs"]
mod server;
mod session;
mod sql;
mod table;
mod texts;

use std::thread::available_parallelism;

use server::Server;
use table::Table;

/// The models, by their names here and in the extension.
const MODELS: [(&str, &str); 2] = [("fp32", "all-MiniLM-L6-v2"), ("int8", "all-MiniLM-L6-v2-int8")];

/// A question of 13 tokens, the special ones included.
const QUESTION: &str = "how do I remove a package together with its configuration files";

/// Words of one token that stand for "configuration" in further questions, because nothing that
/// remembers its last question shall pass for fast.
const WORDS: [&str; 8] = ["data", "log", "image", "music", "source", "library", "mail", "video"];

/// How much is measured.
struct Scale {
    /// Texts to embed on all cores.
    texts: usize,
    /// Texts to embed on one thread.
    texts_on_one_thread: usize,
    /// Arrays that those texts are divided into: the sides take turns with each.
    arrays: usize,
    /// Rounds in which each side answers each of the questions.
    rounds: usize,
    /// New sessions of each model.
    sessions: usize,
}

const FULL: Scale = Scale { texts: 2000, texts_on_one_thread: 400, arrays: 5, rounds: 80, sessions: 7 };
const QUICK: Scale = Scale { texts: 64, texts_on_one_thread: 32, arrays: 2, rounds: 10, sessions: 2 };

fn main() {
    // `cargo test --all-targets` runs this program as well, without that argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let scale =
        if std::env::var("VECTOR_TOOLS_BENCH").is_ok_and(|mode| mode == "quick") { QUICK } else { FULL };
    let cores = available_parallelism().map_or(1, usize::from);
    let server = Server::start("bench", &[("shared_buffers", "256MB")]);
    sql::create_extension(&server);
    let (origin, texts) = texts::read(&server, scale.texts);
    let mut neighbour = neighbour::start(cores);
    println!("\n{}", machine::describe(cores, &neighbour));
    println!("- texts: {origin}");
    println!(
        "- load when it began (half of the cores or less for figures to rely on): {}\n",
        machine::load()
    );
    let mut table = Table::default();
    query::measure(&server, &scale, &mut table);
    session::measure(&server, &scale, &mut table);
    if cores > 1 {
        ingest::measure_one_thread(&server, &scale, &texts, &mut table);
    }
    ingest::measure_all_cores(&server, &scale, &texts, cores, neighbour.as_mut().ok(), &mut table);
    println!("\n{table}");
    if let Err(reason) = neighbour {
        println!("sentence-transformers was not measured: {reason}");
    }
}
