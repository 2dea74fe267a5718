//! One ranked list out of the lists of both legs.

mod rank;
mod score;

use std::collections::HashMap;

pub use rank::{DEFAULT_RRF_K, rrf_score};

use crate::embed::Checkpoint;
use crate::error::{Error, Result};
use crate::search::candidate::{Candidate, Location, RankedRow};
use crate::search::steps::{Steps, sorted};

/// A way to make one score out of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fusion {
    /// Reciprocal rank fusion, by rank alone.
    ReciprocalRank,
    /// Scores placed between three standard deviations below and above the mean of their leg.
    DistributionBased,
    /// Scores placed between the least and the greatest of their leg.
    Relative,
    /// The similarity itself, and BM25 as a share of the greatest.
    Linear,
    /// As `Linear`, the vector leg counting the more the clearer it tells its rows apart.
    Adaptive,
}

/// The names of the fusions in SQL.
const NAMES: [(&str, Fusion); 5] = [
    ("rrf", Fusion::ReciprocalRank),
    ("dbsf", Fusion::DistributionBased),
    ("relative", Fusion::Relative),
    ("linear", Fusion::Linear),
    ("adaptive", Fusion::Adaptive),
];

impl Fusion {
    /// The fusion of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) when there is none.
    pub fn named(name: &str) -> Result<Fusion> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, fusion)| *fusion).ok_or_else(|| Error::InvalidArgument {
            argument: "fusion",
            expected: "'rrf', 'dbsf', 'relative', 'linear' or 'adaptive'".to_owned(),
            found: format!("'{name}'"),
        })
    }

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, fusion)| *fusion == self).map_or("", |(name, _)| name)
    }

    /// Whether every candidate must be scored by both legs first.
    pub fn needs_scores(self) -> bool {
        self != Fusion::ReciprocalRank
    }
}

/// How much each leg counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// The vector leg.
    pub vector: f64,
    /// The keyword leg.
    pub text: f64,
}

/// The candidates of both legs, each once, with its ranks and the scores known so far.
///
/// # Errors
/// Those of `checkpoint`.
pub fn merge(
    nearest: Vec<Candidate>,
    matching: Vec<Candidate>,
    checkpoint: Checkpoint,
) -> Result<Vec<RankedRow>> {
    let mut steps = Steps::new(checkpoint);
    let mut rows: Vec<RankedRow> = Vec::with_capacity(nearest.len() + matching.len());
    let mut places: HashMap<Location, usize> = HashMap::with_capacity(rows.capacity());
    let mut place_of = |rows: &mut Vec<RankedRow>, location: Location, key: String| {
        *places.entry(location).or_insert_with(|| {
            rows.push(RankedRow {
                location,
                key,
                score: 0.0,
                vector_rank: None,
                text_rank: None,
                similarity: None,
                text_score: None,
            });
            rows.len() - 1
        })
    };
    for (index, candidate) in nearest.into_iter().enumerate() {
        steps.step()?;
        let place = place_of(&mut rows, candidate.location, candidate.key);
        rows[place].vector_rank = Some(index + 1);
        rows[place].similarity = Some(candidate.score);
    }
    for (index, candidate) in matching.into_iter().enumerate() {
        steps.step()?;
        let place = place_of(&mut rows, candidate.location, candidate.key);
        rows[place].text_rank = Some(index + 1);
        rows[place].text_score = Some(candidate.score);
    }
    Ok(rows)
}

