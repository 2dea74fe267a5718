//! Starting and waking workers, when a transaction has queued rows.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::time::SystemTime;

use pgrx::bgworkers::{
    BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime, DynamicBackgroundWorker,
};
use pgrx::pg_sys;

use crate::kit::background;
use crate::kit::cluster_lock::ClusterLock;
use crate::pipeline::queue;
use crate::pipeline::worker::locks::free_slots;
use crate::pipeline::worker::{due_files, signals};
use crate::settings;

thread_local! {
    /// Whether the transaction has queued rows that a worker is to embed.
    static QUEUED: Cell<bool> = const { Cell::new(false) };
    /// The worker that this session has registered last.
    static REGISTERED: RefCell<Option<DynamicBackgroundWorker>> = const { RefCell::new(None) };
}

/// Notes that the transaction has queued rows that a worker is to embed. A savepoint that is rolled back
/// does not take it along: a worker that finds nothing ends.
pub fn note_queued() {
    QUEUED.set(true);
}

/// Notes that a transaction that was prepared is about to be committed, which may have queued rows in
/// another session.
pub fn note_commit_of_prepared() {
    if queue::exists() {
        note_queued();
    }
}

/// Asks PostgreSQL to say when a transaction ends.
pub fn watch_commits() {
    // SAFETY: called once, while the library is loaded; the callback is a plain function.
    unsafe { pg_sys::RegisterXactCallback(Some(end_transaction), std::ptr::null_mut()) };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn end_transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT if QUEUED.take() => see_to_it(),
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => QUEUED.set(false),
        _ => {}
    }
}

/// Wakes the worker of this database, or starts one. The transaction is over, so nothing here may fail.
fn see_to_it() {
    // A worker looks at the queue after each batch.
    if settings::max_workers() == 0 || signals::is_worker() {
        return;
    }
    // SAFETY: a variable of this process.
    let database = unsafe { pg_sys::MyDatabaseId };
    if ClusterLock::of_database(database).tell_holder() || is_one_starting() {
        return;
    }
    if free_slots() > 0 && register_for_session(database) {
        return;
    }
    note_due(database, SystemTime::now());
    // A worker may have given up its slot before there was a file.
    if free_slots() > 0 {
        register_for_session(database);
    }
}

/// Leaves word that this worker is gone and its database has to be looked at, and starts the next one. That one ends at
/// once where nothing is due, and the postmaster starts none while the server goes down.
pub fn hand_on(database: pg_sys::Oid) {
    // In this order: whoever gives up a slot now looks at the files afterwards.
    note_due(database, SystemTime::now());
    if settings::max_workers() > 0 && free_slots() > 0 {
        register(database);
    }
}

/// Notes that a database has work that no worker sees to.
pub fn note_due(database: pg_sys::Oid, due: SystemTime) {
    if let Err(error) = due_files().note(database.to_u32(), due) {
        pgrx::debug1!("could not note that database {} has rows to embed: {error}", database.to_u32());
    }
}

/// Takes back what was noted of a database.
pub fn forget_due(database: u32) {
    if let Err(error) = due_files().clear(database) {
        pgrx::debug1!("could not remove the file of database {database}: {error}");
    }
}

fn is_one_starting() -> bool {
    REGISTERED.with_borrow(|worker| {
        worker
            .as_ref()
            .is_some_and(|worker| matches!(worker.pid(), Err(BackgroundWorkerStatus::NotYetStarted)))
    })
}

fn register_for_session(database: pg_sys::Oid) -> bool {
    let worker = background::register_for_session(worker_of(database));
    let is_registered = worker.is_some();
    if is_registered {
        REGISTERED.set(worker);
    }
    is_registered
}

/// Registers a worker for a database; nothing when no process is free for it.
pub fn register(database: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    worker_of(database).load_dynamic().ok()
}

fn worker_of(database: pg_sys::Oid) -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("vector_tools worker")
        .set_type("vector_tools worker")
        .set_library("vector_tools")
        .set_function("run_embedding_worker")
        .set_extra(&database.to_u32().to_string())
        .set_restart_time(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
}
