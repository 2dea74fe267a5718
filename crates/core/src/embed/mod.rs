//! From texts to vectors: the embedders, and how texts are batched for them.

pub mod batch;
pub mod embedding_cache;
pub mod local;
pub mod lock_file;
pub mod protocol;
pub mod shared;
pub mod supervision;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::manifest::EncodingSettings;

pub use local::LocalEmbedder;
pub use shared::SharedEmbedder;

/// What a text is embedded for; some models put a different prefix before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A text to be stored and found.
    Passage,
    /// A question to find passages with.
    Query,
}

impl Purpose {
    /// What a model puts before such texts.
    pub fn prefix(self, settings: &EncodingSettings) -> &str {
        match self {
            Purpose::Passage => &settings.passage_prefix,
            Purpose::Query => &settings.query_prefix,
        }
    }
}

/// Vectors of equal dimensions, in the order of the texts they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    values: Vec<f32>,
    dimensions: usize,
}

impl Embeddings {
    /// Room for `count` vectors of `dimensions` numbers, all zero.
    pub fn zeroed(count: usize, dimensions: usize) -> Embeddings {
        Embeddings { values: vec![0.0; count * dimensions], dimensions }
    }

    /// The vector of the text at `index`.
    pub fn vector(&self, index: usize) -> &[f32] {
        &self.values[index * self.dimensions..][..self.dimensions]
    }

    /// All vectors in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimensions.max(1))
    }

    fn set(&mut self, index: usize, vector: &[f32]) {
        self.values[index * self.dimensions..][..self.dimensions].copy_from_slice(vector);
    }

    /// Sets `count` vectors from `start` on from the bytes of little-endian numbers.
    fn set_bytes(&mut self, start: usize, count: usize, bytes: &[u8]) -> Result<()> {
        let values = &mut self.values[start * self.dimensions..][..count * self.dimensions];
        if bytes.len() != size_of_val(values) {
            let reason =
                format!("{} bytes for {count} vectors of {} dimensions", bytes.len(), self.dimensions);
            return Err(Error::ProtocolViolation { reason });
        }
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// Called between pieces of long work; an error stops the work and is handed to the caller.
pub type Checkpoint<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Called with the vectors so far, and with how many of the texts have theirs; an error stops the work.
pub type Arrival<'a> = &'a mut dyn FnMut(&Embeddings, usize) -> Result<()>;

/// Something that turns texts into vectors: a model in this process, in a shared one, or remote.
pub trait Embedder {
    /// The number of dimensions of every vector.
    fn dimensions(&self) -> usize;

    /// The vectors of `texts`, in their order; the same text gives the same vector whatever
    /// stands beside it (to about 1e-6 for fp32 models).
    ///
    /// # Errors
    /// [`crate::error::Error::InferenceFailed`] (38000), and whatever `checkpoint` gives.
    fn embed(&mut self, texts: &[&str], purpose: Purpose, checkpoint: Checkpoint) -> Result<Embeddings>;

    /// Like [`embed`](Self::embed), and lets the caller use what is there while the rest is computed: `arrival` is
    /// called now and then, with ever more texts, though never with all of them.
    ///
    /// # Errors
    /// Those of [`embed`](Self::embed), and whatever `arrival` gives.
    fn embed_in_parts(
        &mut self,
        texts: &[&str],
        purpose: Purpose,
        checkpoint: Checkpoint,
        _arrival: Arrival,
    ) -> Result<Embeddings> {
        self.embed(texts, purpose, checkpoint)
    }

    /// The number of tokens of `text` before truncation, special tokens included.
    ///
    /// # Errors
    /// [`crate::error::Error::InferenceFailed`] (38000), and whatever `checkpoint` gives.
    fn count_tokens(&mut self, text: &str, checkpoint: Checkpoint) -> Result<usize>;
}
