//! Batches that nobody finished: their process died, or the worker gave them up.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::{BatchReport, report, write_outcomes};
use crate::error::Result;
use crate::jobs::flight::{DIED, Flight, OVERDUE};
use crate::jobs::{Outcome, join_entries};
use crate::pg::queue::{self, lease_again};
use crate::pg::{catalog, flights, rights, worker};

/// Notes of the rows of one process that died, of `source` where it is given, that they have failed; `None`
/// where there is none. Its own transaction must be committed before they are tried again, since this process
/// may die of them too.
///
/// # Errors
/// Never in practice.
pub fn settle_orphan(source: Option<pg_sys::Oid>) -> Result<Option<BatchReport>> {
    let may_settle = |flight: &Flight| {
        let table = pg_sys::Oid::from(flight.source);
        let is_own = || catalog::open_table(table).map_or(true, |relation| rights::is_owner(&relation));
        source.is_none_or(|source| source == table) && is_own()
    };
    Ok(flights::settle_next(may_settle, |flight| settle_flight(flight, DIED)))
}

/// Notes of the rows of the batch that this worker has just given up that they have failed.
pub fn settle_overdue() {
    if let Some(flight) = flights::last() {
        settle_flight(&flight, OVERDUE);
    }
}

/// Notes that a batch has failed; `None` where its entries are gone, because it had been noted or was done.
fn settle_flight(flight: &Flight, sqlstate: &str) -> Option<BatchReport> {
    let entries = lease_again(&flight.entries);
    if flight.queue != queue::table().to_u32() || entries.is_empty() {
        return None;
    }
    let keys: HashSet<&[String]> = flight.keys.iter().map(Vec::as_slice).collect();
    let mut jobs = join_entries(&entries, usize::MAX);
    jobs.retain(|job| keys.contains(job.key.as_slice()));
    let outcomes = vec![Outcome::Failed(flight.failure(sqlstate)); jobs.len()];
    let source = pg_sys::Oid::from(flight.source);
    write_outcomes(source, &entries, &jobs, &outcomes);
    worker::note_queued();
    Some(report(source, &outcomes))
}
