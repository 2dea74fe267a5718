//! Searching a domain: what `search_memories` asks of a hybrid search, and what it shows of a hit.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::memories::metadata::check_importance;
use crate::search::SearchRequest;
use crate::search::fusion::{DEFAULT_RRF_K, Weights};
use crate::search::request::MAX_K;

/// How the legs become one list. A domain may have fewer rows than a leg gives candidates; then
/// every row has a place in the vector leg, and ranks alone would lift whatever shares a word with
/// the question.
const FUSION: &str = "adaptive";

/// The request for a search of at most `limit` memories, by words alone where vectors are not
/// wanted.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023).
pub fn request(limit: i64, use_vector: bool) -> Result<SearchRequest> {
    if !(1..=MAX_K).contains(&limit) {
        return Err(Error::InvalidArgument {
            argument: "limit",
            expected: format!("between 1 and {MAX_K}"),
            found: limit.to_string(),
        });
    }
    let weights = Weights { vector: if use_vector { 1.0 } else { 0.0 }, text: 1.0 };
    SearchRequest::new(limit, 0, None)?.fused(FUSION, DEFAULT_RRF_K, weights)
}

/// The filters of a search, in the language of `hybrid_search`: the caller's own, and the least
/// importance.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) for an importance outside 0…1.
pub fn filters(own: Option<String>, min_importance: Option<f64>) -> Result<Vec<String>> {
    let mut filters: Vec<String> = own.into_iter().collect();
    if let Some(least) = min_importance {
        check_importance("min_importance", least)?;
        filters.push(json!({ "metadata.importance": { "$gte": least } }).to_string());
    }
    Ok(filters)
}

/// What a hit shows beside its content, as texts that PostgreSQL reads without loss.
#[derive(Debug, Default, PartialEq)]
pub struct Shown {
    /// The metadata as JSON.
    pub metadata: Option<String>,
    /// `created_at`
    pub created_at: Option<String>,
    /// `updated_at`
    pub updated_at: Option<String>,
}

#[derive(Deserialize)]
struct Document<'a> {
    // RelationCache as it is written, so that its numbers keep every digit.
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

impl Shown {
    /// Reads a row as JSON; nothing of a row that is no memory.
    pub fn of(document: &str) -> Shown {
        match serde_json::from_str::<Document>(document) {
            Ok(document) => Shown {
                metadata: document.metadata.map(|metadata| metadata.get().to_owned()),
                created_at: document.created_at,
                updated_at: document.updated_at,
            },
            Err(_) => Shown::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_checked_by_its_own_name() {
        assert_eq!(request(5, true).map(|request| request.k), Ok(5));
        assert_eq!(request(7, false).map(|request| request.weights.vector), Ok(0.0));
        for limit in [0, -1, MAX_K + 1, i64::MAX] {
            let error = request(limit, true).expect_err("out of range");
            assert!(error.to_string().starts_with("limit must be between 1 and "), "{error}");
        }
    }

    #[test]
    fn importance_is_one_more_filter() {
        assert_eq!(filters(None, None), Ok(vec![]));
        let both = filters(Some(r#"{"a": 1}"#.to_owned()), Some(0.5)).expect("valid");
        assert_eq!(both, [r#"{"a": 1}"#, r#"{"metadata.importance":{"$gte":0.5}}"#]);
        assert!(filters(None, Some(f64::NAN)).is_err());
    }

    #[test]
    fn numbers_keep_every_digit() {
        let document = r#"{"id": "a", "metadata": {"n": 1.000000000000000000000000001}, "content": "x",
            "created_at": "2026-01-02T03:04:05.678901+00:00", "updated_at": null}"#;
        let shown = Shown::of(document);
        assert_eq!(shown.metadata.as_deref(), Some(r#"{"n": 1.000000000000000000000000001}"#));
        assert_eq!(shown.created_at.as_deref(), Some("2026-01-02T03:04:05.678901+00:00"));
        assert_eq!(shown.updated_at, None);
        assert_eq!(Shown::of(r#"{"metadata": null}"#), Shown::default());
    }
}
