//! The embedder that runs a model in this very process.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use ort::environment::Environment;

use crate::embed::batch::plan_batches;
use crate::embed::{Checkpoint, Embedder, Embeddings, Purpose};
use crate::error::{Error, Result};
use crate::model::fingerprint::{read_graph_with_sha256, read_with_sha256};
use crate::model::manifest::{EncodingSettings, ModelFiles};
use crate::model::session::{Callers, WorkingMemory};
use crate::model::{EncoderSession, Manifest, ModelRecord, TextTokenizer};

/// Texts tokenized and held at once; bounds memory for arrays of any size.
const WINDOW_TEXTS: usize = 4096;

/// The identity of the files a model was loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprints {
    /// The sha256 of the ONNX file.
    pub model: String,
    /// The sha256 of `tokenizer.json`.
    pub tokenizer: String,
    /// The size of the ONNX file in bytes.
    pub bytes: usize,
}

/// A model loaded into this process.
pub struct LocalEmbedder {
    tokenizer: Arc<TextTokenizer>,
    session: EncoderSession,
    settings: EncodingSettings,
    fingerprints: Fingerprints,
    token_budget: usize,
}

impl LocalEmbedder {
    /// Loads the model that `manifest` describes, to run on `threads` threads.
    ///
    /// # Errors
    /// Those of reading its files and of [`EncoderSession::load`], and
    /// [`Error::UnsupportedModule`] (0A000).
    pub fn load(environment: &Environment, manifest: &Manifest, threads: usize) -> Result<LocalEmbedder> {
        let embedder = load_files(
            environment,
            &manifest.files,
            &manifest.settings,
            Callers::One { threads },
            |_, _, _| Ok(()),
        )?;
        match &manifest.unsupported_module {
            Some(module) if !embedder.session.pools_itself() => {
                Err(Error::UnsupportedModule { module: module.clone() })
            }
            _ => Ok(embedder),
        }
    }

    /// Loads a registered model from `source`, its resolved path, after checking that its files
    /// are the registered ones.
    ///
    /// # Errors
    /// Those of [`LocalEmbedder::load`], [`Error::FileChanged`] (XX001), and
    /// [`Error::WrongDimensions`] (22000).
    pub fn load_registered(
        environment: &Environment,
        record: &ModelRecord,
        source: &Path,
        threads: usize,
    ) -> Result<LocalEmbedder> {
        LocalEmbedder::load_registered_for(environment, record, source, Callers::One { threads })
    }

    /// Loads a registered model like [`load_registered`](Self::load_registered), to be run by
    /// `callers` with [`run`](Self::run).
    ///
    /// # Errors
    /// Those of [`load_registered`](Self::load_registered).
    pub fn load_registered_for(
        environment: &Environment,
        record: &ModelRecord,
        source: &Path,
        callers: Callers,
    ) -> Result<LocalEmbedder> {
        let files = ModelFiles::locate(source, record.file.as_deref())?;
        let check = |path: &Path, role: &str, found: &str| {
            let registered = if role == TOKENIZER { &record.tokenizer_sha256 } else { &record.sha256 };
            record.check_sha256(path, registered, found)
        };
        let embedder = load_files(environment, &files, &record.settings, callers, check)?;
        if embedder.dimensions() == record.dimensions {
            Ok(embedder)
        } else {
            Err(Error::WrongDimensions {
                expected: record.dimensions,
                found: embedder.dimensions(),
                subject: format!("model \"{}\" gives other vectors than at registration", record.name),
            })
        }
    }

    /// Sets how many tokens, padding included, run through the model at once.
    pub fn set_token_budget(&mut self, tokens: usize) {
        self.token_budget = tokens;
    }

