//! When a job that failed is tried again.

use std::time::Duration;

use crate::pipeline::Failure;

/// The wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The share of a wait by which it differs from the next job's, so that jobs that failed together
/// do not all come back together.
const JITTER: f64 = 0.25;

/// What becomes of a job that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// It is tried again after this time.
    After(Duration),
    /// It is not, until somebody asks for it or the row changes.
    GiveUp,
}

/// Judges the failure of a job that has been tried `attempts` times, this time included; `chance` is
/// a number from 0 to 1.
pub fn decide_retry(failure: &Failure, attempts: u32, chance: f64) -> RetryDecision {
    if failure.most_attempts.is_some_and(|most| attempts >= most) {
        return RetryDecision::GiveUp;
    }
    let doublings = attempts.saturating_sub(1).min(31);
    let wait = (FIRST_WAIT * (1 << doublings)).min(LONGEST_WAIT);
    let jitter = 1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    RetryDecision::After(wait.mul_f64(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Category;
    use crate::pipeline::failure::MOST_ATTEMPTS;
    use proptest::prelude::*;

    fn failure(most_attempts: Option<u32>) -> Failure {
        Failure { category: Category::Row, most_attempts, sqlstate: "XX000".into(), message: String::new() }
    }

    fn seconds(attempts: u32, chance: f64) -> f64 {
        match decide_retry(&failure(Some(MOST_ATTEMPTS)), attempts, chance) {
            RetryDecision::After(wait) => wait.as_secs_f64(),
            RetryDecision::GiveUp => panic!("expected another attempt after {attempts}"),
        }
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        assert_eq!([1, 2, 3, 4].map(|attempts| seconds(attempts, 0.5)), [2.0, 4.0, 8.0, 16.0]);
        assert!((1..MOST_ATTEMPTS).all(|attempts| seconds(attempts, 1.0) <= 3600.0 * 1.25));
    }

    #[test]
    fn what_cannot_succeed_is_dead_at_once_and_the_rest_after_a_while() {
        assert_eq!(decide_retry(&failure(Some(1)), 1, 0.5), RetryDecision::GiveUp);
        assert_eq!(decide_retry(&failure(Some(MOST_ATTEMPTS)), MOST_ATTEMPTS, 0.5), RetryDecision::GiveUp);
        assert_eq!(decide_retry(&failure(None), 1000, 0.5), RetryDecision::After(LONGEST_WAIT));
    }

    proptest! {
        #[test]
        fn chance_moves_a_wait_by_a_quarter_at_most(attempts in 1..MOST_ATTEMPTS, chance in 0.0..=1.0) {
            let (wait, middle) = (seconds(attempts, chance), seconds(attempts, 0.5));
            prop_assert!((0.749 * middle..=1.251 * middle).contains(&wait));
        }
    }
}
