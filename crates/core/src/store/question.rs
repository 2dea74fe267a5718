//! What a search of a store asks for, as a filter.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Which rows of a store count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    /// Those of a namespace.
    pub namespace: Option<String>,
    /// Those from one kind of source.
    pub source_type: Option<String>,
    /// Those of a collection, by its id.
    pub collection: Option<String>,
    /// Those whose metadata contain this JSON object.
    pub metadata: Option<String>,
    /// Those that pass this filter too.
    pub filter: Option<String>,
}

impl Scope {
    /// The filter as JSON text; `None` where every row counts. A filter of the caller's stands beside
    /// the conditions and cannot take their place.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) when the metadata are not an object.
    pub fn filter(&self) -> Result<Option<String>> {
        let mut conditions: Vec<String> = [
            ("namespace", &self.namespace),
            ("source_type", &self.source_type),
            ("collection_id", &self.collection),
        ]
        .into_iter()
        .filter_map(|(column, value)| Some(json!({ column: value.as_ref()? }).to_string()))
        .collect();
        if let Some(metadata) = &self.metadata {
            // Both pass as text, so that numbers keep every digit.
            let is_object = serde_json::from_str(metadata).is_ok_and(|value: Value| value.is_object());
            if !is_object {
                return Err(Error::InvalidArgument {
                    argument: "metadata",
                    expected: "a JSON object".to_owned(),
                    found: shortened(metadata),
                });
            }
            conditions.push(format!(r#"{{"metadata": {{"$eq": {metadata}}}}}"#));
        }
        if let Some(filter) = &self.filter {
            conditions.push(filter.clone());
        }
        Ok(match conditions.len() {
            0 => None,
            1 => conditions.pop(),
            _ => Some(format!(r#"{{"$and": [{}]}}"#, conditions.join(", "))),
        })
    }
}

/// The metadata of a document: a JSON object.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) for anything else.
pub fn check_metadata(metadata: &str) -> Result<()> {
    let is_json = serde_json::from_str::<&RawValue>(metadata).is_ok();
    if is_json && metadata.trim_start().starts_with('{') {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        argument: "metadata",
        expected: "a JSON object".to_owned(),
        found: shortened(metadata),
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn everything_needs_no_filter() {
        assert_eq!(Scope::default().filter(), Ok(None));
    }

    #[test]
    fn a_callers_filter_stands_beside_the_namespace() {
        let scope =
            Scope { namespace: some("a\"b"), filter: some(r#"{"namespace": "other"}"#), ..Scope::default() };
        let filter = scope.filter().expect("valid").expect("conditions");
        assert_eq!(filter, r#"{"$and": [{"namespace":"a\"b"}, {"namespace": "other"}]}"#);
    }

    #[test]
    fn metadata_keep_their_digits() {
        let scope = Scope { metadata: some(r#"{"n": 1.10}"#), ..Scope::default() };
        assert_eq!(scope.filter(), Ok(some(r#"{"metadata": {"$eq": {"n": 1.10}}}"#)));
        for wrong in ["[]", "1", "nonsense"] {
            assert!(Scope { metadata: some(wrong), ..Scope::default() }.filter().is_err());
            assert!(check_metadata(wrong).is_err());
        }
        assert_eq!(check_metadata(r#" {"a": 1}"#), Ok(()));
    }
}
