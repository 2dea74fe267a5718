//! Jobs: rows whose chunks and embeddings are to be made. What to do with them, and with what goes
//! wrong, as a state machine that knows neither PostgreSQL nor a model.
//!
//! An entry of the queue is leased, its row read, cut into chunks, embedded and written: then it is
//! done and leaves the queue. Where a step fails, the batch is halved until the row that it fails
//! for is alone (`bisection`), so that the others do not wait for it; that one is tried again later
//! (`backoff`), or is dead where that makes no sense or has been done often enough.

pub mod agenda;
pub mod assembly;
pub mod backoff;
pub mod batch;
pub mod bisection;
pub mod change;
pub mod companion;
pub mod definition;
pub mod drift;
pub mod due_files;
pub mod failure;
pub mod options;
pub mod overruns;
pub mod queue;
pub mod requeue;
pub mod rows;
pub mod running;

pub use backoff::{RetryDecision, decide_retry};
pub use batch::{Entry, Found, Job, Outcome, Steps, join_entries, run_batch};
pub use change::Role;
pub use definition::{Configuration, KeyColumn, SearchableTable};
pub use failure::{Category, Failure};
pub use options::{IndexKind, Mode, SearchOptions, Storage};
pub use requeue::requeue;
