//! The launcher, which is there where the library is preloaded: it starts workers where rows wait that nobody has
//! queued just now, after a start, a crash or a promotion.

use std::time::{Duration, SystemTime};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags};
use pgrx::prelude::*;

use crate::kit::background;
use crate::kit::waiting::wait_while_postmaster_lives;
use crate::pipeline::worker::due_files;
use crate::pipeline::worker::main::start_due;
use crate::pipeline::worker::start::{forget_due, note_due};
use crate::pipeline::worker::transaction::in_transaction;

/// How often it looks for databases that wait for a worker.
const LOOK: Duration = Duration::from_secs(60);

/// How often it has all databases looked at: what no file tells of waits no longer.
const ROUND: Duration = Duration::from_secs(600);

/// Registers the launcher, while the postmaster preloads the library.
pub fn register_launcher() {
    // SAFETY: a variable of this process.
    if !unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    BackgroundWorkerBuilder::new("vector_tools launcher")
        .set_type("vector_tools launcher")
        .set_library("vector_tools")
        .set_function("launch_embedding_workers")
        .set_restart_time(Some(LOOK))
        .enable_spi_access()
        // On a standby right after its promotion.
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .load();
}

/// The launcher's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn launch_embedding_workers(_argument: pg_sys::Datum) {
    background::listen(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    // To no database, so that it stands in the way of none.
    BackgroundWorker::connect_worker_to_spi(None, None);
    let mut next_round = SystemTime::now();
    let mut wait = Duration::ZERO;
    // The signal is looked at right before each wait, since the work may reset the latch that it has set.
    while !BackgroundWorker::sigterm_received() && wait_while_postmaster_lives(Some(wait)) {
        background::reload_if_told();
        let now = SystemTime::now();
        if next_round <= now {
            note_all(now);
            next_round = now + ROUND;
        }
        start_due(pg_sys::InvalidOid, &[]);
        wait = until_next();
    }
    // With any other code PostgreSQL would take it for done, and not start it again after pg_terminate_backend().
    // SAFETY: the end of the process, outside of any transaction.
    unsafe { pg_sys::proc_exit(1) }
}

/// Has all databases looked at, those that are gone forgotten.
fn note_all(now: SystemTime) {
    let databases = match in_transaction(databases) {
        Ok(databases) => databases,
        Err(error) => {
            pgrx::log!("vector_tools launcher: could not list the databases: {}", error.message);
            return;
        }
    };
    for (_, database) in due_files().list().unwrap_or_default() {
        if !databases.contains(&pg_sys::Oid::from(database)) {
            forget_due(database);
        }
    }
    for database in databases {
        note_due(database, now);
    }
}

/// When the next file is due, or the next look.
fn until_next() -> Duration {
    let now = SystemTime::now();
    let due = due_files().list().unwrap_or_default();
    let next = due.into_iter().filter_map(|(when, _)| when.duration_since(now).ok()).min();
    // Those that are due already wait for a slot, which the worker that gives it up hands on.
    next.map_or(LOOK, |next| next.max(Duration::from_secs(1)).min(LOOK))
}

/// The databases that accept connections, templates left out.
fn databases() -> Vec<pg_sys::Oid> {
    let mut databases = Vec::new();
    // SAFETY: a scan of a catalogue that all databases share, in a transaction; rows are read before the scan goes on.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        let (snapshot, keys) = (std::ptr::null_mut(), std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(relation, pg_sys::InvalidOid, false, snapshot, 0, keys);
        loop {
            let row = pg_sys::systable_getnext(scan);
            if row.is_null() {
                break;
            }
            let database = &*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_database>();
            if database.datallowconn && !database.datistemplate {
                databases.push(database.oid);
            }
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
    databases
}
