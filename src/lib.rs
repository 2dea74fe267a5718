//! vector_tools: ranked retrieval inside PostgreSQL. This package is everything that talks to the server; what it decides
//! is in `crates/core`.
//!
//! `functions` of a room is what SQL calls.

pub mod access;
pub mod audit;
pub mod chunking;
pub mod embed;
pub mod hooks;
pub mod kit;
pub mod memories;
pub mod model;
pub mod pipeline;
pub mod search;
pub mod settings;
pub mod store;
pub mod types;

#[cfg(feature = "pg_test")]
#[path = "../pg_test/server/mod.rs"]
mod server_tests;

mod extension {
    use pgrx::prelude::*;

    use crate::hooks::Features;
    use crate::kit::report::OrReport;
    use crate::pipeline::{queue, searched_tables, worker};
    use crate::{audit, model};

    pgrx::pg_module_magic!(name, version);

    const FEATURES: Features = Features {
        in_frames: |work| queue::in_frame(|| audit::in_frame(work).or_report()).or_report(),
        begin_truncate: audit::begin_truncate,
        begin_commit_of_prepared: worker::note_commit_of_prepared,
    };

    /// Runs when a session or the postmaster loads the library: settings, callbacks and, in the postmaster,
    /// the launcher's registration, nothing else. ONNX Runtime is not touched before the first embedding.
    #[pg_guard]
    pub extern "C-unwind" fn _PG_init() {
        crate::settings::define();
        crate::kit::invalidation::watch(
            &[searched_tables::forget, queue::forget, audit::forget],
            &[model::registry::note_change],
        );
        crate::hooks::watch_statements(FEATURES);
        worker::watch_commits();
        worker::register_launcher();
    }
}

/// sql/install.list for `cargo pgrx test`, which makes an install script of its own, with a function for each test.
#[cfg(feature = "pg_test")]
mod install_script {
    use pgrx::prelude::*;

    extension_sql_file!("../sql/10_schema.sql", name = "schema", bootstrap);
    extension_sql_file!("../sql/15_statistics.sql", name = "statistics", requires = ["schema"]);
    extension_sql_file!("../sql/20_views.sql", name = "views", requires = ["statistics"]);
    extension_sql_file!("../sql/22_embed.sql", name = "embed", requires = ["views"]);
    extension_sql_file!("../sql/25_chunking.sql", name = "chunking", requires = ["embed"]);
    extension_sql_file!("../sql/25_embedder.sql", name = "embedder", requires = ["chunking"]);
    extension_sql_file!("../sql/30_fusion.sql", name = "fusion", requires = ["embedder"]);
    extension_sql_file!("../sql/35_search.sql", name = "search", requires = ["fusion"]);
    extension_sql_file!("../sql/40_internal.sql", name = "internal", requires = ["search"]);
    extension_sql_file!("../sql/50_memories.sql", name = "memories", requires = ["internal"]);
    extension_sql_file!("../sql/52_audit.sql", name = "audit", requires = ["memories"]);
    extension_sql_file!("../sql/54_store.sql", name = "store", requires = ["audit"]);
    extension_sql_file!("../sql/56_access.sql", name = "access", requires = ["store"]);
    extension_sql_file!("../sql/57_embedding_jobs.sql", name = "embedding_jobs", requires = ["access"]);
    extension_sql_file!("../sql/58_pipeline.sql", name = "pipeline", requires = ["embedding_jobs"]);
    extension_sql_file!("../sql/59_model_change.sql", name = "model_change", requires = ["pipeline"]);
    extension_sql_file!(
        "../sql/60_embedding_cache.sql",
        name = "embedding_cache",
        requires = ["model_change"]
    );
    extension_sql_file!("../sql/80_privileges.sql", name = "privileges", finalize);
}

/// Read by `cargo pgrx test`.
#[cfg(test)]
pub mod pg_test {
    /// Called once before the tests in the server.
    pub fn setup(_options: Vec<&str>) {}

    /// Lines for the postgresql.conf of the test server.
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
