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
//! The supervisor gives it an empty environment but for `MALLOC_ARENA_MAX=2` and
//! `ORT_DISABLE_TELEMETRY=1`, the folder `/`, and no other descriptors. The limits it puts on
//! itself (sandbox.rs), `PR_SET_PDEATHSIG` and `oom_score_adj` are its own business.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | not needed any more: drained, idle for too long, or its executable was replaced |
//! | 2 | the arguments or descriptors are not what they must be; starting it again would not help |
//! | 3 | its memory stayed over the limit |
//! | else, or a signal | it crashed |

fn main() {
    std::process::exit(2);
}
