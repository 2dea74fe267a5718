//! The metadata of a memory: a JSON object, of which a few keys are known.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The seconds since 1970 at the beginning of the transaction, as SQL.
pub const EPOCH: &str = "pg_catalog.date_part('epoch', pg_catalog.now())";

/// What a caller says of a memory beside its content.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Described {
    /// Where it comes from.
    pub source: Option<String>,
    /// How much it matters, 0 to 1.
    pub importance: Option<f64>,
    /// More metadata, as JSON text that PostgreSQL has read before.
    pub metadata: Option<String>,
}

/// The known key that has a range. Numbers of other keys are passed over, however large.
#[derive(Deserialize)]
struct Known<'a> {
    // As it is written: a value of any depth is read without recursion.
    #[serde(borrow)]
    importance: Option<&'a RawValue>,
}

impl Described {
    /// Checks that the metadata is an object and that an importance, wherever it is given, is
    /// between 0 and 1.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn check(&self) -> Result<()> {
        if let Some(importance) = self.importance {
            check_importance("importance", importance)?;
        }
        let Some(metadata) = &self.metadata else {
            return Ok(());
        };
        if !metadata.starts_with('{') {
            return Err(Error::InvalidArgument {
                argument: "metadata",
                expected: "a JSON object".to_owned(),
                found: kind_of(metadata).to_owned(),
            });
        }
        let known = serde_json::from_str::<Known>(metadata).map(|known| known.importance);
        let Ok(Some(importance)) = known.map(|found| found.map(RawValue::get)) else {
            return Ok(());
        };
        match (kind_of(importance), importance.parse()) {
            ("null", _) => Ok(()),
            ("a number", Ok(number)) => check_importance("importance in metadata", number),
            (kind, _) => Err(importance_error("importance in metadata", kind.to_owned())),
        }
    }

    /// The keys that the arguments give, as JSON text. They win over those of `metadata`.
    pub fn named_keys(&self) -> String {
        let mut keys = Map::new();
        if let Some(source) = &self.source {
            keys.insert("source".to_owned(), Value::from(source.as_str()));
        }
        if let Some(importance) = self.importance {
            keys.insert("importance".to_owned(), Value::from(importance));
        }
        Value::Object(keys).to_string()
    }
}

/// Checks that an importance is between 0 and 1.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023).
pub fn check_importance(argument: &'static str, importance: f64) -> Result<()> {
    let is_valid = (0.0..=1.0).contains(&importance);
    if is_valid { Ok(()) } else { Err(importance_error(argument, importance.to_string())) }
}

fn importance_error(argument: &'static str, found: String) -> Error {
    Error::InvalidArgument { argument, expected: "a number between 0 and 1".to_owned(), found }
}

fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_metadata(metadata: &str) -> Described {
        Described { metadata: Some(metadata.to_owned()), ..Described::default() }
    }

    #[test]
    fn metadata_is_an_object() {
        for metadata in ["{}", r#"{"importance": null}"#, r#"{"importance": 1, "huge": 1e999}"#] {
            assert_eq!(with_metadata(metadata).check(), Ok(()), "{metadata}");
        }
        let huge =
            format!(r#"{{"n": 1{}, "deep": {}1{}}}"#, "0".repeat(400), "[".repeat(500), "]".repeat(500));
        assert_eq!(with_metadata(&huge).check(), Ok(()));
        for metadata in ["[]", "3", "\"x\"", "null", "true"] {
            let error = with_metadata(metadata).check().expect_err(metadata);
            assert_eq!(error.facts().sqlstate, "22023");
            assert!(error.to_string().starts_with("metadata must be a JSON object, not "), "{error}");
        }
    }

    #[test]
    fn importance_is_between_0_and_1() {
        let given = |importance| Described { importance: Some(importance), ..Described::default() };
        for importance in [0.0, 0.5, 1.0] {
            assert_eq!(given(importance).check(), Ok(()));
        }
        for importance in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(given(importance).check().map_err(|error| error.facts().sqlstate), Err("22023"));
        }
        let deep = format!("{}1{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        for importance in ["-1", "1.5", "\"high\"", "true", "1e999", "{}", &deep] {
            let error = with_metadata(&format!(r#"{{"importance": {importance}}}"#)).check();
            assert_eq!(error.map_err(|error| error.facts().sqlstate), Err("22023"), "{importance}");
        }
    }

    #[test]
    fn only_what_is_given_becomes_a_key() {
        assert_eq!(Described::default().named_keys(), "{}");
        let described =
            Described { source: Some("a \"chat\"".into()), importance: Some(0.9), metadata: None };
        assert_eq!(described.named_keys(), r#"{"importance":0.9,"source":"a \"chat\""}"#);
    }
}
