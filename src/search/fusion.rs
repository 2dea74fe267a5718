//! Reciprocal rank fusion: one list out of several, by rank alone.

use std::collections::HashMap;

use super::candidate::{Candidate, Location, RankedRow};

/// The constant of Cormack, Clarke and Büttcher (SIGIR 2009), used by every system since.
pub const DEFAULT_RRF_K: i32 = 60;

/// The share that rank `rank` (from 1) in one list adds to a fused score: `weight / (k + rank)`
/// (Cormack, Clarke and Büttcher 2009).
pub fn rrf_score(rank: i64, k: i32, weight: f64) -> f64 {
    weight / (f64::from(k) + rank as f64)
}

/// Fuses the lists of the two legs into one, best first.
///
/// The order is total: by score, then by the better of the two ranks, then by key.
pub fn fuse_by_rank(
    vector_leg: Vec<Candidate>,
    keyword_leg: Vec<Candidate>,
    k: i32,
    vector_weight: f64,
    text_weight: f64,
) -> Vec<RankedRow> {
    let mut rows: Vec<RankedRow> = Vec::with_capacity(vector_leg.len() + keyword_leg.len());
    let mut places: HashMap<Location, usize> = HashMap::with_capacity(rows.capacity());
    let mut place_of = |rows: &mut Vec<RankedRow>, candidate: Candidate| {
        *places.entry(candidate.location).or_insert_with_key(|location| {
            rows.push(RankedRow {
                location: location.clone(),
                key: candidate.key,
                score: 0.0,
                vector_rank: None,
                text_rank: None,
            });
            rows.len() - 1
        })
    };
    for (index, candidate) in vector_leg.into_iter().enumerate() {
        let place = place_of(&mut rows, candidate);
        rows[place].vector_rank = Some(index + 1);
        rows[place].score += rrf_score(index as i64 + 1, k, vector_weight);
    }
    for (index, candidate) in keyword_leg.into_iter().enumerate() {
        let place = place_of(&mut rows, candidate);
        rows[place].text_rank = Some(index + 1);
        rows[place].score += rrf_score(index as i64 + 1, k, text_weight);
    }
    rows.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| best_rank(a).cmp(&best_rank(b)))
            .then_with(|| a.key.cmp(&b.key))
    });
    rows
}

fn best_rank(row: &RankedRow) -> usize {
    let ranks = [row.vector_rank, row.text_rank];
    ranks.into_iter().flatten().min().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(keys: &[u8]) -> Vec<Candidate> {
        let candidate = |key: &u8| Candidate {
            location: Location { table: 1, row: format!("(0,{key})") },
            key: key.to_string(),
        };
        keys.iter().map(candidate).collect()
    }

    fn keys(rows: &[RankedRow]) -> Vec<&str> {
        rows.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn a_row_in_both_lists_comes_first() {
        let fused = fuse_by_rank(list(&[1, 2, 3]), list(&[4, 2]), 60, 1.0, 1.0);
        assert_eq!(keys(&fused), ["2", "1", "4", "3"]);
        assert_eq!(fused[0].score, 1.0 / 62.0 + 1.0 / 62.0);
        assert_eq!((fused[0].vector_rank, fused[0].text_rank), (Some(2), Some(2)));
        assert_eq!((fused[2].vector_rank, fused[2].text_rank), (None, Some(1)));
    }

    #[test]
    fn weights_favour_a_leg() {
        let fused = fuse_by_rank(list(&[1]), list(&[2]), 60, 1.0, 2.0);
        assert_eq!(keys(&fused), ["2", "1"]);
    }

    proptest! {
        #[test]
        fn the_order_is_total_and_scores_fall(
            a in prop::collection::hash_set(0u8..40, 0..30),
            b in prop::collection::hash_set(0u8..40, 0..30),
        ) {
            let (a, b): (Vec<u8>, Vec<u8>) = (a.into_iter().collect(), b.into_iter().collect());
            let fused = fuse_by_rank(list(&a), list(&b), 60, 1.0, 1.0);
            let again = fuse_by_rank(list(&a), list(&b), 60, 1.0, 1.0);
            prop_assert_eq!(&fused, &again);
            prop_assert!(fused.windows(2).all(|pair| pair[0].score >= pair[1].score));
            let mut all: Vec<u8> = [a, b].concat();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(fused.len(), all.len());
        }
    }
}
