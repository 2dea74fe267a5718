//! What the extension's background workers listen to: the configuration, which nobody but they themselves reads again,
//! and the end of a worker that has one piece of work.

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, DynamicBackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys;

/// Listens to these signals from now on, and takes over what changed before: a worker that is starting is told of a
/// change while it cannot hear yet, and would keep the settings that the postmaster had when it forked it.
pub fn listen(signals: SignalWakeFlags) {
    BackgroundWorker::attach_signal_handlers(signals);
    reload();
}

/// Has this process end like a session when it is told to: where it looks for interrupts or waits for a lock.
pub fn end_when_told() {
    unsafe extern "C-unwind" {
        /// PostgreSQL's own handler (tcopprot.h), of which pgrx has a wrapper, which is none.
        fn die(signal: i32);
    }
    // SAFETY: the handler of all sessions, and signals are blocked until the next line.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(libc::SIGTERM, Some(die));
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(libc::SIGTERM, Some(die));
    }
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::empty());
}

/// Registers a worker that this session wants to know of as long as it lives; nothing when no process is free for it.
pub fn register_for_session(worker: BackgroundWorkerBuilder) -> Option<DynamicBackgroundWorker> {
    // PostgreSQL makes the handle in the memory that is current, which is the transaction's.
    // SAFETY: the context is put back at once.
    unsafe {
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let worker = worker.load_dynamic();
        pg_sys::MemoryContextSwitchTo(context);
        worker.ok()
    }
}

/// Free memory of the C library's that a worker keeps for what it does next.
const MOST_FREE: usize = 32 << 20;

/// Gives memory back to the system that was freed and that the C library has kept: a text of many megabytes leaves some
/// times its size, in pieces that are too small to be given back one by one.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: both may be called at any time.
    unsafe {
        if libc::mallinfo2().fordblks > MOST_FREE {
            libc::malloc_trim(0);
        }
    }
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
