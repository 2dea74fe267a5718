//! The queue of rows to embed: how triggers fill it, and what the table of it is.
//!
//! Row triggers see one row at a time, but one INSERT for each of them would cost more than the row
//! itself, and so would one line of the queue. So keys are collected, and an entry is written for as
//! many of a statement as a batch embeds (see `pg::statements`). In sync mode the rows are embedded at
//! that moment instead, in batches.

mod table;

use std::cell::RefCell;
use std::rc::Rc;

pub use table::{QueuedTable, forget};

use pgrx::pg_sys;

use crate::hooks;
use crate::kit::trigger_call::TriggerCall;
use crate::kit::{catalog, rights, spi};
use crate::pipeline::{jobs, worker};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::Entry;
use vector_tools_core::pipeline::Mode;
use vector_tools_core::pipeline::agenda::size_under_suspicion;
use vector_tools_core::pipeline::queue::{Urgency, enqueue, lease, lease_these};
use vector_tools_core::pipeline::requeue::in_entries;

/// So many keys are written at once at most.
const MOST_KEYS: usize = 1024;

/// So many rows are embedded at once at most, in sync mode.
const MOST_ROWS: usize = 256;

/// The rows that a statement has changed, all of one table.
#[derive(Default)]
pub struct Frame {
    table: Option<Rc<QueuedTable>>,
    keys: Vec<Vec<String>>,
}

thread_local! {
    /// The innermost statement is the last.
    static FRAMES: RefCell<Vec<Frame>> = RefCell::default();
}

/// Runs a part of a statement that fires its triggers, and then queues or embeds what they collected.
pub fn in_frame(work: impl FnOnce()) -> Result<()> {
    hooks::in_frame(&FRAMES, work, Frame::write)
}

/// Notes the row that fired a trigger.
///
/// # Errors
/// [`Error::NotATrigger`] (39P01), and in sync mode those of embedding.
pub fn record(call: TriggerCall) -> Result<()> {
    const EXPECTED: &str = "AFTER INSERT OR UPDATE … FOR EACH ROW (options, what it watches)";
    let wrong = || Error::NotATrigger { function: "queue_row", expected: EXPECTED };
    let data = call.data();
    let row = match data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        _ if !call.has_timing(pg_sys::TRIGGER_EVENT_AFTER | pg_sys::TRIGGER_EVENT_ROW) => return Err(wrong()),
        pg_sys::TRIGGER_EVENT_INSERT => data.tg_trigtuple,
        pg_sys::TRIGGER_EVENT_UPDATE => data.tg_newtuple,
        _ => return Err(wrong()),
    };
    let table = table::find(&call)?.ok_or_else(wrong)?;
    // SAFETY: the row is that of the trigger's table, which is open while the trigger runs.
    let key = unsafe { table.key_of(row, (*data.tg_relation).rd_att) };
    let alone = hooks::add_to_frame(&FRAMES, key, |frame, key| frame.add(&table, key))?;
    match alone {
        Some(key) => Frame { table: Some(table), keys: vec![key] }.write(),
        None => Ok(()),
    }
}

impl Frame {
    fn add(mut self, table: &Rc<QueuedTable>, key: Vec<String>) -> Result<Frame> {
        if self.table.as_ref().is_some_and(|known| !known.is_queued_with(table)) {
            std::mem::take(&mut self).write()?;
        }
        if self.table.is_none() {
            self.table = Some(Rc::clone(table));
        }
        // One row fires several triggers where content and key change.
        if self.keys.last() != Some(&key) {
            self.keys.push(key);
        }
        let most = if table.mode == Mode::Sync { MOST_ROWS } else { MOST_KEYS };
        if self.keys.len() >= most {
            std::mem::take(&mut self).write()?;
        }
        Ok(self)
    }

    fn write(self) -> Result<()> {
        match self.table {
            Some(table) if self.keys.is_empty() => {
                drop(table);
                Ok(())
            }
            Some(table) if table.mode == Mode::Sync => jobs::embed_now(table.root, &self.keys),
            Some(table) => {
                enqueue_keys(table.root, &self.keys);
                if table.mode == Mode::Async {
                    worker::note_queued();
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Adds rows to the queue.
pub fn enqueue_keys(source: pg_sys::Oid, keys: &[Vec<String>]) {
    enqueue_with(source, keys, Urgency::Usual);
}

/// Adds rows to the queue, as urgent as that.
pub fn enqueue_with(source: pg_sys::Oid, keys: &[Vec<String>], urgency: Urgency) {
    with_rights_of_queue(|| {
        for part in in_entries(keys) {
            spi::execute(&enqueue(source.to_u32(), part, urgency));
        }
    });
}

/// Leases entries of a table that have so many rows at least, where there are as many; one entry may
/// have more. Returns how many of their rows may be tried at once, too: fewer where some of them are
/// under suspicion.
pub fn lease_entries(source: pg_sys::Oid, most_rows: usize) -> (Vec<Entry>, usize) {
    let (mut entries, mut rows, mut most) = (Vec::new(), 0, most_rows);
    with_rights_of_queue(|| {
        spi::take_while(&lease(source.to_u32(), most_rows), |row| {
            let Some(entry) = read_entry(row) else { return true };
            let most_of_entry = size_under_suspicion(most_rows, entry.suspicions);
            if entries.is_empty() {
                most = most_of_entry;
            } else if most_of_entry != most {
                // Rows under suspicion are tried without others, which they would take along.
                return false;
            }
            rows += entry.keys.len();
            entries.push(entry);
            rows < most
        });
    });
    (entries, most)
}

/// Leases these entries, as far as they are there and nobody has them.
pub fn lease_again(entries: &[i64]) -> Vec<Entry> {
    let found = with_rights_of_queue(|| spi::query_new_snapshot(&lease_these(entries.to_vec()), read_entry));
    found.into_iter().flatten().collect()
}

fn read_entry(row: &spi::Row) -> Option<Entry> {
    let texts: Vec<String> = row.get(2)?;
    let width = usize::try_from(row.get::<i32>(3)?).ok().filter(|width| *width > 0)?;
    let keys = texts.chunks(width).map(<[String]>::to_vec).collect();
    let number = |column| row.get::<i32>(column).and_then(|number| u32::try_from(number).ok());
    Some(Entry { id: row.get(1)?, keys, attempts: number(4)?, suspicions: number(5)? })
}

/// The table of the queue; zero where the extension has not been created.
pub fn table() -> pg_sys::Oid {
    catalog::state_table(c"queue")
}

/// Whether there is a queue in this database.
pub fn exists() -> bool {
    table() != pg_sys::InvalidOid
}

/// Runs a fixed statement over the queue with the rights of its owner.
pub fn with_rights_of_queue<T>(work: impl FnOnce() -> T) -> T {
    rights::with_rights_of_state(c"queue", work)
}
