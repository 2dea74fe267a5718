//! The configuration of the extension's background workers, which nobody but they themselves reads again.

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys;

/// Listens to these signals from now on, and takes over what changed before: a worker that is starting is told of a
/// change while it cannot hear yet, and would keep the settings that the postmaster had when it forked it.
pub fn listen(signals: SignalWakeFlags) {
    BackgroundWorker::attach_signal_handlers(signals);
    reload();
}

/// Reads the configuration files again where they have changed; tells whether it did.
pub fn reload_if_told() -> bool {
    let is_told = BackgroundWorker::sighup_received();
    if is_told {
        reload();
    }
    is_told
}

fn reload() {
    // SAFETY: called outside of any transaction, as in the main loop of any worker.
    unsafe {
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
    }
}
