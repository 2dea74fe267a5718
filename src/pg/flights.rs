//! What this process is at, for the one that comes after it (see `jobs::flight`).

use std::cell::RefCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use pgrx::pg_sys;

use super::jobs::BatchReport;
use super::{queue, worker};
use crate::jobs::flight::{Flight, FlightFile, Orphan, find_orphans};
use crate::jobs::{Entry, Job};

thread_local! {
    // Never dropped when the process exits: it is removed before, or stays to be found.
    static FILE: ManuallyDrop<RefCell<Option<FlightFile>>> = ManuallyDrop::default();
    static LAST: RefCell<Option<Flight>> = const { RefCell::new(None) };
    /// Of the processes that were gone when this one looked first; every later one takes this one along.
    static ORPHANS: RefCell<Option<Vec<Orphan>>> = const { RefCell::new(None) };
}

/// A batch that this process is at, until this value is dropped.
pub struct InFlight;

impl Drop for InFlight {
    fn drop(&mut self) {
        with_file(FlightFile::end);
    }
}

/// Says what this process is at from now on. Where no file can be had, a crash is no attempt.
pub fn begin(source: pg_sys::Oid, entries: &[Entry], jobs: &[Job]) -> InFlight {
    let flight = Flight {
        queue: queue::table().to_u32(),
        source: source.to_u32(),
        entries: entries.iter().map(|entry| entry.id).collect(),
        keys: jobs.iter().map(|job| job.key.clone()).collect(),
    };
    FILE.with(|file| {
        let mut file = file.borrow_mut();
        if file.is_none() {
            *file = create();
        }
    });
    with_file(|file| file.begin(&flight));
    LAST.set(Some(flight));
    InFlight
}

/// The batch that this process was at last.
pub fn last() -> Option<Flight> {
    LAST.take()
}

/// Hands the batch of a process that died to `settle`, one that `may_settle` admits. Its file goes once `settle`
/// finds nothing to do, which it does when what it did before is committed.
pub fn settle_next(
    may_settle: impl Fn(&Flight) -> bool,
    settle: impl Fn(&Flight) -> Option<BatchReport>,
) -> Option<BatchReport> {
    let mut orphans = ORPHANS.take().unwrap_or_else(find);
    let mut report = None;
    let mut left = Vec::new();
    while let Some(orphan) = orphans.pop() {
        if !may_settle(&orphan.flight) {
            left.push(orphan);
            continue;
        }
        report = settle(&orphan.flight);
        match report {
            Some(_) => {
                left.push(orphan);
                break;
            }
            None => orphan.remove(),
        }
    }
    orphans.extend(left);
    ORPHANS.set(Some(orphans));
    report
}

fn find() -> Vec<Orphan> {
    find_orphans(Path::new(worker::FOLDER), database()).unwrap_or_default()
}

fn database() -> u32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

fn with_file(work: impl FnOnce(&mut FlightFile) -> std::io::Result<()>) {
    let failed = FILE.with(|file| file.borrow_mut().as_mut().map(work));
    if let Some(Err(error)) = failed {
        pgrx::debug1!("could not note what this process is at: {error}");
    }
}

fn create() -> Option<FlightFile> {
    let file = FlightFile::create(Path::new(worker::FOLDER), database(), std::process::id());
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            pgrx::debug1!("could not make a file for what this process is at: {error}");
            return None;
        }
    };
    DESCRIPTOR.store(file.descriptor(), Ordering::Relaxed);
    empty_when_told_to_quit();
    // SAFETY: the callback is a plain function.
    unsafe { pg_sys::on_proc_exit(Some(remove), pg_sys::Datum::from(0)) };
    Some(file)
}

/// Called when the process ends in order, or by a FATAL error.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn remove(_code: i32, _argument: pg_sys::Datum) {
    // A worker whose batch did not listen when its time was over, or ended the process itself, leaves its rows to be found.
    if !worker::is_lost_in_batch() {
        with_file(FlightFile::remove);
    }
}

static DESCRIPTOR: AtomicI32 = AtomicI32::new(-1);
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// When one process dies, PostgreSQL has all others quit at once, as in an immediate shutdown. What they
/// are at is not to blame.
fn empty_when_told_to_quit() {
    // SAFETY: both structures are local and complete; the handler does nothing but what a handler may, and what was
    // there before is known before it can be called.
    unsafe {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        if libc::sigaction(libc::SIGQUIT, std::ptr::null(), before.as_mut_ptr()) != 0 {
            return;
        }
        let before = *BEFORE.get_or_init(|| before.assume_init());
        let handler: extern "C-unwind" fn(i32) = on_quit;
        let after = libc::sigaction { sa_sigaction: handler as usize, ..before };
        libc::sigaction(libc::SIGQUIT, &after, std::ptr::null_mut());
    }
}

extern "C-unwind" fn on_quit(signal: i32) {
    // SAFETY: a system call on a descriptor of this process, and PostgreSQL's own handler.
    unsafe {
        libc::ftruncate(DESCRIPTOR.load(Ordering::Relaxed), 0);
        match BEFORE.get().map(|before| before.sa_sigaction) {
            None | Some(libc::SIG_DFL | libc::SIG_IGN) => libc::_exit(2),
            Some(handler) => std::mem::transmute::<usize, extern "C-unwind" fn(i32)>(handler)(signal),
        }
    }
}
