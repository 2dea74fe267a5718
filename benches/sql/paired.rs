//! Two sides that were measured in turn on the same work.

use std::time::{Duration, Instant};

/// What a piece of work took on one side and on the other, time after time.
#[derive(Default)]
pub struct Pairs {
    pieces: Vec<Piece>,
}

struct Piece {
    texts: usize,
    ours: f64,
    beside: f64,
}

impl Pairs {
    /// Adds what the same `texts` texts took on both sides.
    pub fn add(&mut self, texts: usize, ours: Duration, beside: Duration) {
        self.pieces.push(Piece { texts, ours: ours.as_secs_f64(), beside: beside.as_secs_f64() });
    }

    /// The median of our share in the other side's time, so above 1 where we are faster.
    pub fn ratio(&self) -> f64 {
        median(self.pieces.iter().map(|piece| piece.beside / piece.ours).collect())
    }

    /// Our throughput over all pieces.
    pub fn texts_per_second(&self) -> f64 {
        self.texts() / self.pieces.iter().map(|piece| piece.ours).sum::<f64>()
    }

    /// The other side's throughput over all pieces.
    pub fn texts_per_second_beside(&self) -> f64 {
        self.texts() / self.pieces.iter().map(|piece| piece.beside).sum::<f64>()
    }

    fn texts(&self) -> f64 {
        self.pieces.iter().map(|piece| piece.texts as f64).sum()
    }
}

/// The middle one of some numbers, 0 of none.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// How long `work` takes.
pub fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    // The result is dropped after the clock has stopped.
    let result = work();
    let elapsed = began.elapsed();
    drop(result);
    elapsed
}
