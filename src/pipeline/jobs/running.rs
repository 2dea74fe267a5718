//! The list of running batches (see `jobs::running`), and those on it that nobody finished: their process
//! died, or the worker gave them up.

use std::cell::Cell;
use std::collections::HashSet;

use pgrx::pg_sys;
use pgrx::prelude::TimestampWithTimeZone;

use crate::kit::{catalog, rights, spi};
use crate::pipeline::jobs::{BatchReport, report, write_outcomes};
use crate::pipeline::queue::lease_again;
use crate::pipeline::{queue, worker};
use vector_tools_core::pipeline::running::{
    AbandonedBatch, OVERDUE, Process, RunningBatch, abandoned, list, take_off,
};
use vector_tools_core::pipeline::{Entry, Job, Outcome, join_entries};

const TABLE: &std::ffi::CStr = c"started_batches";

/// Puts a batch of this process on the list, in a transaction that ends before the batch runs.
pub fn list_own(batch: &RunningBatch) {
    flush_at_commit();
    take_off_at_exit();
    with_rights_of_list(|| spi::execute(&list(own_process(), batch)));
}

/// Takes the batch of this process off the list, where it stays if the transaction is rolled back; tells whether there
/// was one.
pub fn take_off_own() -> bool {
    take_off_list(own_process())
}

fn take_off_list(process: Process) -> bool {
    with_rights_of_list(|| spi::execute(&take_off(process)) > 0)
}

/// Leases the rows of a batch, as far as they wait and nobody has them.
pub fn lease(batch: &RunningBatch) -> (Vec<Entry>, Vec<Job>) {
    let entries = lease_again(&batch.entries);
    let keys: HashSet<&[String]> = batch.keys.iter().map(Vec::as_slice).collect();
    let mut jobs = join_entries(&entries, usize::MAX);
    jobs.retain(|job| keys.contains(job.key.as_slice()));
    (entries, jobs)
}

/// Notes of the rows of one process that is gone, of `source` where it is given, that they have failed; `None`
/// where there is none. Its own transaction must be committed before they are tried again, since this process
/// may die of them too.
pub fn requeue_abandoned(source: Option<pg_sys::Oid>) -> Option<BatchReport> {
    find_abandoned(source).into_iter().find_map(|abandoned| {
        let is_ours = take_off_list(abandoned.process);
        is_ours.then(|| fail(&abandoned.batch, &abandoned.sqlstate)).flatten()
    })
}

/// Notes of the rows of a batch that this worker has just given up that they have failed.
pub fn requeue_overdue(batch: &RunningBatch) {
    take_off_own();
    fail(batch, OVERDUE);
}

/// Notes that a batch has failed; `None` where its entries are gone, because it had been noted or was done.
fn fail(batch: &RunningBatch, sqlstate: &str) -> Option<BatchReport> {
    let (entries, jobs) = lease(batch);
    if entries.is_empty() {
        return None;
    }
    let outcomes = vec![Outcome::Failed(batch.failure(sqlstate)); jobs.len()];
    let source = pg_sys::Oid::from(batch.source);
    write_outcomes(source, &entries, &jobs, &outcomes);
    worker::note_queued();
    Some(report(source, &outcomes))
}

/// The batches of processes that are gone, of tables that the caller owns or that are gone, too.
pub fn find_abandoned(source: Option<pg_sys::Oid>) -> Vec<AbandonedBatch> {
    if !queue::exists() {
        return vec![];
    }
    let found = with_rights_of_list(|| spi::query_new_snapshot(&abandoned(), read));
    let may_settle = |abandoned: &AbandonedBatch| {
        let table = pg_sys::Oid::from(abandoned.batch.source);
        source.is_none_or(|source| source == table) && rights::owns(table).unwrap_or(true)
    };
    found.into_iter().flatten().filter(may_settle).collect()
}

fn read(row: &spi::Row) -> Option<AbandonedBatch> {
    let texts: Vec<String> = row.get(5)?;
    let width = usize::try_from(row.get::<i32>(6)?).ok().filter(|width| *width > 0)?;
    let batch = RunningBatch {
        source: row.get::<pg_sys::Oid>(3)?.to_u32(),
        entries: row.get(4)?,
        keys: texts.chunks(width).map(<[String]>::to_vec).collect(),
    };
    let process = Process { pid: row.get(1)?, backend_start: row.get::<TimestampWithTimeZone>(2)?.into() };
    Some(AbandonedBatch { process, batch, sqlstate: row.get(7)? })
}

fn with_rights_of_list<T>(work: impl FnOnce() -> T) -> T {
    rights::with_rights_of_state(TABLE, work)
}

fn own_process() -> Process {
    // SAFETY: variables of this process, set when it began.
    unsafe { Process { pid: pg_sys::MyProcPid, backend_start: pg_sys::MyStartTimestamp } }
}

/// Has this transaction in the WAL on disk when it is committed: a process that dies takes the WAL in memory along.
fn flush_at_commit() {
    // SAFETY: a variable of this process; valid C strings, which PostgreSQL copies. The setting ends with the transaction.
    unsafe {
        if pg_sys::synchronous_commit != pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32 {
            return;
        }
        pg_sys::set_config_option(
            c"synchronous_commit".as_ptr(),
            c"local".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// Has the batch of this process taken off the list when it ends, where its own transaction could not.
fn take_off_at_exit() {
    thread_local! {
        static IS_ASKED_FOR: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_ASKED_FOR.replace(true) {
        // SAFETY: the callback is a plain function.
        unsafe { pg_sys::before_shmem_exit(Some(end), pg_sys::Datum::from(0)) };
    }
}

/// Called when the process ends in order, or by a FATAL error: an administrator's, for instance, which is no row's fault.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn end(_code: i32, _argument: pg_sys::Datum) {
    // A worker whose batch did not listen when its time was over, or ended the process itself, leaves it to be found.
    if worker::is_lost_in_batch() {
        return;
    }
    // SAFETY: the process can still use the database, and has its transaction ended so by PostgreSQL, too, where it drops
    // its temporary tables.
    unsafe { pg_sys::AbortOutOfAnyTransaction() };
    // Nobody waits here for one who is just dropping the extension. What fails leaves one suspicion more.
    let _ = worker::in_transaction(|| {
        if let Ok(Some(_list)) = catalog::open_table_to_write_now(catalog::state_table(TABLE)) {
            take_off_own();
        }
    });
}
