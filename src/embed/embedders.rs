//! The embedder of a model, wherever models run: in the embedding process or in this session.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::embed::embedder::connection::SessionConnector;
use crate::kit::paths;
use crate::kit::report::tell;
use crate::kit::waiting::checkpoint;
use crate::model::loading::load_registered;
use crate::model::registry;
use crate::settings;
use crate::settings::EmbedderChoice;
use vector_tools_core::embed::shared::Client;
use vector_tools_core::embed::{Embedder, LocalEmbedder};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::{ModelRecord, TextTokenizer};

/// A model as it was registered when this session looked.
struct Known {
    record: ModelRecord,
    /// The resolved path.
    source: PathBuf,
    /// Its tokenizer, where that was wanted without an embedder.
    tokenizer: RefCell<Option<Arc<TextTokenizer>>>,
}

struct Loaded {
    known: Rc<Known>,
    threads: usize,
    embedder: LocalEmbedder,
}

/// A session that could not have the embedding process tries again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(60);

thread_local! {
    static KNOWN: RefCell<HashMap<String, Rc<Known>>> = RefCell::default();
    /// The changes of the registry that what is known has been compared with.
    static SEEN: Cell<u64> = const { Cell::new(0) };
    // Never dropped when the backend exits: PostgreSQL's memory may be gone before.
    static CLIENT: ManuallyDrop<RefCell<Client<SessionConnector>>> =
        ManuallyDrop::new(RefCell::new(Client::new(SessionConnector::Starting)));
    // Never dropped when the backend exits: ONNX Runtime's own teardown may have run before.
    static LOADED: ManuallyDrop<RefCell<HashMap<String, Loaded>>> = ManuallyDrop::default();
    static TOLD: Cell<bool> = const { Cell::new(false) };
    static FELL_BACK: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Hands the embedder of a registered model to `work`: that of the embedding process or one in this
/// session, as `vector_tools.embedder` says.
///
/// # Errors
/// Those of the registry, of loading, of the embedding process, and of `work`.
pub fn with_embedder<T>(name: &str, work: impl FnOnce(&mut dyn Embedder) -> Result<T>) -> Result<T> {
    checkpoint()?;
    let known = known(name)?;
    let choice = settings::embedder();
    let is_local = match choice {
        EmbedderChoice::Backend => true,
        EmbedderChoice::Shared => false,
        EmbedderChoice::Auto => FELL_BACK.get().is_some_and(|when| when.elapsed() < TRY_AGAIN),
    };
    if is_local {
        return with_local(&known, work);
    }
    with_client(|client| match client.embedder(&known.record, &known.source) {
        Ok(mut embedder) => {
            FELL_BACK.set(None);
            work(&mut embedder)
        }
        // There is no process to be had. One that died is another matter: what killed it could
        // kill this session too, and with it all others.
        Err(Error::EmbedderUnavailable { reason }) if choice == EmbedderChoice::Auto => {
            FELL_BACK.set(Some(Instant::now()));
            if !TOLD.replace(true) {
                tell(&Error::EmbeddingInSession { reason });
            }
            with_local(&known, work)
        }
        Err(error) => Err(error),
    })
}

/// Hands the session's way to the embedding process to `work`.
fn with_client<T>(work: impl FnOnce(&mut Client<SessionConnector>) -> T) -> T {
    CLIENT.with(|client| match client.try_borrow_mut() {
        Ok(mut client) => work(&mut client),
        // A trigger of a table that is written while the process computes the next vectors.
        Err(_) => work(&mut Client::new(SessionConnector::Starting)),
    })
}

/// What this session knows of a registered model.
///
/// # Errors
/// Those of the registry.
pub fn registered(name: &str) -> Result<ModelRecord> {
    Ok(known(name)?.record.clone())
}

/// The tokenizer and the passage prefix of a registered model: the tokenizer of its embedder where
/// this session has loaded one, else one loaded alone.
///
/// # Errors
/// Those of the registry and of [`TextTokenizer::load_registered`].
pub fn passage_tokenizer(name: &str) -> Result<(Arc<TextTokenizer>, String)> {
    let known = known(name)?;
    let prefix = known.record.settings.passage_prefix.clone();
    let mut alone = known.tokenizer.borrow_mut();
    let loaded = LOADED.with(|loaded| Some(loaded.borrow().get(name)?.embedder.tokenizer().clone()));
    if let Some(tokenizer) = loaded {
        *alone = None;
        return Ok((tokenizer, prefix));
    }
    let tokenizer = match alone.take() {
        Some(tokenizer) => tokenizer,
        None => Arc::new(TextTokenizer::load_registered(&known.record, &known.source)?),
    };
    *alone = Some(tokenizer.clone());
    Ok((tokenizer, prefix))
}

/// What the registry says of a model. It is read when this session has not used the model yet, and
/// when the registry has changed.
fn known(name: &str) -> Result<Rc<Known>> {
    let changes = registry::changes();
    if SEEN.get() != changes {
        forget_changed_models();
        // Not before: a look that is cancelled has forgotten nothing.
        SEEN.set(changes);
    }
    if let Some(known) = KNOWN.with_borrow(|known| known.get(name).cloned()) {
        return Ok(known);
    }
    let record = registry::find_model(name)?;
    let source = paths::resolve_source(&record.source);
    let found = Rc::new(Known { record, source, tokenizer: RefCell::default() });
    KNOWN.with_borrow_mut(|known| known.insert(name.to_owned(), found.clone()));
    Ok(found)
}

/// Drops the models whose registration is gone or another one now.
fn forget_changed_models() {
    let names: Vec<String> = KNOWN.with_borrow(|known| known.keys().cloned().collect());
    for name in names {
        let current = registry::find_model(&name).ok();
        KNOWN.with_borrow_mut(|known| {
            if known.get(&name).map(|known| &known.record) != current.as_ref() {
                known.remove(&name);
                LOADED.with(|loaded| loaded.borrow_mut().remove(&name));
            }
        });
    }
}

/// Hands the embedder of a model in this session to `work`, loading it when this session has not
/// used it yet, when it was registered anew since, or when `vector_tools.backend_threads` has changed.
fn with_local<T>(known: &Rc<Known>, work: impl FnOnce(&mut dyn Embedder) -> Result<T>) -> Result<T> {
    LOADED.with(|loaded| {
        let mut loaded = loaded.borrow_mut();
        let threads = settings::backend_threads();
        let name = &known.record.name;
        let is_it = |model: &Loaded| model.threads == threads && Rc::ptr_eq(&model.known, known);
        if !loaded.get(name).is_some_and(is_it) {
            let embedder = load_registered(&known.record, &known.source, threads)?;
            loaded.insert(name.clone(), Loaded { known: known.clone(), threads, embedder });
        }
        match loaded.get_mut(name) {
            Some(model) => {
                model.embedder.set_token_budget(settings::backend_batch_tokens());
                work(&mut model.embedder)
            }
            None => unreachable!("the model was loaded above"),
        }
    })
}
