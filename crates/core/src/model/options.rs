//! The options of `register_model`, which override what the model's folder says.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Pooling;

/// The most bytes of the options, their prefixes included.
pub const MOST_BYTES: usize = 65_536;

/// What a person may say about a model beside its folder. Every part is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelOptions {
    /// The ONNX file inside the folder, such as `onnx/model_quantized.onnx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The output of the ONNX graph to read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// How token vectors become one vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Whether vectors are scaled to unit length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The longest input in tokens, special tokens included; longer texts are truncated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Put before every query by `embed_query`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_prefix: Option<String>,
    /// Put before every passage by `embed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passage_prefix: Option<String>,
}

impl ModelOptions {
    /// Reads the options from JSON.
    ///
    /// # Errors
    /// [`Error::InvalidModelOptions`] (22023) for an unknown option, a wrong type, a value out
    /// of range, or more than [`MOST_BYTES`]. No option is an object or an array, so that nothing nests.
    pub fn from_json(json: &str) -> Result<ModelOptions> {
        if json.len() > MOST_BYTES {
            let reason = format!("they have {} bytes, and at most {MOST_BYTES} are allowed", json.len());
            return Err(Error::InvalidModelOptions { reason });
        }
        let options: ModelOptions = serde_json::from_str(json)
            .map_err(|error| Error::InvalidModelOptions { reason: error.to_string() })?;
        match options.max_tokens {
            Some(tokens) if !(8..=1_000_000).contains(&tokens) => Err(Error::InvalidModelOptions {
                reason: format!("max_tokens must be between 8 and 1000000, not {tokens}"),
            }),
            _ => Ok(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_options_are_read() {
        let options = ModelOptions::from_json(r#"{"pooling": "cls", "max_tokens": 128}"#);
        let options = options.expect("valid");
        assert_eq!(options.pooling, Some(Pooling::Cls));
        assert_eq!(options.max_tokens, Some(128));
    }

    #[test]
    fn unknown_options_and_bad_values_are_refused() {
        for json in [r#"{"poling": "cls"}"#, r#"{"pooling": "sum"}"#, r#"{"max_tokens": 0}"#, "3"] {
            assert!(ModelOptions::from_json(json).is_err(), "{json}");
        }
    }

    #[test]
    fn their_size_and_depth_are_bounded() {
        let state = |json: String| ModelOptions::from_json(&json).map_err(|error| error.facts().sqlstate);
        let prefix = |bytes: usize| format!(r#"{{"query_prefix":"{}"}}"#, "x".repeat(bytes - 19));
        assert!(state(prefix(MOST_BYTES)).is_ok());
        for more in [1, 1_000_000] {
            assert_eq!(state(prefix(MOST_BYTES + more)), Err("22023"));
        }
        for depth in [1, 127, 128, 30_000, 1_000_000] {
            let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(state(format!(r#"{{"file":{deep}}}"#)), Err("22023"));
            assert_eq!(state(format!(r#"{{"other":{deep}}}"#)), Err("22023"));
            assert_eq!(state(deep), Err("22023"));
        }
        for number in ["1e999", "1e-999", "-1e999", "123456789012345678901234567890"] {
            assert_eq!(state(format!(r#"{{"id": {number}}}"#)), Err("22023"));
            assert_eq!(state(format!(r#"{{"max_tokens": {number}}}"#)), Err("22023"));
        }
    }
}
