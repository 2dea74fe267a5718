//! What a caller asks of a search, checked before any work is done.

use crate::error::{Error, Result};
use crate::search::fusion::{Fusion, Weights};

/// The most rows one search returns.
pub const MAX_K: i64 = 10_000;

/// The most rows a search passes over before the first one that it returns.
pub const MAX_SKIP: i64 = 100_000;

/// The most candidates that each leg gives.
pub const MOST_DEPTH: usize = 4 * (MAX_K + MAX_SKIP) as usize;

/// The least number of candidates that each leg gives.
const LEAST_DEPTH: usize = 100;

/// A checked search request.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// How many rows to return.
    pub k: usize,
    /// How many rows to pass over first.
    pub skip: usize,
    /// Candidates that each leg gives.
    pub depth: usize,
    /// How the legs become one list.
    pub fusion: Fusion,
    /// The constant of reciprocal rank fusion.
    pub rrf_k: i64,
    /// The weights of the legs; zero leaves one out.
    pub weights: Weights,
    /// The least similarity of a row.
    pub min_similarity: Option<f64>,
    /// How much a row must differ from those before it, 0 to 1.
    pub diversity: f64,
}

/// How many of the query's words a row must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WordMatch {
    /// At least one.
    #[default]
    Any,
    /// All of them.
    All,
    /// So many; all, where the query has no more.
    AtLeast(usize),
}

/// Which chunks of a row are answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChunkChoice {
    /// The best one.
    #[default]
    Best,
    /// All of them.
    All,
    /// The best one, shown by the text of its parent where it has one.
    Parent,
}

impl ChunkChoice {
    /// Reads 'best', 'all' or 'parent'.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) for anything else.
    pub fn parse(text: &str) -> Result<ChunkChoice> {
        match text {
            "best" => Ok(ChunkChoice::Best),
            "all" => Ok(ChunkChoice::All),
            "parent" => Ok(ChunkChoice::Parent),
            _ => Err(invalid("chunks", "'best', 'all' or 'parent'".into(), format!("'{text}'"))),
        }
    }
}

impl WordMatch {
    /// Reads 'any', 'all' or a number.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) for anything else.
    pub fn parse(text: &str) -> Result<WordMatch> {
        match (text, text.parse::<usize>()) {
            ("any", _) => Ok(WordMatch::Any),
            ("all", _) => Ok(WordMatch::All),
            (_, Ok(count)) if count > 0 => Ok(WordMatch::AtLeast(count)),
            _ => Err(invalid("match", "'any', 'all' or a number of words".into(), format!("'{text}'"))),
        }
    }

    /// The number for a query of `words` words.
    pub fn minimum(self, words: usize) -> usize {
        match self {
            WordMatch::Any => 1,
            WordMatch::All => words,
            WordMatch::AtLeast(count) => count.min(words),
        }
    }
}

impl SearchRequest {
    /// Checks how many rows are asked for. Each leg gives enough candidates that fusion can lift a
    /// row that one leg ranks low, max(100, 4 · (k + skip)), unless `depth` says how many: pages of
    /// one list are cut from the same candidates when all ask for the same depth.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn new(k: i64, skip: i64, depth: Option<i64>) -> Result<SearchRequest> {
        if !(1..=MAX_K).contains(&k) {
            return Err(invalid("k", format!("between 1 and {MAX_K}"), k));
        }
        if !(0..=MAX_SKIP).contains(&skip) {
            return Err(invalid("skip", format!("between 0 and {MAX_SKIP}"), skip));
        }
        let most = 4 * (MAX_K + MAX_SKIP);
        if let Some(depth) = depth.filter(|depth| !(k + skip..=most).contains(depth)) {
            return Err(invalid("depth", format!("between k + skip, {}, and {most}", k + skip), depth));
        }
        let (k, skip) = (k as usize, skip as usize);
        Ok(SearchRequest {
            k,
            skip,
            depth: depth.map_or((4 * (k + skip)).max(LEAST_DEPTH), |depth| depth as usize),
            fusion: Fusion::ReciprocalRank,
            rrf_k: crate::search::fusion::DEFAULT_RRF_K,
            weights: Weights { vector: 1.0, text: 1.0 },
            min_similarity: None,
            diversity: 0.0,
        })
    }

    /// Sets how the legs become one list.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn fused(self, fusion: &str, rrf_k: i64, weights: Weights) -> Result<SearchRequest> {
        check_rrf_k("rrf_k", rrf_k)?;
        check_weight("vector_weight", weights.vector)?;
        check_weight("text_weight", weights.text)?;
        if weights.vector + weights.text == 0.0 {
            return Err(invalid("vector_weight plus text_weight", "greater than zero".into(), 0));
        }
        Ok(SearchRequest { fusion: Fusion::named(fusion)?, rrf_k, weights, ..self })
    }

    /// The candidates of the keyword leg: where it is alone and exact, no more than are returned.
    pub fn keyword_depth(&self) -> usize {
        let is_alone = self.weights.vector == 0.0 && self.diversity == 0.0;
        if is_alone { self.last_row() } else { self.depth }
    }

    /// Sets which rows are good enough, and how different they must be.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn limited(self, min_similarity: Option<f64>, diversity: f64) -> Result<SearchRequest> {
        if let Some(least) = min_similarity.filter(|least| !least.is_finite()) {
            return Err(invalid("min_similarity", "a finite number".into(), least));
        }
        if !(0.0..=1.0).contains(&diversity) {
            return Err(invalid("diversity", "between 0 and 1".into(), diversity));
        }
        Ok(SearchRequest { min_similarity, diversity, ..self })
    }

    /// Rows up to the last one that is returned.
    pub fn last_row(&self) -> usize {
        self.k + self.skip
    }
}

