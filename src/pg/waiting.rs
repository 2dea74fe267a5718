//! Waiting in a way that cancel, statement_timeout, terminate and shutdown interrupt at once.

use std::os::fd::RawFd;
use std::time::Duration;

use pgrx::pg_sys;

/// What a session waits for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Bytes, or the end of the stream.
    Readable,
    /// Room for bytes.
    Writable,
}

/// Waits until the descriptor is ready, the process's latch is set or the time is over, whichever
/// comes first, and raises whatever the session was told meanwhile. Callers try again what they
/// waited for. When the postmaster is gone, the process ends.
pub fn wait_for(descriptor: RawFd, readiness: Readiness, most: Option<Duration>) {
    let event = match readiness {
        Readiness::Readable => pg_sys::WL_SOCKET_READABLE,
        Readiness::Writable => pg_sys::WL_SOCKET_WRITEABLE,
    };
    wait(event | pg_sys::WL_EXIT_ON_PM_DEATH, descriptor, most);
}

/// Waits until the process's latch is set or the time is over, and raises whatever the session was
/// told meanwhile. When the postmaster is gone, the process ends.
pub fn wait_a_while(most: Duration) {
    wait(pg_sys::WL_EXIT_ON_PM_DEATH, pg_sys::PGINVALID_SOCKET, Some(most));
}

/// Like [`wait_a_while`], but tells by `false` that the postmaster is gone.
pub fn wait_while_postmaster_lives(most: Option<Duration>) -> bool {
    wait(pg_sys::WL_POSTMASTER_DEATH, pg_sys::PGINVALID_SOCKET, most) & pg_sys::WL_POSTMASTER_DEATH == 0
}

fn wait(events: u32, descriptor: RawFd, most: Option<Duration>) -> u32 {
    let timeout = if most.is_some() { pg_sys::WL_TIMEOUT } else { 0 };
    // Rounded up, since less than a millisecond would be no wait at all.
    let milliseconds = most.map_or(0, |most| most.as_micros().div_ceil(1000) as i64);
    // SAFETY: MyLatch is this process's own; the descriptor is open, or none is waited for.
    let woken = unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            (events | timeout | pg_sys::WL_LATCH_SET) as i32,
            descriptor,
            milliseconds,
            wait_event(),
        )
    };
    if woken as u32 & pg_sys::WL_LATCH_SET != 0 {
        // SAFETY: as above; what set it is looked at below and by the caller.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    }
    pgrx::check_for_interrupts!();
    woken as u32
}

/// What pg_stat_activity shows as the wait event.
#[cfg(not(feature = "pg16"))]
fn wait_event() -> u32 {
    use std::cell::Cell;
    thread_local! {
        static EVENT: Cell<u32> = const { Cell::new(0) };
    }
    if EVENT.get() == 0 {
        // SAFETY: a valid C string, which is copied; the same name gives the same number again.
        EVENT.set(unsafe { pg_sys::WaitEventExtensionNew(c"VectorToolsEmbedder".as_ptr()) });
    }
    EVENT.get()
}

/// PostgreSQL 16 has no names of extensions here.
#[cfg(feature = "pg16")]
fn wait_event() -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}
