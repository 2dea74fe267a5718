//! What ends the process: the supervisor, being idle, a new version, too much memory.

use std::io::BufRead;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::process::{self, Executable};
use crate::server::Server;

/// How often memory, idleness and the executable are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks in a row that may find memory over the limit: the work under way may end meanwhile.
const PATIENCE: u32 = 5;
/// The exit code of a process whose memory stayed over the limit.
const OVER_LIMIT: i32 = 3;

/// Obeys the supervisor for ever.
pub fn obey(server: &Server) {
    for line in std::io::stdin().lock().lines() {
        match line {
            Ok(line) if line == "drain" => server.drain(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    // The supervisor is gone, and nothing is worth finishing.
    process::exit_now(0);
}

/// Watches for ever.
pub fn watch(server: &Arc<Server>) {
    let executable = Executable::current();
    let mut over_limit = 0;
    loop {
        thread::sleep(INTERVAL);
        let idle = server.idle_for();
        let timeout = server.arguments.idle_timeout;
        if timeout.is_some_and(|timeout| idle >= timeout)
            || executable.as_ref().is_some_and(Executable::is_replaced)
        {
            server.drain();
        }
        if server.models.give_memory_back() {
            server.bulk_lane.give_memory_back();
        }
        over_limit = if is_over_limit(server) { over_limit + 1 } else { 0 };
        server.bulk_lane.note_limit(over_limit > 0);
        if over_limit > PATIENCE {
            process::log("memory stays over vector_tools.embedder_memory_limit, starting anew");
            process::exit_now(OVER_LIMIT);
        }
    }
}

fn is_over_limit(server: &Server) -> bool {
    let Some(limit) = server.arguments.memory_limit else { return false };
    if process::private_memory() <= limit || server.models.is_loading() {
        return false;
    }
    process::trim_memory();
    server.models.make_room();
    process::private_memory() > limit
}