/// Gives each row its fused score and sorts the rows, best first. The order is total: by score,
/// then by the better of the two ranks, then by key. `dimensions` are those of the query's
/// embedding.
///
/// # Errors
/// Those of `checkpoint`.
pub fn fuse(
    mut rows: Vec<RankedRow>,
    fusion: Fusion,
    rrf_k: i64,
    weights: Weights,
    dimensions: usize,
    checkpoint: Checkpoint,
) -> Result<Vec<RankedRow>> {
    match fusion {
        Fusion::ReciprocalRank => rank::fuse_by_rank(&mut rows, rrf_k, weights),
        Fusion::DistributionBased => score::fuse_by_distribution(&mut rows, weights),
        Fusion::Relative => score::fuse_by_range(&mut rows, weights),
        Fusion::Linear => score::fuse_linearly(&mut rows, weights),
        Fusion::Adaptive => score::fuse_adaptively(&mut rows, weights, dimensions),
    }
    let best_first = |a: &RankedRow, b: &RankedRow| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| a.best_rank().cmp(&b.best_rank()))
            .then_with(|| a.key.cmp(&b.key))
    };
    sorted(rows, best_first, checkpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(rows: &[(u8, f64)]) -> Vec<Candidate> {
        let candidate = |(key, score): &(u8, f64)| Candidate {
            location: Location { table: 1, block: 0, offset: u16::from(*key) },
            key: key.to_string(),
            score: *score,
        };
        rows.iter().map(candidate).collect()
    }

    fn fused(
        fusion: Fusion,
        nearest: &[(u8, f64)],
        matching: &[(u8, f64)],
        weights: Weights,
    ) -> Vec<RankedRow> {
        let rows = merge(list(nearest), list(matching), &mut || Ok(())).expect("nothing stops it");
        fuse(rows, fusion, 60, weights, 8, &mut || Ok(())).expect("nothing stops it")
    }

    fn keys(rows: &[RankedRow]) -> Vec<&str> {
        rows.iter().map(|row| row.key.as_str()).collect()
    }

    const EVEN: Weights = Weights { vector: 1.0, text: 1.0 };

    #[test]
    fn a_row_in_both_lists_comes_first() {
        let nearest = [(1, 0.9), (2, 0.8), (3, 0.7)];
        let rows = fused(Fusion::ReciprocalRank, &nearest, &[(4, 9.0), (2, 8.0)], EVEN);
        assert_eq!(keys(&rows), ["2", "1", "4", "3"]);
        assert_eq!(rows[0].score, 1.0 / 62.0 + 1.0 / 62.0);
        assert_eq!((rows[0].vector_rank, rows[0].text_rank), (Some(2), Some(2)));
        assert_eq!((rows[2].vector_rank, rows[2].text_rank), (None, Some(1)));
    }

    #[test]
    fn weights_favour_a_leg() {
        for fusion in [Fusion::ReciprocalRank, Fusion::Relative, Fusion::DistributionBased] {
            let nearest = [(1, 0.9), (2, 0.1), (3, 0.2)];
            let matching = [(2, 9.0), (1, 1.0), (3, 2.0)];
            let to_text = Weights { vector: 1.0, text: 3.0 };
            let to_vector = Weights { vector: 3.0, text: 1.0 };
            assert_eq!(keys(&fused(fusion, &nearest, &matching, to_text))[0], "2", "{fusion:?}");
            assert_eq!(keys(&fused(fusion, &nearest, &matching, to_vector))[0], "1", "{fusion:?}");
        }
    }

    #[test]
    fn a_vector_leg_that_tells_its_rows_apart_counts_more() {
        let matching = [(2, 9.0), (1, 5.0), (3, 1.0)];
        let clear = [(1, 0.9), (2, 0.1), (3, 0.1)];
        let vague = [(1, 0.52), (2, 0.51), (3, 0.5)];
        assert_eq!(keys(&fused(Fusion::Adaptive, &clear, &matching, EVEN))[0], "1");
        assert_eq!(keys(&fused(Fusion::Adaptive, &vague, &matching, EVEN))[0], "2");
    }

    #[test]
    fn names_are_their_own_inverse() {
        for (name, fusion) in NAMES {
            assert_eq!(Fusion::named(name), Ok(fusion));
            assert_eq!(fusion.name(), name);
        }
        assert!(Fusion::named("RRF ").is_err());
    }

    proptest! {
        #[test]
        fn the_order_is_total_and_scores_fall(
            nearest in prop::collection::btree_map(0u8..40, -1.0f64..1.0, 0..30),
            matching in prop::collection::btree_map(0u8..40, 0.1f64..30.0, 0..30),
            (_, fusion) in prop::sample::select(NAMES.to_vec()),
        ) {
            let best_first = |rows: std::collections::BTreeMap<u8, f64>| {
                let mut rows: Vec<(u8, f64)> = rows.into_iter().collect();
                rows.sort_by(|a, b| b.1.total_cmp(&a.1));
                rows
            };
            let (nearest, matching) = (best_first(nearest), best_first(matching));
            let rows = fused(fusion, &nearest, &matching, EVEN);
            let again = fused(fusion, &nearest, &matching, EVEN);
            prop_assert_eq!(&rows, &again);
            prop_assert!(rows.iter().all(|row| row.score.is_finite()));
            prop_assert!(rows.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let mut all: Vec<u8> = nearest.iter().chain(&matching).map(|row| row.0).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(rows.len(), all.len());
        }
    }
}
