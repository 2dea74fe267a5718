//! The models loaded into this session.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use ort::environment::Environment;

use super::{paths, registry, settings, signals};
use crate::embedding::LocalEmbedder;
use crate::error::Result;
use crate::model::runtime::open_runtime;
use crate::model::{Manifest, ModelRecord, TextTokenizer};

struct Loaded {
    record: ModelRecord,
    threads: usize,
    embedder: LocalEmbedder,
}

thread_local! {
    // Never dropped when the backend exits: ONNX Runtime's own teardown may have run before.
    static LOADED: ManuallyDrop<RefCell<HashMap<String, Loaded>>> = ManuallyDrop::default();
}

/// Hands the embedder of a registered model to `work`, loading it when this session has not used
/// it yet, when it was registered anew since, or when `vector_tools.threads` has changed.
///
/// # Errors
/// Those of the registry, of loading, and of `work`.
pub fn with_embedder<T>(name: &str, work: impl FnOnce(&mut LocalEmbedder) -> Result<T>) -> Result<T> {
    if registry::take_change() {
        forget_changed_models();
    }
    LOADED.with(|loaded| {
        let mut loaded = loaded.borrow_mut();
        let threads = settings::threads();
        if loaded.get(name).is_none_or(|model| model.threads != threads) {
            let record = registry::find_model(name)?;
            let source = paths::resolve_source(&record.source);
            let embedder = signals::with_signals_blocked(|| {
                LocalEmbedder::load_registered(environment()?, &record, &source, threads)
            })?;
            loaded.insert(name.to_owned(), Loaded { record, threads, embedder });
        }
        match loaded.get_mut(name) {
            Some(model) => {
                model.embedder.set_token_budget(settings::batch_tokens());
                work(&mut model.embedder)
            }
            None => unreachable!("the model was loaded above"),
        }
    })
}

/// The tokenizer and the passage prefix of a model, where this session has it loaded.
pub fn loaded_tokenizer(name: &str) -> Option<(Arc<TextTokenizer>, String)> {
    if registry::take_change() {
        forget_changed_models();
    }
    LOADED.with(|loaded| {
        let loaded = loaded.borrow();
        let model = loaded.get(name)?;
        Some((model.embedder.tokenizer(), model.record.settings.passage_prefix.clone()))
    })
}

/// Loads a model that is about to be registered, to probe it.
///
/// # Errors
/// Those of [`LocalEmbedder::load`].
pub fn load_for_registration(manifest: &Manifest) -> Result<LocalEmbedder> {
    signals::with_signals_blocked(|| LocalEmbedder::load(environment()?, manifest, 1))
}

/// The interrupts of the backend, taken between batches: cancel, statement_timeout, shutdown.
pub fn check_interrupts() -> Result<()> {
    pgrx::check_for_interrupts!();
    Ok(())
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

/// Drops the models whose registration is gone or another one now.
fn forget_changed_models() {
    let names: Vec<String> = LOADED.with(|loaded| loaded.borrow().keys().cloned().collect());
    for name in names {
        let current = registry::find_model(&name).ok();
        LOADED.with(|loaded| {
            let mut loaded = loaded.borrow_mut();
            if loaded.get(&name).map(|model| &model.record) != current.as_ref() {
                loaded.remove(&name);
            }
        });
    }
}
