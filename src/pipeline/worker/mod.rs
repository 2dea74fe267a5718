//! Background workers that embed what is queued.
//!
//! ```text
//! transaction that has queued rows ── after its commit ──> worker of its database
//!                                                            │ none there: registers one
//!                                                            │ one there: sets its latch
//! worker: looks at the queue ── a batch is due ──> embeds it, looks again
//!            │ nothing is due: waits on its latch, and ends after a while
//!            ├ ends: starts a worker for another database that waits for one
//!            └ is ended, by its batch or an administrator: starts the next one for its own
//! ```
//!
//! Nothing is preloaded, so there is no shared memory to count workers in. Two locks do it, which vanish
//! with their process (`pg::cluster_lock`): that of the database, so that each has one worker, and one of
//! `vector_tools.max_workers` slots of the whole cluster. What must outlive a process is in files
//! (`jobs::due_files`, `jobs::overruns`) and, the batches that run, in a table (`jobs::running`).
//!
//! # No wake-up is lost
//!
//! A transaction is visible to snapshots taken after its commit, and the writer looks at the database's lock
//! after that. The worker looks at the queue, with a new snapshot, each time after it has reset its latch
//! and before it waits; and once more after it has given up the lock and before it ends.
//!
//! - The lock is held, and the writer sets the holder's latch. The worker may reset it before its
//!   next look: then that look comes after the commit. Otherwise the latch is set when it waits, so
//!   it does not wait, and looks. Where it is about to end instead, it gives up the lock after
//!   the writer has seen it held, so after the commit, and its last look finds the rows.
//! - The lock is held by a process that is not listed yet: a worker that is starting, whose first look
//!   comes later than the commit.
//! - The lock is free: the writer registers a worker, whose first look comes later. Two
//!   writers may both do so, and the second worker finds the lock taken and ends.
//! - A worker that is ended registers the next one when its own locks are free, whose first look comes later.
//! - A session registers none while one that it has registered has not started: the first look of
//!   that one comes later too.
//! - Waiting for a lock or a page resets the latch too. So a look may take away what it has not seen, and the
//!   worker looks again after a second.
//! - There is no slot, or no process for it: the writer leaves a file, and looks at the slots once more. A worker
//!   gives up its slot and looks at the files afterwards. Whoever is second sees the other.

mod launcher;
mod locks;
mod main;
mod settings;
mod signals;
mod start;
mod transaction;

pub use launcher::register_launcher;
pub use signals::{in_batch, is_lost_in_batch, is_overdue, is_worker, prepare_timer, without_limit};
pub use start::{note_commit_of_prepared, note_queued, watch_commits};
pub use transaction::in_transaction;

use vector_tools_core::pipeline::due_files::DueFiles;

/// Where the files are, relative to the data folder, where every process of the server is.
pub const FOLDER: &str = "pg_stat_tmp";

fn due_files() -> DueFiles {
    DueFiles::new(FOLDER)
}
