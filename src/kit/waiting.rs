//! Waiting in a way that cancel, statement_timeout, terminate and shutdown interrupt at once.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::time::Duration;

use pgrx::pg_sys;

use vector_tools_core::error::Result;

/// How long something is waited for, at most, before whoever watches is called.
const WATCH_WAIT: Duration = Duration::from_secs(1);

thread_local! {
    static WATCH: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// Has `watch` called at every look for interrupts, and once a second while a socket is waited for. It may raise
/// an error, which ends the wait.
pub fn watch(watch: Option<fn()>) {
    WATCH.set(watch);
}

/// Raises whatever the session was told meanwhile.
pub fn check_interrupts() {
    pgrx::check_for_interrupts!();
    if let Some(watch) = WATCH.get() {
        watch();
    }
}

/// Raises whatever the session was told meanwhile: cancel, statement_timeout, shutdown. Between the steps of the pure part,
/// which end where it returns an error.
///
/// # Errors
/// None of Rust's: PostgreSQL's own are raised through it.
pub fn checkpoint() -> Result<()> {
    check_interrupts();
    Ok(())
}

/// What a session waits for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Bytes, or the end of the stream.
    Readable,
    /// Room for bytes.
    Writable,
}

/// A socket that is waited for again and again. The kernel is told once what to watch, which a
/// single wait would cost six system calls.
pub struct Watched {
    events: *mut pg_sys::WaitEventSet,
    place: i32,
    readiness: Readiness,
}

impl Watched {
    /// Watches a socket, which must stay open as long as this value.
    pub fn new(socket: RawFd) -> Watched {
        // SAFETY: the set is this session's own and freed below; MyLatch is this process's.
        unsafe {
            let events = new_set(3);
            let nothing = std::ptr::null_mut();
            pg_sys::AddWaitEventToSet(
                events,
                pg_sys::WL_LATCH_SET,
                pg_sys::PGINVALID_SOCKET,
                pg_sys::MyLatch,
                nothing,
            );
            let (no_latch, postmaster) = (std::ptr::null_mut(), pg_sys::WL_EXIT_ON_PM_DEATH);
            pg_sys::AddWaitEventToSet(events, postmaster, pg_sys::PGINVALID_SOCKET, no_latch, nothing);
            let place =
                pg_sys::AddWaitEventToSet(events, pg_sys::WL_SOCKET_READABLE, socket, no_latch, nothing);
            Watched { events, place, readiness: Readiness::Readable }
        }
    }

    /// Waits until the socket is ready, the process's latch is set or the time is over, whichever
    /// comes first, and raises whatever the session was told meanwhile. Callers try again what they
    /// waited for. When the postmaster is gone, the process ends.
    pub fn wait_for(&mut self, readiness: Readiness, most: Option<Duration>) {
        if readiness != self.readiness {
            let event = match readiness {
                Readiness::Readable => pg_sys::WL_SOCKET_READABLE,
                Readiness::Writable => pg_sys::WL_SOCKET_WRITEABLE,
            };
            // SAFETY: the place of the socket in the set.
            unsafe { pg_sys::ModifyWaitEvent(self.events, self.place, event, std::ptr::null_mut()) };
            self.readiness = readiness;
        }
        // Whoever watches is called in between; the caller sees that nothing has happened, and waits on.
        let most =
            if WATCH.get().is_some() { Some(most.unwrap_or(WATCH_WAIT).min(WATCH_WAIT)) } else { most };
        let timeout = most.map_or(-1, milliseconds);
        let mut happened = pg_sys::WaitEvent::default();
        // SAFETY: room for one event.
        let count = unsafe { pg_sys::WaitEventSetWait(self.events, timeout, &mut happened, 1, wait_event()) };
        if count > 0 && happened.events & pg_sys::WL_LATCH_SET != 0 {
            // SAFETY: this process's latch; what set it is looked at below.
            unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
        }
        check_interrupts();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and not freed by anyone else.
        unsafe { pg_sys::FreeWaitEventSet(self.events) };
    }
}

/// A set of events that lives as long as the session may need it.
#[cfg(not(feature = "pg16"))]
unsafe fn new_set(events: i32) -> *mut pg_sys::WaitEventSet {
    // SAFETY: no owner frees it before this crate does.
    unsafe { pg_sys::CreateWaitEventSet(std::ptr::null_mut(), events) }
}

/// A set of events that lives as long as the session may need it.
#[cfg(feature = "pg16")]
unsafe fn new_set(events: i32) -> *mut pg_sys::WaitEventSet {
    // SAFETY: a memory context that lives as long as the process.
    unsafe { pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, events) }
}

/// Waits until the process's latch is set or the time is over, and raises whatever the session was
/// told meanwhile. When the postmaster is gone, the process ends.
pub fn wait_a_while(most: Duration) {
    wait(pg_sys::WL_EXIT_ON_PM_DEATH, Some(most));
}

/// Like [`wait_a_while`], but tells by `false` that the postmaster is gone.
pub fn wait_while_postmaster_lives(most: Option<Duration>) -> bool {
    wait(pg_sys::WL_POSTMASTER_DEATH, most) & pg_sys::WL_POSTMASTER_DEATH == 0
}

/// Like [`wait_a_while`], for a worker between its batches; tells whether the latch was set.
pub fn wait_for_latch(most: Duration) -> bool {
    wait(pg_sys::WL_EXIT_ON_PM_DEATH, Some(most)) & pg_sys::WL_LATCH_SET != 0
}

/// Forgets that the latch was set: what set it is looked at next.
pub fn reset_latch() {
    // SAFETY: this process's latch.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
}

fn wait(events: u32, most: Option<Duration>) -> u32 {
    let timeout = if most.is_some() { pg_sys::WL_TIMEOUT } else { 0 };
    // SAFETY: MyLatch is this process's own.
    let woken = unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (events | timeout | pg_sys::WL_LATCH_SET) as i32,
            most.map_or(0, milliseconds),
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

/// Rounded up, since less than a millisecond would be no wait at all.
fn milliseconds(time: Duration) -> i64 {
    time.as_micros().div_ceil(1000) as i64
}

/// What pg_stat_activity shows as the wait event.
#[cfg(not(feature = "pg16"))]
fn wait_event() -> u32 {
    thread_local! {
        static EVENT: Cell<u32> = const { Cell::new(0) };
    }
    if EVENT.get() == 0 {
        let name = if WATCH.get().is_some() { c"VectorToolsWorker" } else { c"VectorToolsEmbedder" };
        // SAFETY: a valid C string, which is copied; the same name gives the same number again.
        EVENT.set(unsafe { pg_sys::WaitEventExtensionNew(name.as_ptr()) });
    }
    EVENT.get()
}

/// PostgreSQL 16 has no names of extensions here.
#[cfg(feature = "pg16")]
fn wait_event() -> u32 {
    pg_sys::PG_WAIT_EXTENSION
}
