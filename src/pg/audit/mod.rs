//! Auditing inside the server: an audit trigger turns a change into a line of the log.

mod buffer;
mod direct;
mod row;
mod statements;
mod table;
pub mod triggers;
mod writer;

pub use statements::watch_statements;
pub use writer::may_write;

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::tables::audit::change::Operation;

/// Asks PostgreSQL to say when statements end, and when a table may have changed.
pub fn watch() {
    table::watch();
    watch_statements();
}

/// The call of a trigger that is under way.
#[derive(Clone, Copy)]
pub struct TriggerCall<'a>(&'a pg_sys::TriggerData);

impl TriggerCall<'_> {
    /// Reads the call of a trigger function.
    ///
    /// # Errors
    /// [`Error::NotATrigger`] (39P01) when something else called it.
    pub(crate) fn new<'a>(
        call: pg_sys::FunctionCallInfo,
        function: &'static str,
        expected: &'static str,
    ) -> Result<TriggerCall<'a>> {
        // SAFETY: the call is under way, and its context is a node or NULL; that of a trigger is
        // its data, which lives as long as the call.
        unsafe {
            let context = (*call).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return Err(Error::NotATrigger { function, expected });
            }
            Ok(TriggerCall(&*context.cast::<pg_sys::TriggerData>()))
        }
    }

    fn trigger(&self) -> &pg_sys::Trigger {
        // SAFETY: a trigger's data has its trigger.
        unsafe { &*self.0.tg_trigger }
    }

    /// The table whose change fired it.
    pub fn relation(&self) -> pg_sys::Oid {
        // SAFETY: the table is open while its trigger runs.
        unsafe { (*self.0.tg_relation).rd_id }
    }

    fn has_timing(&self, wanted: u32) -> bool {
        let mask = pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
        self.0.tg_event & mask == wanted
    }

    /// What an AFTER trigger was fired for, with the old and the new row.
    fn change(&self) -> Option<(Operation, pg_sys::HeapTuple, pg_sys::HeapTuple)> {
        let nothing = std::ptr::null_mut();
        let data = self.0;
        let row = self.has_timing(pg_sys::TRIGGER_EVENT_AFTER | pg_sys::TRIGGER_EVENT_ROW);
        let statement = self.has_timing(pg_sys::TRIGGER_EVENT_AFTER);
        match data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT if row => Some((Operation::Insert, nothing, data.tg_trigtuple)),
            pg_sys::TRIGGER_EVENT_UPDATE if row => {
                Some((Operation::Update, data.tg_trigtuple, data.tg_newtuple))
            }
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
}

/// The arguments of a trigger.
fn arguments_of(trigger: &pg_sys::Trigger) -> Vec<String> {
    // SAFETY: a trigger has as many C strings as tgnargs says.
    let argument = |place| unsafe { CStr::from_ptr(*trigger.tgargs.add(place)) };
    (0..trigger.tgnargs as usize).map(|place| argument(place).to_string_lossy().into_owned()).collect()
}

/// Writes the change that fired an audit trigger to its log, at the end of the statement at latest.
///
/// # Errors
/// [`Error::NotATrigger`] (39P01), [`Error::UnusableAuditLog`].
pub fn record(call: TriggerCall) -> Result<()> {
    const EXPECTED: &str = "AFTER … FOR EACH ROW or AFTER TRUNCATE (schema, log, embeddings)";
    let wrong = || Error::NotATrigger { function: "audit_change", expected: EXPECTED };
    let (operation, old, new) = call.change().ok_or_else(wrong)?;
    let table = table::find(&call)?.ok_or_else(wrong)?;
    if operation == Operation::Truncate {
        return buffer::record_truncate(&table);
    }
    // SAFETY: the table is open while its trigger runs.
    let descriptor = unsafe { (*call.0.tg_relation).rd_att };
    buffer::record_row(&table, operation, (old, new), descriptor)
}
