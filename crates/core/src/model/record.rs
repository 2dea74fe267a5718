//! What the registry keeps about a model, so that it never changes under its name.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::manifest::EncodingSettings;

/// The only provider: a model that ONNX Runtime runs on this server.
pub const ONNX_PROVIDER: &str = "onnx";

/// A registered model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The name that `embed` takes.
    pub name: String,
    /// Who computes the vectors, [`ONNX_PROVIDER`].
    pub provider: String,
    /// Folder or ONNX file; relative ones are looked up in `vector_tools.model_directory`.
    pub source: String,
    /// The ONNX file inside the folder, when the options named one.
    pub file: Option<String>,
    /// The sha256 of the ONNX file, 64 hexadecimal digits.
    pub sha256: String,
    /// The sha256 of `tokenizer.json`.
    pub tokenizer_sha256: String,
    /// The number of dimensions of its vectors.
    pub dimensions: usize,
    /// How a text becomes a vector.
    pub settings: EncodingSettings,
}

impl ModelRecord {
    /// Checks that a file of the model is the one that was registered.
    ///
    /// # Errors
    /// [`Error::FileChanged`] (XX001).
    pub fn check_sha256(&self, path: &Path, registered: &str, found: &str) -> Result<()> {
        if registered == found {
            return Ok(());
        }
        Err(Error::FileChanged {
            model: self.name.clone(),
            path: path.to_owned(),
            registered: registered.to_owned(),
            found: found.to_owned(),
        })
    }
}
