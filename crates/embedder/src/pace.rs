//! How much bulk work runs at once: all it can, or a little less while queries come.
//!
//! A query wakes four threads on its way: the session, one here, the session, the client. Where bulk
//! work has every core, each of them may wait for the end of a time slice first, although it is the
//! more urgent one. Where one core is free, it goes there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Queries are said to come for so long after each.
pub const RECENT: Duration = Duration::from_secs(1);

/// When queries came, and what that means.
pub struct Pace {
    most: usize,
    beside_queries: usize,
    started: Instant,
    /// Milliseconds after the start at which the last query is no longer recent.
    until: AtomicU64,
}

impl Pace {
    /// The pace of so many threads on this machine.
    pub fn new(threads: usize) -> Pace {
        Pace::on(available_parallelism().map_or(threads, usize::from), threads)
    }

    fn on(cores: usize, threads: usize) -> Pace {
        let beside_queries = threads.min(cores.saturating_sub(1)).max(1);
        Pace { most: threads, beside_queries, started: Instant::now(), until: AtomicU64::new(0) }
    }

    /// Notes that a query has come.
    pub fn note_query(&self) {
        self.until.store((self.started.elapsed() + RECENT).as_millis() as u64, Relaxed);
    }

    /// Pieces of bulk work that may run at once now.
    pub fn at_once(&self) -> usize {
        let is_recent = (self.started.elapsed().as_millis() as u64) < self.until.load(Relaxed);
        if is_recent { self.beside_queries } else { self.most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_left_to_queries_while_they_come() {
        for (cores, threads, beside) in [(4, 4, 3), (4, 8, 3), (8, 4, 4), (2, 2, 1), (1, 1, 1), (1, 2, 1)] {
            let pace = Pace::on(cores, threads);
            assert_eq!(pace.at_once(), threads);
            pace.note_query();
            assert_eq!(pace.at_once(), beside, "{threads} threads on {cores} cores");
            pace.until.store(0, Relaxed);
            assert_eq!(pace.at_once(), threads);
        }
    }
}
