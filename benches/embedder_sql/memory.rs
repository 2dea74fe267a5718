//! The memory of many sessions, on a server that has done nothing else.

use std::fs;

use postgres::Client;

use crate::server::Server;
use crate::side::{self, Side, postmaster, with_descendants};
use crate::table::Table;
use crate::{Scale, questions};

/// Adds the rows about memory.
pub fn measure(scale: &Scale, (kind, model): (&str, &str), table: &mut Table) {
    let server = Server::start("bench-embedder-memory", &[("max_connections", "120")]);
    side::create_extension(&server);
    let postmaster = postmaster(&server);
    let one = grown(postmaster, &server, Side::Backend, model, 1);
    let many = grown(postmaster, &server, Side::Shared, model, scale.sessions);
    let Some((one, many)) = one.zip(many) else {
        return eprintln!("memory was not measured: the server's processes belong to another user");
    };
    table.add(
        format!("memory of all processes for {} sessions that embed, {kind}", scale.sessions),
        format!("{many:+.0} MB"),
        format!("one session with its own model {one:+.0} MB"),
        format!("{:.2} ×", many / one),
        "at most 1.5 ×",
    );
}

/// By how many megabytes the server's processes grow when so many sessions embed.
fn grown(postmaster: i32, server: &Server, side: Side, model: &str, sessions: usize) -> Option<f64> {
    let mut clients: Vec<Client> = (0..sessions).map(|_| side.connect(server, model)).collect();
    let before = megabytes(postmaster)?;
    for (client, question) in clients.iter_mut().zip(questions().iter().cycle()) {
        client.execute("SELECT embed_query($1)", &[question]).expect("it embeds");
    }
    Some(megabytes(postmaster)? - before)
}

/// The memory of a process and all that descend from it, what several share being counted once.
fn megabytes(process: i32) -> Option<f64> {
    let proportional = |process: i32| {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
    };
    // One that has just ended needs none.
    let others: f64 = with_descendants(process)[1..].iter().filter_map(|child| proportional(*child)).sum();
    Some(proportional(process)? + others)
}
