//! What a caller asks of a search, checked before any work is done.

use crate::error::{Error, Result};

/// The most rows one search returns.
pub const MAX_K: i32 = 10_000;

/// A checked search request.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// How many rows to return.
    pub k: usize,
    /// The constant of reciprocal rank fusion.
    pub rrf_k: i32,
    /// The weight of the vector leg; zero leaves it out.
    pub vector_weight: f64,
    /// The weight of the keyword leg; zero leaves it out.
    pub text_weight: f64,
}

impl SearchRequest {
    /// Checks the numbers of a request.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn new(k: i32, rrf_k: i32, vector_weight: f64, text_weight: f64) -> Result<SearchRequest> {
        if !(1..=MAX_K).contains(&k) {
            return Err(invalid("k", format!("between 1 and {MAX_K}"), k));
        }
        check_rrf_k(rrf_k)?;
        check_weight("vector_weight", vector_weight)?;
        check_weight("text_weight", text_weight)?;
        if vector_weight + text_weight == 0.0 {
            return Err(invalid("vector_weight plus text_weight", "greater than zero".into(), 0));
        }
        Ok(SearchRequest { k: k as usize, rrf_k, vector_weight, text_weight })
    }

    /// How many candidates each leg gives: enough that fusion can lift a row that one leg ranks
    /// low, max(100, 4k).
    pub fn depth(&self) -> usize {
        (4 * self.k).max(100)
    }
}

/// Checks the constant of reciprocal rank fusion.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) when it is negative.
pub fn check_rrf_k(k: i32) -> Result<()> {
    if k >= 0 { Ok(()) } else { Err(invalid("k", "zero or greater".into(), k)) }
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
    fn depth_grows_with_k() {
        let request = |k| SearchRequest::new(k, 60, 1.0, 1.0).expect("valid");
        assert_eq!(request(10).depth(), 100);
        assert_eq!(request(50).depth(), 200);
    }

    #[test]
    fn senseless_numbers_are_refused() {
        assert!(SearchRequest::new(0, 60, 1.0, 1.0).is_err());
        assert!(SearchRequest::new(1_000_000, 60, 1.0, 1.0).is_err());
        assert!(SearchRequest::new(10, -1, 1.0, 1.0).is_err());
        assert!(SearchRequest::new(10, 60, f64::NAN, 1.0).is_err());
        assert!(SearchRequest::new(10, 60, 1.0, -0.5).is_err());
        assert!(SearchRequest::new(10, 60, 0.0, 0.0).is_err());
    }
}
