//! The models that were opened, loaded when first used and unloaded, the least recently used first,
//! when memory is short.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vector_tools_core::embed::protocol::ModelStatistics;
use vector_tools_core::embed::{Embedder, LocalEmbedder, Purpose};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::ModelRecord;
use vector_tools_core::model::runtime::open_runtime;
use vector_tools_core::model::session::{Callers, WorkingMemory};

use crate::arguments::Arguments;
use crate::guarded::guarded;
use crate::process;
use crate::statistics::Counters;

/// All models that were ever opened, by what they are.
pub struct Models {
    arguments: Arguments,
    entries: Mutex<HashMap<Vec<u8>, Arc<Entry>>>,
    // One at a time, so that the memory that loading takes can be told.
    loading: Mutex<()>,
    clock: AtomicU64,
}

/// A model that was opened.
pub struct Entry {
    record: ModelRecord,
    source: PathBuf,
    /// The name it was last opened by.
    name: Mutex<String>,
    loaded: Mutex<Option<Loaded>>,
    last_used: AtomicU64,
    counters: Arc<Counters>,
}

#[derive(Clone)]
struct Loaded {
    model: Arc<Model>,
    bytes: u64,
}

/// A loaded model.
pub struct Model {
    embedder: LocalEmbedder,
    /// Whether a text's vector stays the same whatever stands beside it in a batch, so that texts
    /// of several sessions may share one. Models that scale a whole batch's numbers at once, as
    /// dynamic quantisation does, give each session other vectors than alone otherwise.
    shares_batches: bool,
    /// How often memory is still to be given back after a batch for which that is worth it.
    to_give_back: AtomicU32,
    counters: Arc<Counters>,
}

/// The working memory of so many tokens stays, because queries come one after another.
const KEPT_TOKENS: usize = 256;

/// Threads may hold some of it for a moment after their last batch.
const TIMES_GIVEN_BACK: u32 = 5;

/// The most that two runs of one text may differ in a number of its vector.
const SAME_VECTOR: f32 = 1e-5;

impl Models {
    /// No models yet.
    pub fn new(arguments: Arguments) -> Models {
        Models {
            arguments,
            entries: Mutex::default(),
            loading: Mutex::default(),
            clock: AtomicU64::default(),
        }
    }

    /// The entry of a model, new where it was never opened. Models are told apart by what they are
    /// and where, not by name: two databases may use one name for different models.
    pub fn entry(&self, record: &ModelRecord, source: PathBuf) -> Result<Arc<Entry>> {
        let nameless = ModelRecord { name: String::new(), ..record.clone() };
        let key = serde_json::to_vec(&(&nameless, source.as_os_str().as_encoded_bytes()))
            .map_err(|error| Error::ProtocolViolation { reason: error.to_string() })?;
        let mut entries = lock(&self.entries);
        let entry = entries.entry(key).or_insert_with(|| {
            Arc::new(Entry {
                record: record.clone(),
                source,
                name: Mutex::default(),
                loaded: Mutex::default(),
                last_used: AtomicU64::default(),
                counters: Arc::default(),
            })
        });
        lock(&entry.name).clone_from(&record.name);
        Ok(Arc::clone(entry))
    }

    /// The model of an entry, loaded first when it is not. Others wait for the same model, and go on
    /// with those that are loaded.
    ///
    /// # Errors
    /// Those of ONNX Runtime's library and of [`LocalEmbedder::load_registered`], and
    /// [`Error::EmbedderMemory`] (53200).
    pub fn get(&self, entry: &Entry) -> Result<Arc<Model>> {
        entry.last_used.store(self.clock.fetch_add(1, Relaxed) + 1, Relaxed);
        let mut loaded = lock(&entry.loaded);
        if let Some(loaded) = &*loaded {
            return Ok(Arc::clone(&loaded.model));
        }
        let _only_one = lock(&self.loading);
        let result = self.load(entry);
        process::trim_memory();
        let fresh = result?;
        entry.counters.loads.fetch_add(1, Relaxed);
        Ok(Arc::clone(&loaded.insert(fresh).model))
    }

