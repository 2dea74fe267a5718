//! The plain Rust loop: the extension's own embedder, run in this process.

use std::path::PathBuf;

use vector_tools_core::embed::batch::plan_batches;
use vector_tools_core::embed::local::DEFAULT_TOKEN_BUDGET;
use vector_tools_core::embed::{Embedder, LocalEmbedder, Purpose};
use vector_tools_core::model::runtime::open_runtime;
use vector_tools_core::model::{Manifest, ModelOptions};

use crate::server::root;

/// The ONNX Runtime library, the one that was installed for the server.
pub fn library() -> PathBuf {
    let ours = || root().join(".local/onnxruntime/libonnxruntime.so");
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(ours, PathBuf::from)
}

/// Loads one of the models in .local.
pub fn load(model: &str, threads: usize) -> LocalEmbedder {
    let runtime = open_runtime(Some(&library()), &[]).expect("ONNX Runtime opens");
    let folder = root().join(".local/models").join(model);
    let manifest = Manifest::read(&folder, &ModelOptions::default()).expect("the model's folder is readable");
    LocalEmbedder::load(runtime, &manifest, threads).expect("the model loads")
}

/// Embeds all texts.
pub fn embed(embedder: &mut LocalEmbedder, texts: &[&str], purpose: Purpose) {
    embedder.embed(texts, purpose, &mut || Ok(())).expect("the texts can be embedded");
}

/// The share of padding among the tokens that run through the model when `texts` are embedded.
pub fn padding(embedder: &LocalEmbedder, texts: &[&str]) -> f64 {
    let length = |text: &&str| embedder.tokenize(text).expect("the text can be tokenized").len();
    let lengths: Vec<usize> = texts.iter().map(length).collect();
    let padded: usize = plan_batches(&lengths, DEFAULT_TOKEN_BUDGET)
        .iter()
        .map(|batch| batch.len() * batch.iter().map(|index| lengths[*index]).max().unwrap_or(0))
        .sum();
    1.0 - lengths.iter().sum::<usize>() as f64 / padded.max(1) as f64
}
