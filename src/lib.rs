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
    use crate::pipeline::jobs::kind;
    use crate::pipeline::{queue, searchable_tables, worker};
    use crate::store::jobs::QueuedDocuments;
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
            &[searchable_tables::forget, queue::forget, audit::forget],
            &[model::registry::note_change],
        );
        crate::hooks::watch_statements(FEATURES);
        kind::embed_also(&QueuedDocuments);
        worker::watch_commits();
        worker::register_launcher();
    }
}

/// sql/install.list for `cargo pgrx test`, which makes an install script of its own, with a function for each test.
#[cfg(feature = "pg_test")]
mod install_script {
    use pgrx::prelude::*;

    extension_sql_file!("../sql/schema.sql", name = "schema", bootstrap);
    extension_sql_file!("../sql/model.sql", name = "model", requires = ["schema"]);
    extension_sql_file!("../sql/embed.sql", name = "embed", requires = ["model"]);
    extension_sql_file!("../sql/chunking.sql", name = "chunking", requires = ["embed"]);
    extension_sql_file!("../sql/search.sql", name = "search", requires = ["chunking"]);
    extension_sql_file!("../sql/audit.sql", name = "audit", requires = ["search"]);
    extension_sql_file!("../sql/store.sql", name = "store", requires = ["audit"]);
    extension_sql_file!("../sql/pipeline.sql", name = "pipeline", requires = ["store"]);
    extension_sql_file!("../sql/memories.sql", name = "memories", requires = ["pipeline"]);
    extension_sql_file!("../sql/access.sql", name = "access", requires = ["memories"]);
    extension_sql_file!("../sql/bundled_models.sql", name = "bundled_models", finalize);
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
