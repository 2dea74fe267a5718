//! A panic in one request is that request's error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use vector_tools_core::error::{Error, Result};

/// Does `work`, and makes a panic in it an error.
///
/// # Errors
/// Those of `work`, and [`Error::InferenceFailed`] (38000) for a panic.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // What the work borrows is immutable, or counters and locks that stay right.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Err(Error::InferenceFailed { reason: said.to_owned() })
    })
}
