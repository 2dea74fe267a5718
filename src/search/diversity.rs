//! Maximal marginal relevance: rows that are relevant and unlike those already chosen.

use super::candidate::RankedRow;

/// Chooses `count` rows one after another, each with the greatest
/// `(1 − diversity) · relevance − diversity · similarity`, the similarity being the cosine with the
/// nearest row chosen before (Carbonell and Goldstein, SIGIR 1998). Relevance is the fused score
/// placed between the least and the greatest, 0 to 1.
///
/// `rows` are best first; `embeddings` are theirs, `None` where a row has none, which is like no
/// other row. Equal rows keep their order.
pub fn diversify(
    rows: Vec<RankedRow>,
    embeddings: &[Option<Vec<f32>>],
    diversity: f64,
    count: usize,
) -> Vec<RankedRow> {
    let least = rows.last().map_or(0.0, |row| row.score);
    let span = rows.first().map_or(0.0, |row| row.score) - least;
    let relevance = |row: &RankedRow| if span > 0.0 { (row.score - least) / span } else { 1.0 };
    let units: Vec<Option<Vec<f32>>> =
        embeddings.iter().map(|embedding| embedding.as_deref().and_then(unit)).collect();
    // The similarity of each row with the nearest one chosen.
    let mut nearest: Vec<Option<f64>> = vec![None; rows.len()];
    let mut rows: Vec<Option<RankedRow>> = rows.into_iter().map(Some).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let mut best: Option<(usize, f64)> = None;
        for (index, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let gain = (1.0 - diversity) * relevance(row) - diversity * nearest[index].unwrap_or(0.0);
            if best.is_none_or(|(_, greatest)| gain > greatest) {
                best = Some((index, gain));
            }
        }
        let Some((index, _)) = best else { break };
        chosen.extend(rows[index].take());
        for (other, similarity) in nearest.iter_mut().enumerate() {
            if let (Some(here), Some(there)) = (&units[index], &units[other]) {
                let cosine = dot(here, there);
                *similarity = Some(similarity.map_or(cosine, |known| known.max(cosine)));
            }
        }
    }
    chosen
}

fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let norm = dot(vector, vector).sqrt();
    (norm > 0.0 && norm.is_finite())
        .then(|| vector.iter().map(|number| (f64::from(*number) / norm) as f32).collect())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::candidate::Location;
    use super::*;

    fn rows(scores: &[f64]) -> Vec<RankedRow> {
        let row = |(index, score): (usize, &f64)| RankedRow {
            location: Location { table: 1, block: 0, offset: index as u16 },
            key: index.to_string(),
            score: *score,
            vector_rank: Some(index + 1),
            text_rank: None,
            similarity: Some(*score),
            text_score: None,
        };
        scores.iter().enumerate().map(row).collect()
    }

    fn order(diversity: f64, count: usize) -> String {
        let embeddings = [vec![1.0, 0.0], vec![1.0, 0.01], vec![0.0, 2.0]].map(Some);
        let chosen = diversify(rows(&[0.9, 0.8, 0.5]), &embeddings, diversity, count);
        chosen.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn without_diversity_the_order_stays() {
        assert_eq!(order(0.0, 3), "012");
    }

    #[test]
    fn a_near_copy_gives_way() {
        assert_eq!(order(0.5, 3), "021");
        assert_eq!(order(1.0, 2), "02");
    }

    #[test]
    fn rows_without_an_embedding_are_kept() {
        let chosen = diversify(rows(&[0.9, 0.8]), &[None, Some(vec![0.0, 0.0])], 0.7, 5);
        assert_eq!(chosen.len(), 2);
        assert!(diversify(vec![], &[], 0.7, 5).is_empty());
    }
}
