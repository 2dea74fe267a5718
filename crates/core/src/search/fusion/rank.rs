//! Reciprocal rank fusion.

use crate::search::fusion::{RankedRow, Weights};

/// The constant of Cormack, Clarke and Büttcher (SIGIR 2009), used by every system since.
pub const DEFAULT_RRF_K: i64 = 60;

/// The share that rank `rank` (from 1) in one list adds to a fused score: `weight / (k + rank)`
/// (Cormack, Clarke and Büttcher 2009).
pub fn rrf_score(rank: i64, k: i64, weight: f64) -> f64 {
    weight / (k as f64 + rank as f64)
}

/// Scores rows by their ranks.
pub fn fuse_by_rank(rows: &mut [RankedRow], k: i64, weights: Weights) {
    let share = |rank: Option<usize>, weight| rank.map_or(0.0, |rank| rrf_score(rank as i64, k, weight));
    for row in rows {
        row.score = share(row.vector_rank, weights.vector) + share(row.text_rank, weights.text);
    }
}
