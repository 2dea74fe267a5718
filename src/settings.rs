//! The settings of the extension.

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use vector_tools_core::embed::local::DEFAULT_TOKEN_BUDGET;

/// Where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum EmbedderChoice {
    /// In the embedding process when it can be had, else in the session.
    #[name = c"auto"]
    Auto,
    /// In the embedding process.
    #[name = c"shared"]
    Shared,
    /// In the session.
    #[name = c"backend"]
    Backend,
}

static DEFAULT_MODEL: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"all-MiniLM-L6-v2"));
static DEFAULT_DOMAIN: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"default"));
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(1);
static BATCH_TOKENS: GucSetting<i32> = GucSetting::<i32>::new(DEFAULT_TOKEN_BUDGET as i32);
static EMBEDDER: GucSetting<EmbedderChoice> = GucSetting::<EmbedderChoice>::new(EmbedderChoice::Auto);
static EMBEDDER_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static EMBEDDER_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
static EMBEDDER_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(600);
static EMBEDDER_PROGRAM: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static AUTO_REFRESH_STATISTICS: GucSetting<bool> = GucSetting::<bool>::new(true);
static USE_BM25_INDEX: GucSetting<bool> = GucSetting::<bool>::new(true);
static CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(64);
static NAMESPACE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static LOG_SEARCHES: GucSetting<bool> = GucSetting::<bool>::new(false);
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(2);
static WORKER_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5);
static WORKER_BATCH_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60);
static STATISTICS_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(120);
static ONNXRUNTIME_LIBRARY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MODEL_DIRECTORY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// Tokens of 32 long texts. A token takes some 25 kB while a model runs, and anybody may ask for this.
const MOST_BATCH_TOKENS: i32 = 16_384;

