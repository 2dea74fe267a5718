//! Maximal marginal relevance: rows that are relevant and unlike those already chosen.
//!
//! The gain of a row never rises once it has been compared with a chosen one, so a gain that was computed before is a
//! bound. Only the row with the greatest bound is compared with what was chosen since (Minoux, "Accelerated greedy
//! algorithms for maximizing submodular set functions", 1978), which chooses the same rows as comparing all each time.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use crate::embed::Checkpoint;
use crate::error::Result;
use crate::search::candidate::{Location, RankedRow};
use crate::search::steps::Steps;

/// The embeddings of rows in one piece of memory, since hundreds of thousands of pieces take long to be freed, which
/// nothing interrupts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embeddings {
    numbers: Vec<f32>,
    places: HashMap<Location, Range<usize>>,
}

impl Embeddings {
    /// Adds that of a row.
    pub fn add(&mut self, row: Location, embedding: &[f32]) {
        let begin = self.numbers.len();
        self.numbers.extend_from_slice(embedding);
        self.places.insert(row, begin..self.numbers.len());
    }
}

/// Chooses `count` rows one after another, each with the greatest
/// `(1 − diversity) · relevance − diversity · similarity`, the similarity being the cosine with the
/// nearest row chosen before (Carbonell and Goldstein, SIGIR 1998). Relevance is the fused score
/// placed between the least and the greatest, 0 to 1.
///
/// `rows` are best first; `embeddings` are theirs. A row that has none is like no other row. Equal rows keep their
/// order.
///
/// # Errors
/// Those of `checkpoint`.
pub fn diversify(
    rows: Vec<RankedRow>,
    embeddings: Embeddings,
    diversity: f64,
    count: usize,
    checkpoint: Checkpoint,
) -> Result<Vec<RankedRow>> {
    let mut steps = Steps::new(checkpoint);
    let least = rows.last().map_or(0.0, |row| row.score);
    let span = rows.first().map_or(0.0, |row| row.score) - least;
    let relevance = |row: &RankedRow| if span > 0.0 { (row.score - least) / span } else { 1.0 };
    let gain = |index: usize, nearest: Option<f64>| {
        // Adding zero makes one zero of both.
        (1.0 - diversity) * relevance(&rows[index]) - diversity * nearest.unwrap_or(0.0) + 0.0
    };
    let Embeddings { mut numbers, places } = embeddings;
    let mut waiting = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        steps.step()?;
        let place = places.get(&row.location).cloned();
        let unit = place.filter(|place| make_unit(&mut numbers[place.clone()]));
        waiting.push(Waiting { gain: gain(index, None), index, unit, nearest: None, compared: 0 });
    }
    let mut waiting = BinaryHeap::from(waiting);
    let mut chosen: Vec<usize> = Vec::new();
    // The directions of those that were chosen, each once: another row of the same one changes no similarity.
    let mut units: Vec<Range<usize>> = Vec::new();
    let mut directions: HashMap<u64, Vec<usize>> = HashMap::new();
    while chosen.len() < count {
        let Some(mut best) = waiting.pop() else { break };
        if best.unit.is_some() && best.compared < units.len() {
            let next = waiting.peek().map_or(f64::NEG_INFINITY, |next| next.gain);
            while best.compared < units.len() && best.gain >= next {
                steps.step()?;
                best.compare(&units[best.compared], &numbers);
                best.gain = gain(best.index, best.nearest);
            }
            waiting.push(best);
            continue;
        }
        chosen.push(best.index);
        let Some(unit) = best.unit else { continue };
        if units.is_empty() {
            // Rows that point away from the first one gain by it, so that their bounds are true from here on.
            let mut rest = waiting.into_vec();
            for row in &mut rest {
                steps.step()?;
                row.compare(&unit, &numbers);
                row.gain = gain(row.index, row.nearest);
            }
            waiting = BinaryHeap::from(rest);
        }
        let numbers = |unit: &Range<usize>| &numbers[unit.clone()];
        let alike = directions.entry(hash_of(numbers(&unit))).or_default();
        if !alike.iter().any(|place| numbers(&units[*place]) == numbers(&unit)) {
            alike.push(units.len());
            units.push(unit);
        }
    }
    let mut rows: Vec<Option<RankedRow>> = rows.into_iter().map(Some).collect();
    Ok(chosen.into_iter().filter_map(|index| rows[index].take()).collect())
}

