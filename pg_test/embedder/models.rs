//! The models to test with, where they are, registered as a database would.

use std::io::Write;
use std::path::{Path, PathBuf};

use vector_tools_core::embed::{Embedder, LocalEmbedder};
use vector_tools_core::model::runtime::open_runtime;
use vector_tools_core::model::{Manifest, ModelOptions, ModelRecord};

/// The model in its original precision.
pub const FP32: &str = "all-MiniLM-L6-v2";
/// The same with quantised weights.
pub const INT8: &str = "all-MiniLM-L6-v2-int8";

/// A model, what a registry would hold of it, and the library that runs it.
pub struct Registered {
    pub record: ModelRecord,
    pub source: PathBuf,
    pub library: PathBuf,
}

/// A model of `make check`, or `None` where it was not brought in.
pub fn registered(test: &str, name: &str) -> Option<Registered> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let source = root.join(".local/models").join(name);
    let ours = || root.join(".local/onnxruntime/libonnxruntime.so");
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(ours, PathBuf::from);
    if !source.exists() || !library.exists() {
        // The test harness would keep it from passing tests.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {test}, because {name} or ONNX Runtime is not there (`make check` brings them)"
        );
        return None;
    }
    let record = record_of(name, &source, &library);
    Some(Registered { record, source, library })
}

/// What a registry would hold of the model at `source`.
pub fn record_of(name: &str, source: &Path, library: &Path) -> ModelRecord {
    let manifest = Manifest::read(source, &ModelOptions::default()).expect("the model is complete");
    let runtime = open_runtime(Some(library), &[]).expect("ONNX Runtime opens");
    let model = LocalEmbedder::load(runtime, &manifest, 1).expect("the model loads");
    ModelRecord {
        name: name.to_owned(),
        provider: "onnx".to_owned(),
        source: source.display().to_string(),
        file: None,
        sha256: model.fingerprints().model.clone(),
        tokenizer_sha256: model.fingerprints().tokenizer.clone(),
        dimensions: model.dimensions(),
        settings: manifest.settings,
    }
}

impl Registered {
    /// The same model in this process.
    pub fn local(&self, threads: usize) -> LocalEmbedder {
        let runtime = open_runtime(Some(&self.library), &[]).expect("ONNX Runtime opens");
        LocalEmbedder::load_registered(runtime, &self.record, &self.source, threads).expect("the model loads")
    }
}
