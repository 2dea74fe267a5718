//! The settings of a worker's session, which no ALTER DATABASE shall change, as with autovacuum.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

const SETTINGS: [(&CStr, &CStr); 11] = [
    (c"application_name", c"vector_tools worker"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    // Who changes a table keeps its rows waiting, and not those of others.
    (c"lock_timeout", c"1s"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"session_replication_role", c"origin"),
    (c"row_security", c"on"),
    (c"zero_damaged_pages", c"off"),
];

/// Gives the session its settings.
pub fn apply() {
    for (name, value) in SETTINGS {
        set(name, value);
    }
    #[cfg(not(feature = "pg16"))]
    set(c"transaction_timeout", c"0");
}

fn set(name: &CStr, value: &CStr) {
    // SAFETY: valid C strings, which PostgreSQL copies.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// Says in pg_stat_activity what the worker does; nothing while it waits.
pub fn show_activity(activity: Option<&str>) {
    let text = CString::new(activity.unwrap_or_default()).unwrap_or_default();
    let state = match activity {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    // SAFETY: a valid C string, which is copied.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}