    fn load(&self, entry: &Entry) -> Result<Loaded> {
        let limit = self.arguments.memory_limit;
        let too_large = |needed: u64, limit: u64| Error::EmbedderMemory {
            model: entry.record.name.clone(),
            needed,
            limit,
        };
        if let Some(limit) = limit {
            // At least its weights will be needed.
            let needed = entry.size_of_files()?;
            while process::private_memory() + needed > limit && self.unload_one(entry) {}
            if process::private_memory() + needed > limit {
                return Err(too_large(process::private_memory() + needed, limit));
            }
        }
        let before = process::private_memory();
        let model = guarded(|| Model::load(&self.arguments, entry))?;
        process::trim_memory();
        process::use_large_pages();
        let bytes = process::private_memory().saturating_sub(before);
        if let Some(limit) = limit {
            while process::private_memory() > limit && self.unload_one(entry) {}
            let needed = process::private_memory();
            if needed > limit {
                return Err(too_large(needed, limit));
            }
        }
        Ok(Loaded { model: Arc::new(model), bytes })
    }

    /// Unloads the model that was not used for longest and is not in use now, other than `kept`.
    /// Says whether there was one.
    fn unload_one(&self, kept: &Entry) -> bool {
        let mut entries: Vec<Arc<Entry>> = lock(&self.entries).values().cloned().collect();
        entries.sort_by_key(|entry| entry.last_used.load(Relaxed));
        for entry in entries {
            if std::ptr::eq(&*entry, kept) {
                continue;
            }
            // One that is being loaded is locked.
            let Ok(mut loaded) = entry.loaded.try_lock() else { continue };
            if loaded.as_ref().is_some_and(|loaded| Arc::strong_count(&loaded.model) == 1) {
                *loaded = None;
                process::trim_memory();
                return true;
            }
        }
        false
    }

    /// Unloads models that are not in use until memory is within the limit or none is left.
    pub fn make_room(&self) {
        let Some(limit) = self.arguments.memory_limit else { return };
        // Not while one is being loaded: that makes room for itself.
        let Ok(_only_one) = self.loading.try_lock() else { return };
        let mut entries: Vec<Arc<Entry>> = lock(&self.entries).values().cloned().collect();
        entries.sort_by_key(|entry| entry.last_used.load(Relaxed));
        for entry in entries {
            if process::private_memory() <= limit {
                return;
            }
            if let Ok(mut loaded) = entry.loaded.try_lock()
                && loaded.as_ref().is_some_and(|loaded| Arc::strong_count(&loaded.model) == 1)
            {
                *loaded = None;
                process::trim_memory();
            }
        }
    }

    /// Whether a model is being loaded, which takes more memory than having it.
    pub fn is_loading(&self) -> bool {
        self.loading.try_lock().is_err()
    }

    /// Gives the working memory of models that are not in use back to the system; tells whether there may be some, also
    /// at the end of the heaps of the threads that ran them.
    pub fn give_memory_back(&self) -> bool {
        let mut is_some = false;
        let entries: Vec<Arc<Entry>> = lock(&self.entries).values().cloned().collect();
        for entry in entries {
            let Ok(guard) = entry.loaded.try_lock() else { continue };
            let Some(loaded) = guard.clone() else { continue };
            drop(guard);
            // One for the entry and one here.
            let left = loaded.model.to_give_back.load(Relaxed);
            if Arc::strong_count(&loaded.model) == 2 && left > 0 {
                loaded.model.to_give_back.store(left - 1, Relaxed);
                process::trim_memory();
                is_some = true;
            }
        }
        is_some
    }

