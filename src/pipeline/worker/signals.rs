//! How a worker is told to stop: at once and quietly between batches, by a cancel within one, and for
//! good where what runs in it does not listen.
//!
//! A cancel is an error that the worker's loop catches, and the log stays clean at every shutdown. But a
//! trigger of a table's owner can catch it too, so a timer ends the process that goes on afterwards.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use pgrx::pg_sys;

/// How often a batch is looked at.
const TICK: Duration = Duration::from_millis(400);

/// Ticks after a cancel that a batch has for its end; the first one may come at once.
const MOST_TICKS: u32 = 2;

/// No batch takes so many ticks.
const NEVER: i64 = i64::MAX;

static IS_WORKER: AtomicBool = AtomicBool::new(false);
static IS_STOPPING: AtomicBool = AtomicBool::new(false);
static IS_IN_BATCH: AtomicBool = AtomicBool::new(false);
/// Ticks until the batch has taken too long.
static TICKS_LEFT: AtomicI64 = AtomicI64::new(NEVER);
/// Times that the batch was told to end.
static TOLD: AtomicU32 = AtomicU32::new(0);
static TIMER: AtomicU32 = AtomicU32::new(0);

// PostgreSQL's timers, which pgrx does not know.
unsafe extern "C-unwind" {
    fn RegisterTimeout(id: u32, handler: Option<unsafe extern "C-unwind" fn()>) -> u32;
    fn enable_timeout_every(id: u32, first: pg_sys::TimestampTz, delay_milliseconds: i32);
    fn disable_timeout(id: u32, keep_indicator: bool);
}

/// The first timer of PostgreSQL's that is free for extensions; asking for it gives the next free one.
#[cfg(feature = "pg16")]
const USER_TIMEOUT: u32 = 12;
/// The first timer of PostgreSQL's that is free for extensions; asking for it gives the next free one.
#[cfg(not(feature = "pg16"))]
const USER_TIMEOUT: u32 = 13;

/// Whether this process is a worker.
pub fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Relaxed)
}

/// Whether this worker was told to end.
pub fn is_stopping() -> bool {
    IS_STOPPING.load(Ordering::Relaxed)
}

/// Whether this worker is at a batch that nobody has told it to leave.
pub fn is_lost_in_batch() -> bool {
    is_worker() && IS_IN_BATCH.load(Ordering::Relaxed) && (is_overdue() || !is_stopping())
}

/// Whether the batch has taken longer than it may.
pub fn is_overdue() -> bool {
    TICKS_LEFT.load(Ordering::Relaxed) <= 0
}

/// Makes this process one that stops as a worker does, before signals reach it.
pub fn attach() {
    IS_WORKER.store(true, Ordering::Relaxed);
    // SAFETY: the handler does nothing but what a handler may.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(libc::SIGTERM, Some(on_terminate));
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(libc::SIGTERM, Some(on_terminate));
    }
}

/// Makes the timer, once the worker is connected.
pub fn prepare_timer() {
    // SAFETY: the module of timers is there in a process that is connected; the handler does nothing but what a
    // handler may.
    TIMER.store(unsafe { RegisterTimeout(USER_TIMEOUT, Some(on_tick)) }, Ordering::Relaxed);
}

/// Runs a batch, which is cancelled when the worker is told to stop, and after `most`.
pub fn in_batch<T>(most: Option<Duration>, work: impl FnOnce() -> T) -> T {
    let ticks = most.map_or(NEVER, |most| most.as_millis().div_ceil(TICK.as_millis()).max(1) as i64);
    TICKS_LEFT.store(ticks, Ordering::Relaxed);
    TOLD.store(0, Ordering::Relaxed);
    IS_IN_BATCH.store(true, Ordering::Relaxed);
    if is_stopping() {
        tell();
    }
    let timer = TIMER.load(Ordering::Relaxed);
    // SAFETY: the timer was made by prepare_timer.
    unsafe {
        let first = pg_sys::GetCurrentTimestamp() + TICK.as_micros() as pg_sys::TimestampTz;
        enable_timeout_every(timer, first, TICK.as_millis() as i32);
    }
    let result = work();
    // SAFETY: as above.
    unsafe { disable_timeout(timer, false) };
    IS_IN_BATCH.store(false, Ordering::Relaxed);
    // SAFETY: a flag of this process: what came too late for the batch is meant for nothing else.
    unsafe { (&raw mut pg_sys::QueryCancelPending).write_volatile(0) };
    result
}

/// Runs a part of a batch that takes as long as it takes; it is cancelled all the same when the worker is told to
/// stop.
pub fn without_limit<T>(work: impl FnOnce() -> T) -> T {
    let left = TICKS_LEFT.swap(NEVER, Ordering::Relaxed);
    let result = work();
    TICKS_LEFT.store(left, Ordering::Relaxed);
    result
}

unsafe extern "C-unwind" fn on_terminate(_signal: i32) {
    IS_STOPPING.store(true, Ordering::Relaxed);
    if IS_IN_BATCH.load(Ordering::Relaxed) {
        tell();
    }
    // SAFETY: the latch of this process, made for handlers.
    unsafe { pg_sys::SetLatch(pg_sys::MyLatch) };
}

unsafe extern "C-unwind" fn on_tick() {
    let left = TICKS_LEFT.fetch_sub(1, Ordering::Relaxed) - 1;
    if left <= 0 || is_stopping() {
        tell();
    }
}

/// Cancels the batch, and ends the process when that has not helped.
fn tell() {
    let times = TOLD.fetch_add(1, Ordering::Relaxed);
    // SAFETY: flags of this process, which its handlers set in the same way.
    unsafe {
        if times == 0 {
            (&raw mut pg_sys::QueryCancelPending).write_volatile(1);
        } else if times > MOST_TICKS {
            (&raw mut pg_sys::ProcDiePending).write_volatile(1);
        }
        (&raw mut pg_sys::InterruptPending).write_volatile(1);
        pg_sys::SetLatch(pg_sys::MyLatch);
    }
}
