//! The session that a function is called in.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Raises PostgreSQL's own error (25006) in a read-only transaction and on a standby, before
/// `command` has done anything.
pub fn forbid_when_read_only(command: &CStr) {
    // SAFETY: valid C strings; an error is raised as by any other function of the server.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
    }
}

/// Whether nothing can be written: in a read-only transaction, on a standby, in a parallel worker.
pub fn is_read_only() -> bool {
    // SAFETY: variables and flags of this process.
    unsafe { pg_sys::XactReadOnly || pg_sys::RecoveryInProgress() || pg_sys::IsInParallelMode() }
}