    /// The statistics of all models, in the order of their names.
    pub fn statistics(&self) -> Vec<ModelStatistics> {
        let entries: Vec<Arc<Entry>> = lock(&self.entries).values().cloned().collect();
        let mut all: Vec<_> = entries.iter().map(|entry| entry.statistics()).collect();
        all.sort_by(|a, b| (&a.name, &a.sha256).cmp(&(&b.name, &b.sha256)));
        all
    }
}

impl Entry {
    /// The counters, which outlive the loaded model.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn size_of_files(&self) -> Result<u64> {
        let files = vector_tools_core::model::manifest::ModelFiles::locate(
            &self.source,
            self.record.file.as_deref(),
        )?;
        let paths = [Some(&files.onnx), files.weights.as_ref()];
        Ok(paths.into_iter().flatten().filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum())
    }

    fn statistics(&self) -> ModelStatistics {
        // Locked while it is being loaded: it is not loaded then.
        let bytes = self.loaded.try_lock().ok().and_then(|loaded| loaded.as_ref().map(|loaded| loaded.bytes));
        let counters = &self.counters;
        ModelStatistics {
            name: lock(&self.name).clone(),
            sha256: self.record.sha256.clone(),
            dimensions: self.record.dimensions as u32,
            loaded: bytes.is_some(),
            loads: counters.loads.load(Relaxed),
            memory_bytes: bytes.unwrap_or(0),
            requests: counters.requests.load(Relaxed),
            failures: counters.failures.load(Relaxed),
            texts: counters.texts.load(Relaxed),
            batches: counters.batches.load(Relaxed),
            batch_tokens: counters.batch_tokens.load(Relaxed),
            queued: counters.queued.load(Relaxed),
            p50_ms: counters.times.quantile(0.5),
            p99_ms: counters.times.quantile(0.99),
        }
    }
}

impl Model {
    fn load(arguments: &Arguments, entry: &Entry) -> Result<Model> {
        let runtime = open_runtime(arguments.configured_library.as_deref(), &arguments.libraries)?;
        let (record, source) = (&entry.record, &entry.source);
        let embedder = LocalEmbedder::load_registered_for(runtime, record, source, Callers::Many)?;
        let shares_batches = gives_same_vectors_together(&embedder)?;
        let counters = Arc::clone(&entry.counters);
        Ok(Model { embedder, shares_batches, to_give_back: AtomicU32::new(0), counters })
    }

    /// The model itself.
    pub fn embedder(&self) -> &LocalEmbedder {
        &self.embedder
    }

    /// The counters of its entry.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether texts of several requests may run together.
    pub fn shares_batches(&self) -> bool {
        self.shares_batches
    }

    /// The vectors of `sequences`, one after another. Memory that the run worked in is kept for the
    /// next one or given back.
    ///
    /// # Errors
    /// Those of ONNX Runtime.
    pub fn run(&self, sequences: &[&[u32]], memory: WorkingMemory) -> Result<Vec<f32>> {
        let tokens = self.counters.add_batch(sequences.iter().map(|sequence| sequence.len()));
        if tokens > KEPT_TOKENS {
            self.to_give_back.store(TIMES_GIVEN_BACK, Relaxed);
        }
        let vectors = guarded(|| self.embedder.run(sequences, memory));
        if memory == WorkingMemory::GivenBack {
            process::trim_memory();
        }
        vectors
    }
}

fn gives_same_vectors_together(embedder: &LocalEmbedder) -> Result<bool> {
    let short = embedder.sequence("a question", Purpose::Query)?;
    let long =
        embedder.sequence("The answer is longer: 42, but nobody has understood why.", Purpose::Passage)?;
    let alone = embedder.run(&[&short], WorkingMemory::RelationCache)?;
    let together = embedder.run(&[&short, &long], WorkingMemory::RelationCache)?;
    let dimensions = embedder.dimensions();
    let difference = alone.iter().zip(&together[..dimensions]).map(|(a, b)| (a - b).abs());
    Ok(difference.fold(0.0, f32::max) <= SAME_VECTOR)
}

/// Locks, also after a thread that held the lock has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
