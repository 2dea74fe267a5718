//! Work that may fail without ending the transaction around it.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgTryBuilder, pg_sys};

use vector_tools_core::pipeline::Failure;

/// Runs `work` in a subtransaction, which is rolled back where it raises an error. Requests to cancel
/// and to end the session pass.
///
/// # Errors
/// What `work` raised.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, Failure> {
    // SAFETY: the subtransaction that is begun here ends below; context and owner are those that were there
    // before.
    let (context, owner) = unsafe {
        let kept = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(kept.0);
        kept
    };
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(|caught| Err(Box::new(caught)))
        .execute();
    // SAFETY: as above. For an error that passes, too: PostgreSQL takes a subtransaction that is left for a
    // savepoint of the client's, and would wait for its ROLLBACK.
    unsafe {
        match &result {
            Ok(_) => pg_sys::ReleaseCurrentSubTransaction(),
            Err(_) => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    result.map_err(|caught| failure_of(&caught).unwrap_or_else(|| caught.rethrow()))
}

/// What an error says of the work; `None` for one that is no answer to it.
fn failure_of(caught: &CaughtError) -> Option<Failure> {
    let (CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)) = caught else {
        return None;
    };
    let sqlstate = sqlstate_of(report);
    // Cancelled, or the server goes down; without memory nothing can be recorded either.
    let must_pass = sqlstate.starts_with("57");
    (!must_pass).then(|| Failure::from_sqlstate(&sqlstate, report.message()))
}

/// The SQLSTATE of an error: PostgreSQL's UNPACK_SQL_STATE.
pub fn sqlstate_of(report: &ErrorReportWithLevel) -> String {
    let code = report.sql_error_code() as i32;
    (0..5).map(|place| char::from((((code >> (6 * place)) & 0x3F) as u8) + b'0')).collect()
}
