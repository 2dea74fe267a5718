//! BM25, the ranking function of the keyword leg.
//!
//! Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with
//! the inverse document frequency of Lucene, which is never negative.

use crate::error::{Error, Result};
use crate::search::text_vector::TextVector;

/// The parameters of the function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bm25 {
    /// How soon further occurrences of a word stop to count: 0 at once, larger later.
    pub k1: f64,
    /// How much the length of a document counts: 0 not at all, 1 fully.
    pub b: f64,
}

impl Default for Bm25 {
    fn default() -> Bm25 {
        Bm25 { k1: 1.2, b: 0.75 }
    }
}

/// A lexeme of the query, with what one occurrence of it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryWord {
    /// The lexeme.
    pub lexeme: String,
    /// Its inverse document frequency, times how often the query has it.
    pub weight: f64,
}

/// What a score needs to know of the collection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Collection {
    /// The number of documents.
    pub documents: f64,
    /// Their average length, in occurrences of lexemes.
    pub average_length: f64,
}

/// `ln(1 + (N − n + ½) / (n + ½))` for a lexeme that `n` of `N` documents have (Lucene's
/// BM25Similarity).
pub fn inverse_document_frequency(documents: f64, document_frequency: f64) -> f64 {
    let frequency = document_frequency.clamp(0.0, documents);
    (1.0 + (documents - frequency + 0.5) / (frequency + 0.5)).ln()
}

impl Bm25 {
    /// Checks the parameters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) unless `k1` is zero or greater and `b` from 0 to 1.
    pub fn new(k1: f64, b: f64) -> Result<Bm25> {
        let invalid = |argument, expected: &str, found: f64| Error::InvalidArgument {
            argument,
            expected: expected.to_owned(),
            found: found.to_string(),
        };
        if !(k1.is_finite() && k1 >= 0.0) {
            return Err(invalid("k1", "zero or greater, and finite", k1));
        }
        if !(0.0..=1.0).contains(&b) {
            return Err(invalid("b", "between 0 and 1", b));
        }
        Ok(Bm25 { k1, b })
    }

    /// The most that a word can add to a score, however often it occurs: `weight · (k1 + 1)`.
    pub fn upper_bound(&self, word: &QueryWord) -> f64 {
        word.weight * (self.k1 + 1.0)
    }

    /// What `occurrences` of a word of weight one add to the score of a document, whose length is
    /// `relative_length` times the average: `f · (k1 + 1) / (f + k1 · (1 − b + b · length))`.
    fn saturation(&self, occurrences: f64, relative_length: f64) -> f64 {
        let norm = self.k1 * (1.0 - self.b + self.b * relative_length);
        occurrences * (self.k1 + 1.0) / (occurrences + norm)
    }

    /// The score of a document, and how many of the words it has. Without any the score is 0.
    pub fn score(&self, document: &TextVector, words: &[QueryWord], average_length: f64) -> (f64, usize) {
        let mut relative_length = None;
        let mut score = 0.0;
        let mut matched = 0;
        for word in words {
            let occurrences = document.occurrences(word.lexeme.as_bytes());
            if occurrences > 0 {
                // Most of the time goes into the length, and many documents need none.
                let length = *relative_length.get_or_insert_with(|| {
                    f64::from(document.length()) / average_length.max(f64::MIN_POSITIVE)
                });
                score += word.weight * self.saturation(f64::from(occurrences), length);
                matched += 1;
            }
        }
        (score, matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::text_vector::tests::stored;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn rare_words_weigh_more() {
        assert!(inverse_document_frequency(100.0, 1.0) > inverse_document_frequency(100.0, 50.0));
        assert!(inverse_document_frequency(100.0, 100.0) > 0.0);
        assert!(inverse_document_frequency(0.0, 3.0).is_finite());
    }

    #[test]
    fn a_score_by_hand() {
        let document = BTreeMap::from([("cat".to_owned(), 2), ("mat".to_owned(), 1)]);
        let bytes = stored(&document);
        let vector = TextVector::new(&bytes).expect("valid");
        let word = |lexeme: &str, weight| QueryWord { lexeme: lexeme.to_owned(), weight };
        let words = [word("cat", 2.0), word("dog", 5.0)];
        let (score, matched) = Bm25::default().score(&vector, &words, 6.0);
        // f = 2, length 3 of 6 on average: 2 · 2.2 / (2 + 1.2 · (0.25 + 0.75 · 0.5)) = 1.6.
        assert!((score - 2.0 * 1.6).abs() < 1e-12, "{score}");
        assert_eq!(matched, 1);
    }

    #[test]
    fn senseless_parameters_are_refused() {
        for (k1, b) in
            [(-1.0, 0.5), (f64::NAN, 0.5), (f64::INFINITY, 0.5), (1.2, -0.1), (1.2, 1.1), (1.2, f64::NAN)]
        {
            assert!(Bm25::new(k1, b).is_err(), "{k1} {b}");
        }
    }

    proptest! {
        #[test]
        fn no_score_exceeds_the_bounds(
            document in prop::collection::btree_map("[a-e]{1,2}", 1u16..255, 0..12),
            weights in prop::collection::btree_map("[a-e]{1,2}", 0.0f64..20.0, 0..8),
            average in 0.5f64..500.0,
            (k1, b) in (0.0f64..5.0, 0.0f64..=1.0),
        ) {
            let bytes = stored(&document);
            let vector = TextVector::new(&bytes).expect("valid");
            let bm25 = Bm25 { k1, b };
            let words: Vec<QueryWord> =
                weights.into_iter().map(|(lexeme, weight)| QueryWord { lexeme, weight }).collect();
            let bound: f64 = words
                .iter()
                .filter(|word| document.contains_key(&word.lexeme))
                .map(|word| bm25.upper_bound(word))
                .sum();
            let (score, _) = bm25.score(&vector, &words, average);
            prop_assert!(score <= bound * (1.0 + 1e-12), "{} > {}", score, bound);
        }
    }
}
