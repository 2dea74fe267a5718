//! What a background worker does next, and how large its batches are, as decisions that know neither
//! PostgreSQL nor a clock.

use std::time::Duration;

/// Work goes on for so long at least before a worker makes room for another database.
const TURN: Duration = Duration::from_secs(5);

/// A worker waits for rows that are due within this time; it is longer than any wait of a failure.
const LONGEST_STAY: Duration = Duration::from_secs(2 * 3600);

/// A batch shall take about so long: what a crash costs, and how long a change of the table waits.
const BATCH_TIME: Duration = Duration::from_secs(2);

/// Rows of a batch, at most.
pub const MOST_ROWS: usize = 256;

/// Rows of a batch, at least, unless some of them are suspected of bringing the server down.
pub const FEWEST_ROWS: usize = 16;

/// How a worker finds its database, and the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// When the next row is due: zero for now, `None` where none waits.
    pub next_due: Option<Duration>,
    /// How long nothing has been due.
    pub idle: Duration,
    /// How long the worker has served this database.
    pub served: Duration,
    /// How long it waits for more rows.
    pub linger: Duration,
    /// Whether another database has work and no worker can be had for it.
    pub is_needed_elsewhere: bool,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A batch.
    Work,
    /// It waits, so long at most.
    Wait(Duration),
    /// It ends; rows that are due after this time are somebody else's.
    Leave(Option<Duration>),
}

/// Decides what a worker does next.
pub fn decide(situation: &Situation) -> Next {
    let Situation { next_due, idle, served, linger, is_needed_elsewhere } = *situation;
    match next_due {
        Some(Duration::ZERO) if is_needed_elsewhere && served >= TURN => Next::Leave(next_due),
        Some(Duration::ZERO) => Next::Work,
        _ if is_needed_elsewhere => Next::Leave(next_due),
        Some(wait) if wait <= LONGEST_STAY => Next::Wait(wait),
        _ if idle < linger => Next::Wait(linger - idle),
        _ => Next::Leave(next_due),
    }
}

/// Rows of the next batch of a table, after one of `rows` rows that took `took`.
pub fn next_size(rows: usize, took: Duration) -> usize {
    let seconds = took.as_secs_f64().max(0.001);
    let fitting = (rows as f64 / seconds * BATCH_TIME.as_secs_f64()) as usize;
    fitting.clamp(FEWEST_ROWS, MOST_ROWS)
}

/// A table whose batch was ended by its limit is left alone for so many times as long as that batch took: it has a fifth of
/// the worker's time at most.
const PAUSE_AFTER_LIMIT: u32 = 4;

/// The limit of a batch is halved so often at most.
const MOST_HALVINGS: u32 = 3;

/// The time that a batch may take, of a table whose last batches were ended by their limit so many times in a row.
pub fn limit_after(limit: Duration, times: u32) -> Duration {
    limit / (1 << times.min(MOST_HALVINGS))
}

/// How long a table is left alone after one of its batches was ended by its limit.
pub fn pause_after(took: Duration) -> Duration {
    took * PAUSE_AFTER_LIMIT
}

/// Rows that are tried at once after they were in so many batches that brought the process down or
/// did not come to an end: ever fewer, so that the one to blame is alone in the end.
pub fn size_under_suspicion(most: usize, times: u32) -> usize {
    (most >> (4 * times.min(8))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Situation = Situation {
        next_due: None,
        idle: Duration::ZERO,
        served: Duration::ZERO,
        linger: Duration::from_secs(5),
        is_needed_elsewhere: false,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_worker_lingers_and_leaves() {
        assert_eq!(decide(&NOTHING), Next::Wait(seconds(5)));
        assert_eq!(decide(&Situation { idle: seconds(3), ..NOTHING }), Next::Wait(seconds(2)));
        assert_eq!(decide(&Situation { idle: seconds(5), ..NOTHING }), Next::Leave(None));
    }

    #[test]
    fn rows_that_wait_are_not_forgotten() {
        let soon = Situation { next_due: Some(seconds(600)), idle: seconds(99), ..NOTHING };
        assert_eq!(decide(&soon), Next::Wait(seconds(600)));
        // The longest wait of a failure, with its jitter.
        let longest = Situation { next_due: Some(seconds(4500)), ..soon };
        assert_eq!(decide(&longest), Next::Wait(seconds(4500)));
        let far = Some(seconds(10_000));
        assert_eq!(decide(&Situation { next_due: far, ..soon }), Next::Leave(far));
        assert_eq!(decide(&Situation { next_due: Some(Duration::ZERO), ..soon }), Next::Work);
    }

    #[test]
    fn another_database_has_its_turn() {
        let busy = Situation { next_due: Some(Duration::ZERO), is_needed_elsewhere: true, ..NOTHING };
        assert_eq!(decide(&busy), Next::Work);
        let after_a_while = Situation { served: seconds(5), ..busy };
        assert_eq!(decide(&after_a_while), Next::Leave(Some(Duration::ZERO)));
        let idle = Situation { next_due: Some(seconds(2)), ..busy };
        assert_eq!(decide(&idle), Next::Leave(Some(seconds(2))));
    }

    #[test]
    fn batches_take_about_two_seconds() {
        assert_eq!(next_size(256, seconds(1)), 256);
        assert_eq!(next_size(256, seconds(8)), 64);
        assert_eq!(next_size(16, seconds(60)), 16);
        assert_eq!(next_size(0, Duration::ZERO), 16);
    }

    #[test]
    fn what_does_not_end_gets_less_time() {
        let limits = [0, 1, 2, 3, 99].map(|times| limit_after(seconds(40), times));
        assert_eq!(limits, [40, 20, 10, 5, 5].map(seconds));
        assert_eq!(pause_after(seconds(20)), seconds(80));
    }

    #[test]
    fn rows_under_suspicion_are_alone_after_two_times() {
        assert_eq!([0, 1, 2, 3, 99].map(|times| size_under_suspicion(256, times)), [256, 16, 1, 1, 1]);
        assert_eq!(size_under_suspicion(10, 1), 1);
    }
}
