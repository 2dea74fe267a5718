//! Transactions of a worker, whose errors end them and not the worker.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};

use crate::kit::subtransaction::sqlstate_of;

/// An error, as it is logged.
#[derive(Debug, Clone)]
pub struct Raised {
    /// Five-character SQLSTATE.
    pub sqlstate: String,
    /// Its message.
    pub message: String,
}

/// Runs `work` in a transaction of its own, which is rolled back where it raises an error.
///
/// # Errors
/// What `work` raised, requests to cancel included.
pub fn in_transaction<T>(work: impl FnOnce() -> T) -> Result<T, Raised> {
    let result = calmly(|| {
        // SAFETY: the transaction that is begun here ends here, or below.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let result = work();
        // SAFETY: as above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        result
    });
    // What autovacuum goes by, and what the views show; sessions do so when they wait for their client.
    // SAFETY: no transaction is open.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// Runs `work`; where it raises an error, a transaction that is open is rolled back.
///
/// # Errors
/// What `work` raised, requests to cancel included.
pub fn calmly<T>(work: impl FnOnce() -> T) -> Result<T, Raised> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(|caught| Err(describe(&caught)))
        .catch_rust_panic(|caught| Err(describe(&caught)))
        .execute();
    if result.is_err() {
        // SAFETY: the error has been taken over, as in the main loop of any worker of PostgreSQL's.
        unsafe {
            pg_sys::AbortOutOfAnyTransaction();
            pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        }
    }
    result
}

fn describe(caught: &CaughtError) -> Raised {
    match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Raised { sqlstate: sqlstate_of(report), message: report.message().to_owned() }
        }
        CaughtError::RustPanic { ereport, .. } => {
            Raised { sqlstate: sqlstate_of(ereport), message: ereport.message().to_owned() }
        }
    }
}
