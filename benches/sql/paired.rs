//! Two sides that were measured in turn on the same work.

use std::fs;
use std::time::{Duration, Instant};

/// What a piece of work took on one side and on the other, time after time.
#[derive(Default)]
pub struct Pairs {
    pieces: Vec<Piece>,
}

struct Piece {
    texts: usize,
    ours: Duration,
    beside: Duration,
}

impl Pairs {
    /// Adds what the same `texts` texts took on both sides.
    pub fn add(&mut self, texts: usize, ours: Duration, beside: Duration) {
        self.pieces.push(Piece { texts, ours, beside });
    }

    /// The median of how many times as long the other side took.
    pub fn ratio(&self) -> f64 {
        median(
            self.pieces.iter().map(|piece| piece.beside.as_secs_f64() / piece.ours.as_secs_f64()).collect(),
        )
    }

    /// Our seconds for each text, over all pieces.
    pub fn seconds(&self) -> f64 {
        self.pieces.iter().map(|piece| piece.ours.as_secs_f64()).sum::<f64>() / self.texts()
    }

    /// The other side's seconds for each text, over all pieces.
    pub fn seconds_beside(&self) -> f64 {
        self.pieces.iter().map(|piece| piece.beside.as_secs_f64()).sum::<f64>() / self.texts()
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

/// What some work took.
#[derive(Clone, Copy)]
pub struct Taken {
    /// By the clock.
    pub time: Duration,
    /// On processors, all threads of the process together: other programs do not lengthen it.
    pub processor: Duration,
}

/// What `work` takes in the process that does it, named as in /proc.
pub fn take<T>(process: &str, work: impl FnOnce() -> T) -> Taken {
    let used = || processor_time(process).expect("the process is there");
    let began = used();
    let time = time(work);
    Taken { time, processor: used().saturating_sub(began) }
}

/// Processor time of a process and all its threads since it began (proc(5), fields 14 and 15 of
/// stat, in hundredths of a second), `None` of one that is gone.
pub fn processor_time(process: &str) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let (_, after_name) = text.rsplit_once(')')?;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some(Duration::from_millis(10 * ticks))
}
