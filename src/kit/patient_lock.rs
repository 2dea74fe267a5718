//! Locks on several tables that nobody else has to wait long for.
//!
//! Whoever waits for an exclusive lock makes all wait who come after him, as long as the longest reader
//! takes; and whoever holds one lock while he waits for the next can block a transaction that has what he
//! waits for. So all locks are taken for themselves, within a time that is short for users and shorter
//! than PostgreSQL waits before it looks for deadlocks, or given back and tried again.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::kit::report::error_code;
use crate::kit::spi;
use crate::kit::subtransaction::attempt;
use crate::kit::waiting::wait_a_while;

/// How long others wait at most because of this.
const ATTEMPT: Duration = Duration::from_millis(200);

/// How long they then go on undisturbed.
const PAUSE: Duration = Duration::from_millis(300);

/// Runs LOCK TABLE statements until all locks are there, and no longer than the session's lock_timeout
/// where it has one.
pub fn lock(statements: &str) {
    let began = Instant::now();
    // SAFETY: a variable of this process.
    let most = unsafe { pg_sys::LockTimeout };
    let most = (most > 0).then(|| Duration::from_millis(most as u64));
    loop {
        let settings = [
            (c"lock_timeout", ATTEMPT.as_millis().to_string()),
            (c"search_path", "pg_catalog, pg_temp".to_owned()),
        ];
        let Err(failure) = attempt(|| spi::with_settings(&settings, || spi::run_script(statements))) else {
            return;
        };
        let is_busy = ["55P03", "40P01"].contains(&failure.sqlstate.as_str());
        let is_over = most.is_some_and(|most| began.elapsed() >= most);
        if is_busy && !is_over {
            wait_a_while(PAUSE);
            continue;
        }
        pgrx::ereport!(ERROR, error_code(&failure.sqlstate), failure.message);
    }
}
