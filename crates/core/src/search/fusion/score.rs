//! Fusion of scores. All are weighted means of what each leg says of a row, brought to a
//! common scale over the candidates of the query.

use crate::search::fusion::{RankedRow, Weights};

/// Scores rows by where their scores lie between the least and the greatest of their leg, from 0 to 1
/// (Weaviate's relative score fusion; min-max in Bruch, Gai and Ingber, "An Analysis of Fusion
/// Functions for Hybrid Retrieval", 2023).
pub fn fuse_by_range(rows: &mut [RankedRow], weights: Weights) {
    let scale = |scores: &[f64]| {
        let least = scores.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Scale { from: least, to: greatest }
    };
    fuse_scaled(rows, weights, scale);
}

/// Scores rows by where their scores lie between three standard deviations below and above the mean
/// of their leg, from 0 to 1 (Qdrant's distribution-based score fusion).
pub fn fuse_by_distribution(rows: &mut [RankedRow], weights: Weights) {
    let scale = |scores: &[f64]| {
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let variance =
            scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let deviation = variance.sqrt();
        Scale { from: mean - 3.0 * deviation, to: mean + 3.0 * deviation }
    };
    fuse_scaled(rows, weights, scale);
}

/// Scores rows by the similarity itself and the share of the greatest BM25 score among them:
/// `(vector weight · similarity + text weight · BM25 / max) / (vector weight + text weight)`.
pub fn fuse_linearly(rows: &mut [RankedRow], weights: Weights) {
    fuse_with_shares(rows, weights, 1.0);
}

/// Scores rows as [`fuse_linearly`] does, with each similarity as a multiple of the mean of the best,
/// and the weight of the vector leg multiplied by its commitment: how clearly it tells its best rows
/// apart, as the variance of their similarities and a multiple of 1 / dimensions, which is the variance
/// of the cosines of random directions. It is around 1 where a model says little of a query and above 2
/// where it separates well. No number in it is fitted to a collection.
///
/// The spread of the best scores, beside their mean, as a sign of how well a query is answered is from
/// Shtok et al., "Predicting Query Performance by Query-Drift Estimation" (2012), there called
/// normalized query commitment.
pub fn fuse_adaptively(rows: &mut [RankedRow], weights: Weights, dimensions: usize) {
    let best = rows.iter().filter(|row| row.vector_rank.is_some_and(|rank| rank <= COMMITMENT_ROWS));
    let similarities: Vec<f64> = best.filter_map(|row| row.similarity).collect();
    let count = similarities.len().max(1) as f64;
    let mean = similarities.iter().sum::<f64>() / count;
    let variance = similarities.iter().map(|similarity| (similarity - mean).powi(2)).sum::<f64>() / count;
    let commitment = variance * dimensions as f64;
    // Around a mean of zero multiples of it would be without bound.
    let unit = mean.max(variance.sqrt());
    fuse_with_shares(rows, Weights { vector: weights.vector * commitment, ..weights }, unit);
}

/// Rows of the vector leg whose similarities are looked at.
const COMMITMENT_ROWS: usize = 100;

/// The weighted mean of the similarity, as a multiple of `unit`, and of BM25 as a share of the greatest.
fn fuse_with_shares(rows: &mut [RankedRow], weights: Weights, unit: f64) {
    let greatest = rows.iter().filter_map(|row| row.text_score).fold(0.0, f64::max);
    let share = |score: Option<f64>, whole: f64| if whole > 0.0 { score.unwrap_or(0.0) / whole } else { 0.0 };
    let total = (weights.vector + weights.text).max(f64::MIN_POSITIVE);
    for row in rows {
        let (vector, text) = (share(row.similarity, unit), share(row.text_score, greatest));
        row.score = (weights.vector * vector + weights.text * text) / total;
    }
}

/// The scores of a leg that become 0 and 1.
struct Scale {
    from: f64,
    to: f64,
}

impl Scale {
    /// Where a score lies. Scores that are all the same say nothing: they lie in the middle.
    fn place(&self, score: f64) -> f64 {
        let span = self.to - self.from;
        if span > 0.0 { ((score - self.from) / span).clamp(0.0, 1.0) } else { 0.5 }
    }
}

fn fuse_scaled(rows: &mut [RankedRow], weights: Weights, scale_of: impl Fn(&[f64]) -> Scale) {
    let known =
        |score: fn(&RankedRow) -> Option<f64>| -> Vec<f64> { rows.iter().filter_map(score).collect() };
    let similarity = scale_of(&known(|row| row.similarity));
    let text = scale_of(&known(|row| row.text_score));
    let total = weights.vector + weights.text;
    for row in rows {
        let share = |score: Option<f64>, scale: &Scale| score.map_or(0.0, |score| scale.place(score));
        row.score = (weights.vector * share(row.similarity, &similarity)
            + weights.text * share(row.text_score, &text))
            / total.max(f64::MIN_POSITIVE);
    }
}
