//! The triggers of a table.

use pgrx::{PgRelation, pg_sys};

use crate::kit::catalog;
use crate::kit::trigger_call::arguments_of;

/// A trigger of a table, copied: what the table's cache entry holds goes away when another session changes
/// the triggers or vacuums the table, which a reader's lock does not keep it from, as soon as the catalogue
/// is looked at.
pub struct TableTrigger {
    /// Its number.
    pub oid: pg_sys::Oid,
    /// The function that it calls.
    pub function: pg_sys::Oid,
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether it fires for rows; else for statements.
    pub is_for_rows: bool,
    /// When it fires, by a letter: in ordinary sessions, in replicas, always or never.
    pub enabled: u8,
    /// Whether it is the copy of a partition.
    pub is_copy: bool,
}

impl TableTrigger {
    fn copy(trigger: &pg_sys::Trigger) -> TableTrigger {
        TableTrigger {
            oid: trigger.tgoid,
            function: trigger.tgfoid,
            name: catalog::owned_text(trigger.tgname).unwrap_or_default(),
            arguments: arguments_of(trigger),
            is_for_rows: trigger.tgtype as u32 & pg_sys::TRIGGER_TYPE_ROW != 0,
            enabled: trigger.tgenabled as u8,
            is_copy: trigger.tgisclone,
        }
    }

    /// Whether it calls this function of the extension's state.
    fn calls(&self, function: &str) -> bool {
        catalog::is_state_function(self.function, function)
    }
}

/// All triggers of a table, in the order of their names.
fn triggers_of(table: &PgRelation) -> Vec<TableTrigger> {
    // SAFETY: the table is open, so its trigger descriptor is there until the catalogue is looked at, which
    // copying does not do.
    unsafe {
        match (*table.as_ptr()).trigdesc.as_ref() {
            Some(found) => std::slice::from_raw_parts(found.triggers, found.numtriggers as usize)
                .iter()
                .map(TableTrigger::copy)
                .collect(),
            None => vec![],
        }
    }
}

/// The triggers of a table that call a function of the extension's state, in the order of their names.
pub fn own_triggers(table: &PgRelation, function: &str) -> Vec<TableTrigger> {
    triggers_of(table).into_iter().filter(|trigger| trigger.calls(function)).collect()
}
