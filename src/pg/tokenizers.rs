//! The tokenizers of models, for work that needs no vectors: a session that only chunks texts loads
//! no ONNX graph.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use super::{embedders, paths, registry};
use crate::chunking::PassageTokens;
use crate::error::Result;
use crate::model::{ModelRecord, TextTokenizer};

thread_local! {
    static LOADED: RefCell<HashMap<String, Loaded>> = RefCell::default();
    static SEEN_CHANGES: Cell<u64> = const { Cell::new(0) };
}

struct Loaded {
    record: ModelRecord,
    tokenizer: Arc<TextTokenizer>,
}

/// A model's tokenizer with what the model puts before passages.
pub struct PassageTokenizer {
    tokenizer: Arc<TextTokenizer>,
    prefix: String,
}

impl PassageTokenizer {
    /// The tokens of the model's passages.
    pub fn tokens(&self) -> PassageTokens<'_> {
        PassageTokens { tokenizer: &self.tokenizer, prefix: &self.prefix }
    }
}

/// The tokenizer of a registered model: that of its embedder where this session has loaded one,
/// else one loaded alone, again when the model was registered anew since.
///
/// # Errors
/// Those of the registry and of [`TextTokenizer::load_registered`].
pub fn passage_tokenizer(name: &str) -> Result<PassageTokenizer> {
    forget_changed_models();
    if let Some((tokenizer, prefix)) = embedders::loaded_tokenizer(name) {
        LOADED.with_borrow_mut(|loaded| loaded.remove(name));
        return Ok(PassageTokenizer { tokenizer, prefix });
    }
    let found = LOADED.with_borrow(|loaded| loaded.get(name).map(handle));
    if let Some(found) = found {
        return Ok(found);
    }
    let record = registry::find_model(name)?;
    let tokenizer = TextTokenizer::load_registered(&record, &paths::resolve_source(&record.source))?;
    let model = Loaded { record, tokenizer: Arc::new(tokenizer) };
    let found = handle(&model);
    LOADED.with_borrow_mut(|loaded| loaded.insert(name.to_owned(), model));
    Ok(found)
}

fn handle(model: &Loaded) -> PassageTokenizer {
    PassageTokenizer {
        tokenizer: model.tokenizer.clone(),
        prefix: model.record.settings.passage_prefix.clone(),
    }
}

/// Drops the tokenizers whose registration is gone or another one now.
fn forget_changed_models() {
    let changes = registry::changes();
    if SEEN_CHANGES.replace(changes) == changes {
        return;
    }
    let names: Vec<String> = LOADED.with_borrow(|loaded| loaded.keys().cloned().collect());
    for name in names {
        let current = registry::find_model(&name).ok();
        LOADED.with_borrow_mut(|loaded| {
            if loaded.get(&name).map(|model| &model.record) != current.as_ref() {
                loaded.remove(&name);
            }
        });
    }
}
