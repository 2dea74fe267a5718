//! When the supervisor of the embedder process starts it anew.

use std::time::Duration;

/// A process that has lived so long is not failing again and again.
const HEALTHY: Duration = Duration::from_secs(10);
/// The first restart comes at once, the second after this, each further one after twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Short enough for a call that waits for a new process to meet one.
const LONGEST_DELAY: Duration = Duration::from_secs(1);
/// A process that gives up sooner has done no work.
const EARLY: Duration = Duration::from_secs(1);
/// Processes that may give up early one after another before nothing is expected of the next one.
const EARLY_FAILURES: u32 = 3;

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, because nobody needs it.
    Done,
    /// By itself, because it could not go on.
    Failed,
    /// By itself, because it was started in a way that it can do nothing with.
    Unfit,
    /// By a signal.
    Killed,
}

/// What the supervisor does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It ends; the next call starts another supervisor.
    Stop,
    /// It starts another process after a while.
    StartAfter(Duration),
    /// It ends, because the process cannot run on this machine.
    GiveUp,
}

/// What the supervisor remembers of the processes before the present one.
#[derive(Debug, Default)]
pub struct Supervision {
    restarts: u64,
    in_a_row: u32,
    early_failures: u32,
}

impl Supervision {
    /// How often the process was started anew after it had not ended by itself.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Decides after the process has ended, having lived for `lived`; `is_awaited` tells that a
    /// session waits for an answer.
    pub fn after(&mut self, end: End, lived: Duration, is_awaited: bool) -> Next {
        if lived >= HEALTHY {
            self.in_a_row = 0;
        }
        if end == End::Unfit {
            return Next::GiveUp;
        }
        if end == End::Done && !is_awaited {
            return Next::Stop;
        }
        self.early_failures = if end != End::Killed && lived < EARLY { self.early_failures + 1 } else { 0 };
        if self.early_failures == EARLY_FAILURES {
            return Next::GiveUp;
        }
        if end == End::Done {
            return Next::StartAfter(Duration::ZERO);
        }
        self.restarts += 1;
        self.in_a_row += 1;
        Next::StartAfter(delay(self.in_a_row))
    }
}

/// How long to wait before the restart of that number.
fn delay(in_a_row: u32) -> Duration {
    match in_a_row.checked_sub(2) {
        None => Duration::ZERO,
        Some(doubled) => FIRST_DELAY.saturating_mul(1 << doubled.min(8)).min(LONGEST_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn delays(supervision: &mut Supervision, count: usize) -> Vec<u128> {
        let mut next = || supervision.after(End::Killed, SHORT, true);
        let delays = (0..count).map(|_| match next() {
            Next::StartAfter(delay) => delay.as_millis(),
            other => panic!("expected a restart, not {other:?}"),
        });
        delays.collect()
    }

    #[test]
    fn a_process_that_is_killed_comes_back_at_once_and_then_later_and_later() {
        let mut supervision = Supervision::default();
        assert_eq!(delays(&mut supervision, 8), [0, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(supervision.restarts(), 8);
    }

    #[test]
    fn a_healthy_life_is_a_new_beginning() {
        let mut supervision = Supervision::default();
        delays(&mut supervision, 5);
        assert_eq!(supervision.after(End::Killed, HEALTHY, false), Next::StartAfter(Duration::ZERO));
        assert_eq!(supervision.restarts(), 6);
    }

    #[test]
    fn a_process_that_is_not_needed_comes_back_for_whoever_waits() {
        let mut supervision = Supervision::default();
        assert_eq!(supervision.after(End::Done, SHORT, true), Next::StartAfter(Duration::ZERO));
        assert_eq!(supervision.after(End::Done, HEALTHY, false), Next::Stop);
        assert_eq!(supervision.restarts(), 0);
    }

    #[test]
    fn a_process_that_cannot_even_begin_is_given_up() {
        for end in [End::Failed, End::Done] {
            let mut supervision = Supervision::default();
            for _ in 1..EARLY_FAILURES {
                assert!(matches!(supervision.after(end, SHORT, true), Next::StartAfter(_)));
            }
            assert_eq!(supervision.after(end, SHORT, true), Next::GiveUp);
        }
        assert_eq!(Supervision::default().after(End::Unfit, SHORT, true), Next::GiveUp);
    }

    #[test]
    fn kills_and_later_failures_are_never_given_up() {
        let mut supervision = Supervision::default();
        for _ in 0..100 {
            assert!(matches!(supervision.after(End::Killed, SHORT, true), Next::StartAfter(_)));
            assert!(matches!(supervision.after(End::Failed, EARLY, true), Next::StartAfter(_)));
        }
    }
}
