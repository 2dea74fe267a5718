//! The embedding process: it holds the loaded models of a cluster and embeds for all its sessions.
//!
//! A supervisor starts it and owns it; it is of no use by hand. It links nothing of PostgreSQL,
//! so that whatever ends it ends nothing else.
//!
//! ```text
//! vector_tools_embedder [OPTION VALUE]…
//!   --threads N             threads that run models at once, for queries and for bulk work each
//!                           (default: the number of cores)
//!   --memory-limit-mb N     private memory it may use; 0 (default) means no limit
//!   --idle-timeout-s N      ends after so long without a request; 0 (default) means never
//!   --restarts N            how often a crash has made a start necessary, for the statistics
//!   --library PATH          a usual place of the ONNX Runtime library; may be repeated, the first
//!                           that is a file is taken
//!   --configured-library PATH
//!                           the only place to look for it
//! ```
//!
//! | file descriptor | what it must be |
//! |---|---|
//! | 0 | the reading end of the supervisor's control pipe. Its end ends the process at once; the line `drain` lets it finish the requests that have arrived, then end |
//! | 2 | where messages go, one line each, beginning with `LOG:` |
//! | 3 | a listening Unix stream socket |
//!
//! The supervisor gives it an empty environment but for `ORT_DISABLE_TELEMETRY=1`, the folder `/`,
//! and no other descriptors. The limits it puts on
//! itself (sandbox.rs), `PR_SET_PDEATHSIG` and `oom_score_adj` are its own business.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | not needed any more: drained, idle for too long, or its executable was replaced |
//! | 2 | the arguments or descriptors are not what they must be; starting it again would not help |
//! | 3 | its memory stayed over the limit |
//! | else, or a signal | it crashed |

mod arguments;
mod bulk_lane;
mod connection;
mod guarded;
mod incoming;
mod lifetime;
mod models;
mod pace;
mod peer;
mod process;
mod sandbox;
mod server;
mod short_lane;
mod statistics;

use std::sync::Arc;
use std::thread;

use arguments::Arguments;
use server::Server;

/// The exit code of a process that was started wrongly.
const MISUSED: i32 = 2;

fn main() {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(reason) => misused(&reason),
    };
    process::tune_memory(arguments.threads);
    let listener = process::take_listener();
    if rustix::net::sockopt::socket_acceptconn(&listener) != Ok(true) {
        misused("descriptor 3 is no listening socket; this program is started by vector_tools itself");
    }
    sandbox::enter();
    let server = match Server::new(arguments) {
        Ok(server) => Arc::new(server),
        Err(error) => misused(&error.to_string()),
    };
    let (obeying, watching) = (Arc::clone(&server), Arc::clone(&server));
    let threads = [
        thread::Builder::new().name("control".into()).spawn(move || lifetime::obey(&obeying)),
        thread::Builder::new().name("watch".into()).spawn(move || lifetime::watch(&watching)),
    ];
    if let Some(error) = threads.into_iter().find_map(Result::err) {
        misused(&error.to_string());
    }
    server.run(&listener);
    process::exit_now(0);
}

fn misused(reason: &str) -> ! {
    process::log(reason);
    process::exit_now(MISUSED)
}
