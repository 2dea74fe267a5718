//! The models and vectors to test with, where they are.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use serde::Deserialize;
use vector_tools_core::embed::{Embedder, Embeddings, LocalEmbedder, Purpose};
use vector_tools_core::error::Result;
use vector_tools_core::model::runtime::open_runtime;
use vector_tools_core::model::{Manifest, ModelOptions};

/// The model in its original precision.
pub const FP32: &str = "all-MiniLM-L6-v2";
/// The same with quantised weights.
pub const INT8: &str = "all-MiniLM-L6-v2-int8";

/// A text with what sentence-transformers makes of it.
#[derive(Deserialize)]
pub struct Sample {
    pub text: String,
    /// Before truncation.
    pub tokens: usize,
    pub embedding: Vec<f32>,
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A line on the terminal, which the test harness would keep from passing tests.
pub fn say(line: &str) {
    // A closed terminal is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A model of `make check`, or `None` where it was not brought in.
pub fn model(test: &str, name: &str) -> Option<LocalEmbedder> {
    let folder = root().join(".local/models").join(name);
    if !folder.exists() {
        say(&format!("skipped: {test}, because .local/models/{name} is not there (`make check` brings it)"));
        return None;
    }
    Some(load(runtime(test)?, &folder).expect("the model loads"))
}

/// ONNX Runtime, or `None` where it is not.
pub fn runtime(test: &str) -> Option<&'static Environment> {
    let ours = || root().join(".local/onnxruntime/libonnxruntime.so");
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(ours, PathBuf::from);
    if !library.exists() {
        say(&format!("skipped: {test}, because ONNX Runtime is not there (`make check` brings it)"));
        return None;
    }
    Some(open_runtime(Some(&library), &[]).expect("ONNX Runtime opens"))
}

/// Loads the model in `folder`.
pub fn load(runtime: &Environment, folder: &Path) -> Result<LocalEmbedder> {
    LocalEmbedder::load(runtime, &Manifest::read(folder, &ModelOptions::default())?, 1)
}

/// The collections of samples that are there, each with its name.
pub fn collections(test: &str) -> Vec<(&'static str, Vec<Sample>)> {
    let places = [
        ("shared", "../shared/reference/all-MiniLM-L6-v2.jsonl"),
        ("ours", "models/reference/all-MiniLM-L6-v2.jsonl"),
    ];
    let found: Vec<_> = places
        .into_iter()
        .filter_map(|(name, path)| {
            let lines = fs::read_to_string(root().join(path)).ok()?;
            let sample = |line| serde_json::from_str(line).expect("each line is a sample");
            Some((name, lines.lines().map(sample).collect()))
        })
        .collect();
    if found.is_empty() {
        say(&format!("skipped: {test}, because there are no reference vectors"));
    }
    found
}

/// The vectors of passages.
pub fn embed(model: &mut LocalEmbedder, texts: &[&str]) -> Embeddings {
    model.embed(texts, Purpose::Passage, &mut || Ok(())).expect("the texts can be embedded")
}

/// The vector of one passage.
pub fn embed_one(model: &mut LocalEmbedder, text: &str) -> Vec<f32> {
    embed(model, &[text]).vector(0).to_vec()
}

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The largest difference between two numbers in the same place.
pub fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "the vectors have different dimensions");
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}
