//! Counters that any thread adds to, and times in a histogram of a few hundred bytes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets to a doubling: a quantile is right to within 6 %.
const BUCKETS_PER_DOUBLING: f64 = 8.0;
/// The upper limit of the first bucket.
const FIRST_MICROSECONDS: f64 = 10.0;
/// Up to ten minutes.
const BUCKETS: usize = 208;

/// How long requests took.
pub struct Times {
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Times {
    fn default() -> Times {
        Times { buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Times {
    /// Counts one time.
    pub fn add(&self, time: Duration) {
        let ratio = time.as_secs_f64() * 1e6 / FIRST_MICROSECONDS;
        let bucket = if ratio > 1.0 { (ratio.log2() * BUCKETS_PER_DOUBLING).ceil() as usize } else { 0 };
        self.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
    }

    /// The time in milliseconds that the given share of the times does not exceed.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        // The middle of the bucket, on its scale.
        let doublings = (bucket as f64 - 0.5) / BUCKETS_PER_DOUBLING;
        Some(FIRST_MICROSECONDS * doublings.exp2() / 1000.0)
    }
}

/// What was done with one model.
#[derive(Default)]
pub struct Counters {
    /// Times it was loaded.
    pub loads: AtomicU64,
    /// Requests that were answered with vectors.
    pub requests: AtomicU64,
    /// Requests that failed or whose client went away.
    pub failures: AtomicU64,
    /// Texts of the requests that were answered.
    pub texts: AtomicU64,
    /// Runs of the model.
    pub batches: AtomicU64,
    /// Tokens of those runs, padding included.
    pub batch_tokens: AtomicU64,
    /// Texts that wait for a run.
    pub queued: AtomicU64,
    /// Times of the requests of few tokens.
    pub times: Times,
}

impl Counters {
    /// Counts one run over sequences of the given lengths, and says how many tokens it has, padding
    /// included.
    pub fn add_batch(&self, lengths: impl ExactSizeIterator<Item = usize>) -> usize {
        let tokens = lengths.len() * lengths.max().unwrap_or(0);
        self.batches.fetch_add(1, Relaxed);
        self.batch_tokens.fetch_add(tokens as u64, Relaxed);
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        for millisecond in 1..=100 {
            times.add(Duration::from_millis(millisecond));
        }
        let near = |found: Option<f64>, expected: f64| {
            let found = found.expect("there are times");
            assert!((found / expected - 1.0).abs() < 0.07, "{found} is not near {expected}");
        };
        near(times.quantile(0.5), 50.0);
        near(times.quantile(0.99), 99.0);
        near(times.quantile(1.0), 100.0);
    }

    #[test]
    fn times_out_of_range_are_counted() {
        let times = Times::default();
        times.add(Duration::ZERO);
        times.add(Duration::from_secs(86_400));
        assert!(times.quantile(1.0) > times.quantile(0.5));
    }
}