/// Checks the constant of reciprocal rank fusion.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) when it is negative.
pub fn check_rrf_k(argument: &'static str, k: i64) -> Result<()> {
    if k >= 0 { Ok(()) } else { Err(invalid(argument, "zero or greater".into(), k)) }
}

/// Checks a weight.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) when it is negative, infinite or NaN.
pub fn check_weight(argument: &'static str, weight: f64) -> Result<()> {
    if weight.is_finite() && weight >= 0.0 {
        Ok(())
    } else {
        Err(invalid(argument, "zero or greater, and finite".into(), weight))
    }
}

fn invalid(argument: &'static str, expected: String, found: impl ToString) -> Error {
    Error::InvalidArgument { argument, expected, found: found.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_grows_with_the_rows_asked_for() {
        let depth = |k, skip, depth| SearchRequest::new(k, skip, depth).expect("valid").depth;
        assert_eq!(depth(10, 0, None), 100);
        assert_eq!(depth(50, 0, None), 200);
        assert_eq!(depth(10, 90, None), 400);
        assert_eq!(depth(10, 90, Some(1000)), 1000);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for (k, skip, depth, argument) in [
            (0, 0, None, "k"),
            (1_000_000, 0, None, "k"),
            (i64::MAX, i64::MAX, None, "k"),
            (10, -1, None, "skip"),
            (10, 1_000_000, None, "skip"),
            (10, i64::MIN, None, "skip"),
            (10, 5, Some(14), "depth"),
            (10, 5, Some(i64::MAX), "depth"),
        ] {
            let error = SearchRequest::new(k, skip, depth).expect_err("out of range");
            assert!(error.to_string().starts_with(&format!("{argument} must be between ")), "{error}");
        }
        let request = || SearchRequest::new(10, 0, None).expect("valid");
        let weights = |vector, text| Weights { vector, text };
        assert!(request().fused("rrf", -1, weights(1.0, 1.0)).is_err());
        assert!(request().fused("rrf", 60, weights(f64::NAN, 1.0)).is_err());
        assert!(request().fused("rrf", 60, weights(1.0, -0.5)).is_err());
        assert!(request().fused("rrf", 60, weights(0.0, 0.0)).is_err());
        assert!(request().limited(Some(f64::NAN), 0.0).is_err());
        assert!(request().limited(None, 1.5).is_err());
    }

    #[test]
    fn words_to_match_are_read() {
        assert_eq!(WordMatch::parse("all").map(|words| words.minimum(4)), Ok(4));
        assert_eq!(WordMatch::parse("2").map(|words| words.minimum(4)), Ok(2));
        assert_eq!(WordMatch::parse("9").map(|words| words.minimum(4)), Ok(4));
        assert_eq!(WordMatch::parse("9223372036854775807").map(|words| words.minimum(4)), Ok(4));
        for text in ["", "0", "-1", "ANY", "some"] {
            assert!(WordMatch::parse(text).is_err(), "{text}");
        }
    }
}
