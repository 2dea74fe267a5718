//! The background worker that renews the statistics of one table, so that no search has to wait.
//!
//! It starts on demand, without a restart or shared_preload_libraries, and ends with its work. Where
//! no worker can start, searches go on with what there is.

use std::panic::AssertUnwindSafe;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::prelude::*;
use pgrx::{PgRelation, pg_sys};

use super::rights::{acting_as, owner_of};
use super::statistics::{SearchedColumn, needs_refresh, refresh};
use super::{background, catalog, spi};
use crate::search::{Parameter, Statement};

/// Starts a worker for a table and its tsvector column, if one can start.
pub fn start(table: pg_sys::Oid, column: i16) {
    // SAFETY: a variable of this process.
    let database = unsafe { pg_sys::MyDatabaseId };
    let task = format!("{} {} {column}", database.to_u32(), table.to_u32());
    let worker = BackgroundWorkerBuilder::new("vector_tools statistics")
        .set_type("vector_tools statistics")
        .set_library("vector_tools")
        .set_function("renew_statistics")
        .set_extra(&task)
        .set_restart_time(None)
        .enable_spi_access()
        .load_dynamic();
    if worker.is_err() {
        pgrx::debug1!("no background worker is free to renew the statistics of table {}", table.to_u32());
    }
}

/// The worker's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn renew_statistics(_argument: pg_sys::Datum) {
    background::end_when_told();
    let task: Vec<u32> =
        BackgroundWorker::get_extra().split(' ').filter_map(|number| number.parse().ok()).collect();
    let [database, table, column] = task[..] else { return };
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(pg_sys::Oid::from(database)), None);
    BackgroundWorker::transaction(AssertUnwindSafe(|| {
        let table = pg_sys::Oid::from(table);
        let Ok(relation) = catalog::open_table(table) else { return };
        if !is_only_worker(table, column) {
            return;
        }
        // As autovacuum does: what the table's owner wrote runs with no more than its owner's rights.
        acting_as(owner_of(table), || renew(&relation, column as usize));
    }));
}

fn renew(relation: &PgRelation, column: usize) {
    let Ok(facts) = catalog::read_table(relation) else { return };
    let name = relation.tuple_desc().get(column - 1).map(|attribute| attribute.name().to_owned());
    let Some(column) = name.and_then(|name| facts.find(&name)) else { return };
    let source = SearchedColumn { relation, facts: &facts, column };
    if needs_refresh(&source)
        && let Err(error) = refresh(&source)
    {
        pgrx::log!("could not renew the statistics of {}: {error}", facts.display);
    }
}

/// Whether no other worker renews the same statistics. The lock is held until the transaction ends.
fn is_only_worker(table: pg_sys::Oid, column: u32) -> bool {
    let mut statement = Statement::default();
    let table = i64::from(table.to_u32()) << 16 | i64::from(column);
    let key = statement.bind(Parameter::Integer(table));
    statement.push(format_args!("SELECT pg_catalog.pg_try_advisory_xact_lock({key})"));
    spi::query(&statement, |row| row.get::<bool>(1)) == [Some(true)]
}