/// Defines the settings and reserves the prefix `vector_tools`.
pub fn define() {
    GucRegistry::define_string_guc(
        c"vector_tools.default_model",
        c"Model that embed() and embed_query() use when none is named.",
        c"A name from vector_tools.models.",
        &DEFAULT_MODEL,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"vector_tools.default_domain",
        c"Domain of memories that is meant when none is named.",
        c"Its table is found through search_path, as that of any domain.",
        &DEFAULT_DOMAIN,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_tools.backend_threads",
        c"Threads that run a model inside a session.",
        c"One means the session's own thread; more are started at the first embedding. A change loads the model again. The embedding process has its own number.",
        &THREADS,
        1,
        64,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_tools.backend_batch_tokens",
        c"Tokens, padding included, that run through a model at once.",
        c"A statement can be cancelled between batches; larger batches need more memory.",
        &BATCH_TOKENS,
        16,
        MOST_BATCH_TOKENS,
        GucContext::Userset,
        GucFlags::default(),
    );
    define_embedder();
    define_workers();
    define_statistics_timeout();
    GucRegistry::define_bool_guc(
        c"vector_tools.auto_refresh_statistics",
        c"Whether searches start a background worker that renews outdated statistics of a table.",
        c"Without it they are as old as the last refresh_search_stats().",
        &AUTO_REFRESH_STATISTICS,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"vector_tools.use_bm25_index",
        c"Whether the keyword leg uses a bm25 index of pg_textsearch where a table has one.",
        c"Otherwise the scores come from the tsvector column and its GIN index.",
        &USE_BM25_INDEX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_tools.embedding_cache_size",
        c"Size of the cache in which jobs find the embeddings of texts that they embedded before.",
        c"Those that were not used for longest make room for others. Zero: nothing is looked up or kept.",
        &CACHE_SIZE,
        0,
        i32::MAX / 1024,
        GucContext::Suset,
        GucFlags::UNIT_MB,
    );
    // Read by the policies of isolate_namespaces alone.
    GucRegistry::define_string_guc(
        c"vector_tools.namespace",
        c"Namespace whose rows the session sees in tables that isolate_namespaces set apart.",
        c"Empty: none.",
        &NAMESPACE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"vector_tools.log_searches",
        c"Whether search_embeddings writes what it was asked into the store's vector_search_logs.",
        c"Nothing is written in a read-only transaction or on a standby.",
        &LOG_SEARCHES,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"vector_tools.onnxruntime_library",
        c"Full path of the ONNX Runtime library.",
        c"Empty: vector_tools/libonnxruntime.so in the server's library folder, else the system's own. Takes effect in sessions that have not embedded yet.",
        &ONNXRUNTIME_LIBRARY,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"vector_tools.model_directory",
        c"Folder in which relative sources of models are looked up.",
        c"Empty: vector_tools/models in the server's share folder.",
        &MODEL_DIRECTORY,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    reserve_prefix(c"vector_tools");
}

/// Where models run, and what the embedding process may use.
fn define_embedder() {
    GucRegistry::define_enum_guc(
        c"vector_tools.embedder",
        c"Where models run: in the embedding process that all sessions share, or in the session.",
        c"With auto it is the embedding process where that can be had, else the session, which says so once.",
        &EMBEDDER,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_tools.embedder_threads",
        c"Threads of the embedding process that run models.",
        c"Zero: as many as the machine has cores.",
        &EMBEDDER_THREADS,
        0,
        1024,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_tools.embedder_memory_limit",
        c"Memory that the embedding process may use.",
        c"Models that were not used for longest make room for others. Zero: no limit.",
        &EMBEDDER_MEMORY_LIMIT,
        0,
        i32::MAX / 1024,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
    );
    GucRegistry::define_int_guc(
        c"vector_tools.embedder_idle_timeout",
        c"Time without a request after which the embedding process ends.",
        c"The next request starts it again. Zero: it stays until the server stops.",
        &EMBEDDER_IDLE_TIMEOUT,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_string_guc(
        c"vector_tools.embedder_program",
        c"Full path of the embedding process's executable.",
        c"Empty: vector_tools/vector_tools_embedder in the server's library folder.",
        &EMBEDDER_PROGRAM,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
}

/// The workers that embed what is queued.
fn define_workers() {
    GucRegistry::define_int_guc(
        c"vector_tools.max_workers",
        c"Background workers of the whole cluster that embed queued rows at once.",
        c"One for each database that has some. Zero: none, and run_embedding_jobs() embeds them.",
        &MAX_WORKERS,
        0,
        256,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"vector_tools.worker_idle_timeout",
        c"Time for which a worker waits for more rows before it ends.",
        c"While another database waits for a worker it ends at once.",
        &WORKER_IDLE_TIMEOUT,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"vector_tools.worker_batch_timeout",
        c"Time after which a worker gives a batch up.",
        c"Its rows have failed once, and are tried in smaller batches. Zero: never.",
        &WORKER_BATCH_TIMEOUT,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

/// The worker that counts words.
fn define_statistics_timeout() {
    GucRegistry::define_int_guc(
        c"vector_tools.statistics_timeout",
        c"Time after which a worker gives up counting the words of a table.",
        c"Searches go on with the last counts, or estimate them. Zero: never.",
        &STATISTICS_TIMEOUT,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

fn reserve_prefix(prefix: &CStr) {
    // SAFETY: a valid C string that PostgreSQL copies.
    unsafe { pgrx::pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// `vector_tools.default_model`
pub fn default_model() -> String {
    text(&DEFAULT_MODEL).unwrap_or_default()
}

/// `vector_tools.default_domain`
pub fn default_domain() -> String {
    text(&DEFAULT_DOMAIN).unwrap_or_default()
}

/// `vector_tools.backend_threads`
pub fn backend_threads() -> usize {
    THREADS.get().max(1) as usize
}

/// `vector_tools.backend_batch_tokens`
pub fn backend_batch_tokens() -> usize {
    BATCH_TOKENS.get().max(1) as usize
}

/// `vector_tools.embedder`
pub fn embedder() -> EmbedderChoice {
    EMBEDDER.get()
}

/// `vector_tools.embedder_threads`, as many as cores when not set.
pub fn embedder_threads() -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    usize::try_from(EMBEDDER_THREADS.get()).ok().filter(|threads| *threads > 0).unwrap_or_else(cores)
}

/// `vector_tools.embedder_memory_limit` in megabytes, 0 for none.
pub fn embedder_memory_limit() -> usize {
    EMBEDDER_MEMORY_LIMIT.get().max(0) as usize
}

/// `vector_tools.embedder_idle_timeout` in seconds, 0 for never.
pub fn embedder_idle_timeout() -> usize {
    EMBEDDER_IDLE_TIMEOUT.get().max(0) as usize
}

/// `vector_tools.embedder_program`, when set.
pub fn embedder_program() -> Option<PathBuf> {
    text(&EMBEDDER_PROGRAM).map(PathBuf::from)
}

/// `vector_tools.max_workers`
pub fn max_workers() -> u32 {
    MAX_WORKERS.get().max(0) as u32
}

/// `vector_tools.worker_idle_timeout`
pub fn worker_idle_timeout() -> Duration {
    Duration::from_secs(WORKER_IDLE_TIMEOUT.get().max(0) as u64)
}

/// `vector_tools.worker_batch_timeout`, when there is a limit.
pub fn worker_batch_timeout() -> Option<Duration> {
    let seconds = WORKER_BATCH_TIMEOUT.get().max(0) as u64;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// `vector_tools.statistics_timeout`, when there is a limit.
pub fn statistics_timeout() -> Option<Duration> {
    let seconds = STATISTICS_TIMEOUT.get().max(0) as u64;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// `vector_tools.auto_refresh_statistics`
pub fn auto_refresh_statistics() -> bool {
    AUTO_REFRESH_STATISTICS.get()
}

/// `vector_tools.use_bm25_index`
pub fn use_bm25_index() -> bool {
    USE_BM25_INDEX.get()
}

/// `vector_tools.embedding_cache_size` in megabytes, 0 for none.
pub fn cache_megabytes() -> usize {
    CACHE_SIZE.get().max(0) as usize
}

/// `vector_tools.log_searches`
pub fn log_searches() -> bool {
    LOG_SEARCHES.get()
}

/// `vector_tools.namespace`, when set.
pub fn namespace() -> Option<String> {
    text(&NAMESPACE)
}

/// `vector_tools.onnxruntime_library`, when set.
pub fn onnxruntime_library() -> Option<PathBuf> {
    text(&ONNXRUNTIME_LIBRARY).map(PathBuf::from)
}

/// `vector_tools.model_directory`, when set.
pub fn model_directory() -> Option<PathBuf> {
    text(&MODEL_DIRECTORY).map(PathBuf::from)
}

fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    setting.get().map(|text| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}