/// A row that was not chosen yet; the greatest is the one with the greatest gain, of equal ones the first.
struct Waiting {
    /// The gain of the row, or a bound of it.
    gain: f64,
    /// Its place among the rows.
    index: usize,
    /// The place of its embedding as a vector of length 1.
    unit: Option<Range<usize>>,
    /// The similarity with the nearest of the chosen rows that it was compared with.
    nearest: Option<f64>,
    /// With how many of them it was.
    compared: usize,
}

impl Waiting {
    fn compare(&mut self, chosen: &Range<usize>, numbers: &[f32]) {
        if let Some(unit) = &self.unit {
            let cosine = dot(&numbers[chosen.clone()], &numbers[unit.clone()]);
            self.nearest = Some(self.nearest.map_or(cosine, |known| known.max(cosine)));
            self.compared += 1;
        }
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> Ordering {
        self.gain.total_cmp(&other.gain).then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}

/// Gives a vector the length 1, if it has a direction.
fn make_unit(vector: &mut [f32]) -> bool {
    let norm = dot(vector, vector).sqrt();
    if !(norm > 0.0 && norm.is_finite()) {
        return false;
    }
    for number in vector {
        *number = (f64::from(*number) / norm) as f32;
    }
    true
}

fn hash_of(vector: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    vector.iter().for_each(|number| number.to_bits().hash(&mut hasher));
    hasher.finish()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;

    fn rows(scores: &[f64]) -> Vec<RankedRow> {
        let row = |(index, score): (usize, &f64)| RankedRow {
            location: Location { table: 1, block: index as u32, offset: 1 },
            key: index.to_string(),
            score: *score,
            vector_rank: Some(index + 1),
            text_rank: None,
            similarity: Some(*score),
            text_score: None,
        };
        scores.iter().enumerate().map(row).collect()
    }

    fn together(embeddings: &[Option<Vec<f32>>]) -> Embeddings {
        let mut together = Embeddings::default();
        for (row, embedding) in rows(&vec![0.0; embeddings.len()]).iter().zip(embeddings) {
            if let Some(embedding) = embedding {
                together.add(row.location, embedding);
            }
        }
        together
    }

    fn chosen(
        rows: Vec<RankedRow>,
        embeddings: &[Option<Vec<f32>>],
        diversity: f64,
        count: usize,
    ) -> Vec<RankedRow> {
        diversify(rows, together(embeddings), diversity, count, &mut || Ok(())).expect("nothing stops it")
    }

    /// The same by its definition: all rows are compared with each that is chosen.
    fn chosen_naively(
        rows: Vec<RankedRow>,
        embeddings: &[Option<Vec<f32>>],
        diversity: f64,
        count: usize,
    ) -> Vec<RankedRow> {
        let least = rows.last().map_or(0.0, |row| row.score);
        let span = rows.first().map_or(0.0, |row| row.score) - least;
        let units: Vec<Option<Vec<f32>>> =
            embeddings.iter().map(|embedding| embedding.clone().and_then(unit)).collect();
        let mut nearest: Vec<Option<f64>> = vec![None; rows.len()];
        let mut rows: Vec<Option<RankedRow>> = rows.into_iter().map(Some).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count {
            let mut best: Option<(usize, f64)> = None;
            for (index, row) in rows.iter().enumerate() {
                let Some(row) = row else { continue };
                let relevance = if span > 0.0 { (row.score - least) / span } else { 1.0 };
                let gain = (1.0 - diversity) * relevance - diversity * nearest[index].unwrap_or(0.0);
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

    fn unit(mut vector: Vec<f32>) -> Option<Vec<f32>> {
        make_unit(&mut vector).then_some(vector)
    }

    fn order(diversity: f64, count: usize) -> String {
        let embeddings = [vec![1.0, 0.0], vec![1.0, 0.01], vec![0.0, 2.0]].map(Some);
        let chosen = chosen(rows(&[0.9, 0.8, 0.5]), &embeddings, diversity, count);
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
        let found = chosen(rows(&[0.9, 0.8]), &[None, Some(vec![0.0, 0.0])], 0.7, 5);
        assert_eq!(found.len(), 2);
        assert!(chosen(vec![], &[], 0.7, 5).is_empty());
    }

    /// Rows in so many directions.
    fn many(count: usize, directions: usize) -> (Vec<RankedRow>, Vec<Option<Vec<f32>>>) {
        let scores: Vec<f64> = (0..count).map(|index| 1.0 - index as f64 / count as f64).collect();
        let vector = |index: usize| {
            let number = |place: usize| ((index * place) % directions) as f32 / directions as f32;
            Some((1..=64).map(number).collect())
        };
        (rows(&scores), (0..count).map(vector).collect())
    }

    /// How often the checkpoint is called, which is every thousand comparisons.
    fn calls(count: usize, directions: usize, diversity: f64, wanted: usize) -> usize {
        let (rows, embeddings) = many(count, directions);
        let mut calls = 0;
        let found = diversify(rows, together(&embeddings), diversity, wanted, &mut || {
            calls += 1;
            Ok(())
        });
        assert_eq!(found.map(|rows| rows.len()), Ok(wanted));
        calls
    }

    #[test]
    fn it_stops_at_once() {
        let (rows, embeddings) = many(20_000, 9973);
        let mut calls = 0;
        let result = diversify(rows, together(&embeddings), 0.5, 10_000, &mut || {
            calls += 1;
            if calls < 30 { Ok(()) } else { Err(Error::NoSchema) }
        });
        assert_eq!((result, calls), (Err(Error::NoSchema), 30));
    }

    #[test]
    fn few_rows_are_compared_where_most_are_worse_or_copies() {
        // Comparing each of the chosen rows with all others would be 9,800 and 97,000 calls.
        let (worse, copies) = (calls(10_000, 9973, 0.3, 1000), calls(10_000, 97, 0.5, 9000));
        assert!(worse < 3000, "expected far fewer comparisons than of all rows, not {worse} thousand");
        assert!(copies < 1500, "expected copies to be compared once, not {copies} thousand times");
    }

    proptest! {
        #[test]
        fn the_same_rows_are_chosen_as_by_comparing_all(
            mut scores in prop::collection::vec(prop_oneof![-1.0f64..1.0, Just(0.5)], 0..40),
            // Few values, so that there are ties, and negative ones, so that gains rise at first.
            numbers in prop::collection::vec(prop::sample::select(vec![-1.0f32, -0.5, 0.0, 0.5, 1.0]), 120),
            is_there in prop::collection::vec(prop::bool::weighted(0.9), 40),
            diversity in prop_oneof![0.0f64..=1.0, Just(0.0), Just(1.0), Just(0.5)],
            count in 0usize..45,
        ) {
            scores.sort_by(|a, b| b.total_cmp(a));
            let embeddings: Vec<Option<Vec<f32>>> = (0..scores.len())
                .map(|index| is_there[index].then(|| numbers[3 * index..3 * index + 3].to_vec()))
                .collect();
            let expected = chosen_naively(rows(&scores), &embeddings, diversity, count);
            prop_assert_eq!(chosen(rows(&scores), &embeddings, diversity, count), expected);
        }
    }
}
