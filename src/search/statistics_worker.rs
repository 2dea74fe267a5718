//! The background worker that renews the statistics of one table, so that no search has to wait.
//!
//! It starts on demand, without a restart or shared_preload_libraries, and ends with its work. Where
//! no worker can start, searches go on with what there is. There is one in each database at a time, and no longer than
//! vector_tools.statistics_timeout: counting runs what the table's owner wrote, which must not keep places of workers from
//! others.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker,
};
use pgrx::prelude::*;
use pgrx::{PgRelation, pg_sys};

use crate::kit::cluster_lock::ClusterLock;
use crate::kit::rights::{acting_as, owner_of, partition_of_other};
use crate::kit::{background, catalog};
use crate::pipeline::worker;
use crate::search::statistics::{KeywordColumn, needs_refresh, refresh};
use crate::settings::statistics_timeout;
use vector_tools_core::pipeline::agenda::pause_after;
use vector_tools_core::pipeline::overruns::Overruns;

thread_local! {
    /// The worker that this session has started last.
    static LAST: RefCell<Option<DynamicBackgroundWorker>> = const { RefCell::new(None) };
}

/// Starts a worker for a table and its tsvector column, if one can start; tells whether the database had none.
pub fn start(table: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: a variable of this process.
    let database = unsafe { pg_sys::MyDatabaseId };
    // The lock is free until the worker has begun to run.
    let is_own = LAST.with_borrow(|worker| {
        worker
            .as_ref()
            .is_some_and(|worker| matches!(worker.pid(), Ok(_) | Err(BackgroundWorkerStatus::NotYetStarted)))
    });
    if is_own || !ClusterLock::of_statistics(database).is_free() {
        return false;
    }
    let task = format!("{} {} {column}", database.to_u32(), table.to_u32());
    let worker = BackgroundWorkerBuilder::new("vector_tools statistics")
        .set_type("vector_tools statistics")
        .set_library("vector_tools")
        .set_function("renew_statistics")
        .set_extra(&task)
        .set_restart_time(None)
        .enable_spi_access();
    let worker = background::register_for_session(worker);
    if worker.is_none() {
        pgrx::debug1!("no background worker is free to renew the statistics of table {}", table.to_u32());
    }
    LAST.set(worker);
    true
}

/// The worker's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn renew_statistics(_argument: pg_sys::Datum) {
    background::end_when_told();
    let task: Vec<u32> =
        BackgroundWorker::get_extra().split(' ').filter_map(|number| number.parse().ok()).collect();
    let [database, table, column] = task[..] else { return };
    let (database, table) = (pg_sys::Oid::from(database), pg_sys::Oid::from(table));
    // Before it connects, which takes a while. The end of the process gives the lock back.
    if !ClusterLock::of_statistics(database).try_acquire() {
        return;
    }
    let mut overruns = Overruns::read(Path::new(worker::FOLDER), "statistics", database.to_u32());
    let source = table.to_u32();
    // Where what the table's owner wrote takes for ever, the tables of others have their turn.
    if overruns.of(source).is_some_and(|overrun| overrun.until > SystemTime::now()) {
        return;
    }
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    worker::prepare_timer();
    let pause = statistics_timeout().map_or(Duration::ZERO, pause_after);
    let noted = overruns.note(source, 0, pause);
    let result = worker::in_batch(statistics_timeout(), || {
        worker::in_transaction(|| {
            // Somebody who has the table for himself is not waited for: the next search has it counted.
            let Ok(Some(relation)) = catalog::open_table_now(table) else { return };
            // As autovacuum does: what the table's owner wrote runs with no more than its owner's rights.
            let owner = owner_of(table);
            if partition_of_other(&relation, owner).is_none() {
                acting_as(owner, || renew(&relation, column as usize));
            }
        })
    });
    let noted = noted.and_then(|()| if worker::is_overdue() { Ok(()) } else { overruns.forget(source) });
    if let Err(error) = noted {
        pgrx::debug1!("could not note how the count of a table has ended: {error}");
    }
    if let Err(error) = result {
        let reason = if worker::is_overdue() {
            "it took longer than vector_tools.statistics_timeout allows"
        } else {
            &error.message
        };
        pgrx::log!("could not renew the statistics of table {source}: {reason} ({})", error.sqlstate);
    }
}

fn renew(relation: &PgRelation, column: usize) {
    let Ok(facts) = catalog::read_table(relation) else { return };
    let name = relation.tuple_desc().get(column - 1).map(|attribute| attribute.name().to_owned());
    let Some(column) = name.and_then(|name| facts.find(&name)) else { return };
    let source = KeywordColumn { relation, facts: &facts, column };
    if needs_refresh(&source)
        && let Err(error) = refresh(&source)
    {
        pgrx::log!("could not renew the statistics of {}: {error}", facts.display);
    }
}