    /// The identity of the loaded files.
    pub fn fingerprints(&self) -> &Fingerprints {
        &self.fingerprints
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<TextTokenizer> {
        &self.tokenizer
    }

    /// The token ids the model would see for `text`, truncated, without any prefix.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000).
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text)
    }

    /// The token ids the model sees for `text` and its prefix, truncated.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000).
    pub fn sequence(&self, text: &str, purpose: Purpose) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.prefixed(text, purpose))
    }

    /// The vectors of `sequences`, none of them empty, one after another; for several threads at
    /// once.
    ///
    /// # Errors
    /// Those of [`EncoderSession::run`].
    pub fn run(&self, sequences: &[&[u32]], memory: WorkingMemory) -> Result<Vec<f32>> {
        self.session.run(sequences, memory)
    }

    fn prefixed<'a>(&self, text: &'a str, purpose: Purpose) -> Cow<'a, str> {
        let prefix = purpose.prefix(&self.settings);
        if prefix.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(format!("{prefix}{text}")) }
    }
}

impl Embedder for LocalEmbedder {
    fn dimensions(&self) -> usize {
        self.session.dimensions()
    }

    fn embed(&mut self, texts: &[&str], purpose: Purpose, checkpoint: Checkpoint) -> Result<Embeddings> {
        let mut embeddings = Embeddings::zeroed(texts.len(), self.dimensions());
        for (window, part) in texts.chunks(WINDOW_TEXTS).enumerate() {
            let mut sequences = Vec::with_capacity(part.len());
            for text in part {
                checkpoint()?;
                sequences.push(self.sequence(text, purpose)?);
            }
            let lengths: Vec<usize> = sequences.iter().map(Vec::len).collect();
            let batches = plan_batches(&lengths, self.token_budget);
            for (number, batch) in batches.iter().enumerate() {
                checkpoint()?;
                let chosen: Vec<&[u32]> = batch.iter().map(|index| sequences[*index].as_slice()).collect();
                let is_last = number + 1 == batches.len();
                let vectors = self.session.run(&chosen, memory_after(is_last, &lengths))?;
                for (index, vector) in batch.iter().zip(vectors.chunks_exact(self.dimensions())) {
                    embeddings.set(window * WINDOW_TEXTS + index, vector);
                }
            }
        }
        Ok(embeddings)
    }

    fn count_tokens(&mut self, text: &str, checkpoint: Checkpoint) -> Result<usize> {
        self.tokenizer.count(text, checkpoint)
    }
}

/// Queries and short passages come one after another; the working memory of longer work is worth
/// more to others once it is done.
fn memory_after(is_last_batch: bool, lengths: &[usize]) -> WorkingMemory {
    let is_long = lengths.iter().sum::<usize>() > KEPT_MEMORY_TOKENS;
    if is_last_batch && is_long { WorkingMemory::GivenBack } else { WorkingMemory::RelationCache }
}

/// Work of so many tokens may keep its memory in the session.
const KEPT_MEMORY_TOKENS: usize = 256;

/// How many tokens run through a model at once unless set otherwise. Larger batches were no
/// faster on a CPU (docs/benchmarks.md), and a cancel request waits for the batch under way.
pub const DEFAULT_TOKEN_BUDGET: usize = 2048;

const TOKENIZER: &str = "tokenizer";
const GRAPH: &str = "ONNX graph";

fn load_files(
    environment: &Environment,
    files: &ModelFiles,
    settings: &EncodingSettings,
    callers: Callers,
    check: impl Fn(&Path, &str, &str) -> Result<()>,
) -> Result<LocalEmbedder> {
    let (json, tokenizer_sha256) = read_with_sha256(&files.tokenizer, TOKENIZER)?;
    check(&files.tokenizer, TOKENIZER, &tokenizer_sha256)?;
    let tokenizer = TextTokenizer::from_json(&json, settings.max_tokens)
        .map_err(|reason| Error::TokenizerCorrupt { path: files.tokenizer.clone(), reason })?;
    let (bytes, sha256) = read_graph_with_sha256(&files.onnx, files.weights.as_deref())?;
    check(&files.onnx, GRAPH, &sha256)?;
    let probe = tokenizer.encode("a")?;
    let session = EncoderSession::load(environment, files, &bytes, settings, callers, &probe)?;
    Ok(LocalEmbedder {
        tokenizer: Arc::new(tokenizer),
        session,
        settings: settings.clone(),
        fingerprints: Fingerprints { model: sha256, tokenizer: tokenizer_sha256, bytes: bytes.len() },
        token_budget: DEFAULT_TOKEN_BUDGET,
    })
}
