//! Models that run in this session.

use std::path::Path;

use ort::environment::Environment;

use crate::kit::{paths, signals};
use crate::settings;
use vector_tools_core::embed::LocalEmbedder;
use vector_tools_core::error::Result;
use vector_tools_core::model::runtime::open_runtime;
use vector_tools_core::model::{Manifest, ModelRecord};

/// Loads a model that is about to be registered, to probe it.
///
/// # Errors
/// Those of [`LocalEmbedder::load`].
pub fn load_for_registration(manifest: &Manifest) -> Result<LocalEmbedder> {
    signals::with_signals_blocked(|| LocalEmbedder::load(environment()?, manifest, 1))
}

/// Loads a registered model, which lies at `source`.
///
/// # Errors
/// Those of [`LocalEmbedder::load_registered`].
pub fn load_registered(record: &ModelRecord, source: &Path, threads: usize) -> Result<LocalEmbedder> {
    signals::with_signals_blocked(|| LocalEmbedder::load_registered(environment()?, record, source, threads))
}

fn environment() -> Result<&'static Environment> {
    forbid_usage_reports();
    open_runtime(settings::onnxruntime_library().as_deref(), &paths::runtime_libraries())
}

/// Official builds of ONNX Runtime send usage reports from a thread and keep them in a data base in
/// the home folder, from the moment the library starts; its interface for that comes too late.
fn forbid_usage_reports() {
    // SAFETY: a backend has no other thread before ONNX Runtime is open, and afterwards the
    // variable is set already.
    unsafe {
        if std::env::var_os("ORT_DISABLE_TELEMETRY").is_none() {
            std::env::set_var("ORT_DISABLE_TELEMETRY", "1");
        }
    }
}
