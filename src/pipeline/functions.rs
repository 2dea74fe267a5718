//! The SQL functions that drive the queue. Their declarations are in sql/pipeline.sql.

use pgrx::prelude::*;

use crate::kit::report::OrReport;
use crate::kit::trigger_call::TriggerCall;
use crate::kit::{catalog, rights, session, spi};
use crate::pipeline::jobs::{begin_queued_batch, run_queued_batch, wait_for_others};
use crate::pipeline::queue;
use crate::pipeline::queue::with_rights_of_queue;
use crate::pipeline::worker;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::Category;

/// Rows of a batch unless asked otherwise: a few seconds of work, which is what a crash costs.
const DEFAULT_ROWS: i64 = 256;

/// Trigger (options, what it watches). What an AFTER trigger gives back is ignored, but must not be
/// NULL.
#[pg_extern(sql = false)]
fn queue_row(fcinfo: pg_sys::FunctionCallInfo) -> i64 {
    let call = TriggerCall::new(fcinfo, "queue_row", "a search's").or_report();
    queue::record(call).or_report();
    0
}

#[pg_extern(sql = false)]
fn begin_embedding_batch(source: Option<pg_sys::Oid>) -> bool {
    session::forbid_when_read_only(c"begin_embedding_batch");
    begin_queued_batch(source, DEFAULT_ROWS as usize).or_report()
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn run_embedding_batch(
    source: Option<pg_sys::Oid>,
    max_rows: Option<i64>,
) -> TableIterator<
    'static,
    (
        // A regclass is passed as the oid it is.
        name!(table_name, Option<pg_sys::Oid>),
        name!(embedded, i64),
        name!(chunks, i64),
        name!(unchanged, i64),
        name!(gone, i64),
        name!(postponed, i64),
        name!(failed, i64),
    ),
> {
    session::forbid_when_read_only(c"run_embedding_batch");
    let run = || run_queued_batch(source, rows_asked_for(max_rows)?);
    let report = run().or_report();
    TableIterator::new(report.into_iter().map(|report| {
        let (embedded, chunks) = report.embedded;
        (report.source, embedded, chunks, report.unchanged, report.gone, report.postponed, report.failed)
    }))
}

#[pg_extern(sql = false)]
fn wait_for_embedding(source: Option<pg_sys::Oid>) -> bool {
    wait_for_others(source).or_report()
}

fn rows_asked_for(max_rows: Option<i64>) -> Result<usize> {
    let rows = max_rows.unwrap_or(DEFAULT_ROWS);
    if (1..=10_000).contains(&rows) {
        return Ok(rows as usize);
    }
    Err(Error::InvalidArgument {
        argument: "max_rows",
        expected: "between 1 and 10000".to_owned(),
        found: rows.to_string(),
    })
}

#[pg_extern(sql = false)]
fn retry_embedding_errors(source: Option<pg_sys::Oid>, category: Option<&str>) -> Option<i64> {
    session::forbid_when_read_only(c"retry_embedding_errors");
    Some(retry(source?, category).or_report())
}

fn retry(source: pg_sys::Oid, category: Option<&str>) -> Result<i64> {
    let table = catalog::open_table(source)?;
    if !rights::is_owner(&table) {
        return Err(Error::NotOwnerToSearch { table: catalog::display_name(&table) });
    }
    let read = |name: &str| {
        Category::from_name(name).ok_or_else(|| Error::InvalidArgument {
            argument: "category",
            expected: "'row', 'model' or 'resource'".to_owned(),
            found: format!("'{name}'"),
        })
    };
    let category = category.map(read).transpose()?;
    let statement = vector_tools_core::pipeline::queue::retry(source.to_u32(), category);
    let rows = with_rights_of_queue(|| spi::query_new_snapshot(&statement, |row| row.get::<i64>(1)));
    worker::note_queued();
    Ok(rows.into_iter().flatten().sum())
}
