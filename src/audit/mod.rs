//! Auditing inside the server: an audit trigger turns a change into a line of the log.

mod buffer;
pub mod functions;
mod row;
mod table;
pub mod triggers;
mod writer;

pub use buffer::{begin_truncate, in_frame};
pub use table::forget;
pub use writer::may_write;

use pgrx::pg_sys;

use crate::kit::trigger_call::TriggerCall;
use vector_tools_core::audit::change::Operation;
use vector_tools_core::error::{Error, Result};

/// What an AFTER trigger was fired for, with the old and the new row.
fn change(call: &TriggerCall) -> Option<(Operation, pg_sys::HeapTuple, pg_sys::HeapTuple)> {
    let nothing = std::ptr::null_mut();
    let data = call.data();
    let row = call.has_timing(pg_sys::TRIGGER_EVENT_AFTER | pg_sys::TRIGGER_EVENT_ROW);
    let statement = call.has_timing(pg_sys::TRIGGER_EVENT_AFTER);
    match data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_INSERT if row => Some((Operation::Insert, nothing, data.tg_trigtuple)),
        pg_sys::TRIGGER_EVENT_UPDATE if row => Some((Operation::Update, data.tg_trigtuple, data.tg_newtuple)),
        pg_sys::TRIGGER_EVENT_DELETE if row => {
            // SAFETY: a DELETE has its row, whose header says whether it went to another partition.
            let place = unsafe { &raw const (*(*data.tg_trigtuple).t_data).t_ctid };
            // SAFETY: it is that header's.
            let moved = unsafe { pg_sys::ItemPointerIndicatesMovedPartitions(place) };
            let operation = if moved { Operation::MoveAway } else { Operation::Delete };
            Some((operation, data.tg_trigtuple, nothing))
        }
        pg_sys::TRIGGER_EVENT_TRUNCATE if statement => Some((Operation::Truncate, nothing, nothing)),
        _ => None,
    }
}

/// Writes the change that fired an audit trigger to its log, at the end of the statement at latest.
///
/// # Errors
/// [`Error::NotATrigger`] (39P01), [`Error::UnusableAuditLog`].
pub fn record(call: TriggerCall) -> Result<()> {
    const EXPECTED: &str = "AFTER … FOR EACH ROW or AFTER TRUNCATE (schema, log, embeddings)";
    let wrong = || Error::NotATrigger { function: "audit_change", expected: EXPECTED };
    let (operation, old, new) = change(&call).ok_or_else(wrong)?;
    let table = table::find(&call)?.ok_or_else(wrong)?;
    if operation == Operation::Truncate {
        return buffer::record_truncate(&table);
    }
    // SAFETY: the table is open while its trigger runs.
    let descriptor = unsafe { (*call.data().tg_relation).rd_att };
    buffer::record_row(&table, operation, (old, new), descriptor)
}
