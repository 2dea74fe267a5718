//! The first embedding of a new session, and the memory that the session holds afterwards.

use std::fs;

use crate::paired::{median, time};
use crate::server::Server;
use crate::table::Table;
use crate::{MODELS, QUESTION, Scale, sql};

/// Adds the rows about new sessions.
pub fn measure(server: &Server, scale: &Scale, table: &mut Table) {
    for (kind, model) in MODELS {
        let mut seconds = Vec::new();
        let mut before = Vec::new();
        let mut after = Vec::new();
        for _ in 0..scale.sessions {
            let mut client = sql::connect_for(server, model, 1);
            let process = sql::number(&mut client, "SELECT pg_backend_pid()");
            before.extend(private_megabytes(process));
            let statement = format!("SELECT embed_query('{QUESTION}')");
            seconds.push(time(|| client.simple_query(&statement).expect("it embeds")).as_secs_f64());
            after.extend(private_megabytes(process));
        }
        table.add(
            format!("first embedding of a session, {kind}"),
            format!("{:.2} s", median(seconds)),
            String::new(),
            String::new(),
            "at most 1 s",
        );
        if after.is_empty() {
            eprintln!("private memory was not measured: the server's processes belong to another user");
            continue;
        }
        let (before, after) = (median(before), median(after));
        table.add(
            format!("private memory of that session, {kind}"),
            format!("{after:.0} MB"),
            format!("before {before:.0} MB"),
            format!("{:+.0} MB", after - before),
            "",
        );
    }
}

/// The memory that only this process holds.
fn private_megabytes(process: i32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Some(kilobytes.sum::<f64>() / 1024.0)
}
