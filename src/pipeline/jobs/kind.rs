//! What else than rows of searched tables may wait in the queue. Who has it hands over how it is embedded when the library
//! is loaded, so that the queue does not know it.

use std::sync::OnceLock;

use pgrx::{PgRelation, pg_sys};

use vector_tools_core::error::Result;
use vector_tools_core::pipeline::requeue::QueueChanges;
use vector_tools_core::pipeline::{Job, Outcome};

/// Tables whose entries are not their own rows.
pub trait Kind: Sync {
    /// Whether a table is one; `None` where somebody keeps its writers away.
    fn is_it(&self, relation: &PgRelation) -> Option<bool>;

    /// Embeds a batch of its entries, by their keys; `None` where it is no such table.
    ///
    /// # Errors
    /// Those of `Steps::checkpoint`.
    fn run(&self, relation: &PgRelation, keys: &[&[String]]) -> Result<Option<Vec<Outcome>>>;

    /// Notes what became of entries, where the table is one.
    fn note_progress(&self, source: pg_sys::Oid, jobs: &[Job], outcomes: &[Outcome], changes: &QueueChanges);

    /// Forgets what waits of a table that is gone.
    fn forget(&self, source: pg_sys::Oid);
}

static KIND: OnceLock<&'static dyn Kind> = OnceLock::new();

/// Has the queue embed tables of this kind too.
pub fn embed_also(kind: &'static dyn Kind) {
    // The library is loaded once in a process.
    let _ = KIND.set(kind);
}

/// The kind that was handed over.
pub fn other() -> Option<&'static dyn Kind> {
    KIND.get().copied()
}
