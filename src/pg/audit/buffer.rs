//! Changes on their way to the log.
//!
//! Row triggers see one row at a time, but one INSERT for each of them would cost more than the
//! row itself. So changes are collected until the statement whose triggers are running has run
//! them all, which the hooks in `pg::statements` say. Where none of them is at work (the statement
//! that loads this library, the apply worker of logical replication) each change is written at
//! once.
//!
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;

use super::table::AuditedTable;
use super::writer;
use crate::error::Result;
use crate::pg::statements;
use crate::tables::audit::change::{Operation, is_full};

/// One line of the log.
pub struct Change {
    /// What happened.
    pub operation: Operation,
    /// The partition it happened in.
    pub partition: Option<Rc<AuditedTable>>,
    /// The primary key.
    pub record_id: Option<String>,
    /// The row before, a jsonb.
    pub old: Option<pg_sys::Datum>,
    /// The row after, a jsonb.
    pub new: Option<pg_sys::Datum>,
}

/// The changes of one statement, all of one table by one role.
#[derive(Default)]
pub struct Frame {
    table: Option<(Rc<AuditedTable>, pg_sys::Oid)>,
    changes: Vec<Change>,
    bytes: usize,
    /// Where the rows are, once there are any; gone with the transaction that an error ends.
    context: Option<pg_sys::MemoryContext>,
}

thread_local! {
    /// The innermost statement is the last.
    static FRAMES: RefCell<Vec<Frame>> = RefCell::default();
    /// A row that left its partition while no frame was there.
    static MOVED: Cell<Option<Moved>> = const { Cell::new(None) };
    /// The tables that the present TRUNCATE has written already, and its transaction.
    static TRUNCATED: RefCell<(pg_sys::TransactionId, Vec<pg_sys::Oid>)> = RefCell::default();
}

/// Which command moved a row out of which table's partition.
#[derive(Clone, Copy, PartialEq)]
struct Moved {
    root: pg_sys::Oid,
    transaction: pg_sys::TransactionId,
    command: pg_sys::CommandId,
}

/// Runs a part of a statement that fires its triggers, and then writes what they collected.
pub fn in_frame(work: impl FnOnce()) -> Result<()> {
    statements::in_frame(&FRAMES, work, Frame::write)
}

/// Notes that a new TRUNCATE begins.
pub fn begin_truncate() {
    TRUNCATED.with_borrow_mut(|(_, tables)| tables.clear());
}

/// Notes a changed row.
pub fn record_row(
    table: &Rc<AuditedTable>,
    operation: Operation,
    (old, new): (pg_sys::HeapTuple, pg_sys::HeapTuple),
    descriptor: pg_sys::TupleDesc,
) -> Result<()> {
    // SAFETY: the rows are those of the trigger's table, with its descriptor.
    let encode =
        |row: pg_sys::HeapTuple| unsafe { (!row.is_null()).then(|| table.encoder.encode(row, descriptor)) };
    let (before, after) = (encode(old), encode(new));
    let change = Change {
        operation,
        partition: table.partition.is_some().then(|| Rc::clone(table)),
        old: before.as_ref().map(|row| row.data),
        new: after.as_ref().map(|row| row.data),
        record_id: after.or(before).and_then(|row| row.key),
    };
    let alone = statements::add_to_frame(&FRAMES, change, |frame, change| frame.add(table, change))?;
    alone.map_or(Ok(()), |change| record_alone(table, change, (old, new)))
}

/// Notes that a table was truncated, unless that is part of truncating a table it is a partition of.
pub fn record_truncate(table: &Rc<AuditedTable>) -> Result<()> {
    // SAFETY: a plain look-up.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    let ancestors = table.ancestors();
    let is_known = TRUNCATED.with_borrow_mut(|(known_transaction, tables)| {
        if *known_transaction != transaction {
            (*known_transaction, *tables) = (transaction, vec![]);
        }
        // PostgreSQL fires the triggers of a table before those of its partitions.
        let is_known = ancestors.iter().any(|ancestor| tables.contains(ancestor));
        tables.push(table.relation);
        is_known
    });
    if is_known {
        return Ok(());
    }
    let partition = table.partition.is_some().then(|| Rc::clone(table));
    let change = Change { operation: Operation::Truncate, partition, record_id: None, old: None, new: None };
    writer::write(table, current_user(), &[change])
}

fn current_user() -> pg_sys::Oid {
    // SAFETY: a plain look-up.
    unsafe { pg_sys::GetUserId() }
}

/// Writes a change at once. A row that moved has been written as a DELETE when its INSERT comes;
/// command and transaction say that the two belong together.
fn record_alone(
    table: &Rc<AuditedTable>,
    change: Change,
    (old, new): (pg_sys::HeapTuple, pg_sys::HeapTuple),
) -> Result<()> {
    // SAFETY: the rows are those of the trigger, of the present transaction's making.
    let moved = |row: pg_sys::HeapTuple, of_delete: bool| unsafe {
        let header = (*row).t_data;
        let command = if of_delete {
            pg_sys::HeapTupleHeaderGetCmax(header)
        } else {
            pg_sys::HeapTupleHeaderGetCmin(header)
        };
        Moved { root: table.root, transaction: pg_sys::GetTopTransactionIdIfAny(), command }
    };
    let before = MOVED.take();
    match change.operation {
        Operation::Insert if before.is_some() && before == Some(moved(new, false)) => {
            writer::join_moved(table, &change)
        }
        Operation::MoveAway => {
            writer::write(table, current_user(), &[change])?;
            MOVED.set(Some(moved(old, true)));
            Ok(())
        }
        _ => writer::write(table, current_user(), &[change]),
    }
}

impl Frame {
    fn add(mut self, table: &Rc<AuditedTable>, change: Change) -> Result<Frame> {
        let user = current_user();
        let is_other = self.table.as_ref().is_some_and(|(known, by)| {
            *by != user || !(Rc::ptr_eq(known, table) || known.is_written_with(table))
        });
        if is_other {
            self = self.write_and_renew()?;
        }
        if self.table.is_none() {
            self.table = Some((Rc::clone(table), user));
        }
        let mut change = change;
        change.old = change.old.map(|data| self.keep(data));
        change.new = change.new.map(|data| self.keep(data));
        match (self.changes.last_mut(), change.operation) {
            (Some(last), Operation::Insert) if last.operation == Operation::MoveAway => {
                last.operation = Operation::Update;
                last.new = change.new;
                last.record_id = change.record_id;
                last.partition = change.partition;
            }
            _ => self.changes.push(change),
        }
        let last = self.changes.last().map_or(Operation::Insert, |last| last.operation);
        if is_full(self.changes.len(), self.bytes, last) { self.write_and_renew() } else { Ok(self) }
    }

    /// Copies a jsonb, since that of a trigger lives no longer than its call.
    fn keep(&mut self, data: pg_sys::Datum) -> pg_sys::Datum {
        // SAFETY: the datum is a plain jsonb; the context goes away with the frame or with the
        // transaction.
        unsafe {
            let context = *self.context.get_or_insert_with(|| {
                pg_sys::AllocSetContextCreateInternal(
                    pg_sys::CurTransactionContext,
                    c"vector_tools audit".as_ptr(),
                    0,
                    8 * 1024,
                    1024 * 1024,
                )
            });
            let given: *mut pg_sys::varlena = data.cast_mut_ptr();
            let bytes = pgrx::varlena::varsize_any(given);
            let copy = pg_sys::MemoryContextAlloc(context, bytes);
            std::ptr::copy_nonoverlapping(given.cast::<u8>(), copy.cast(), bytes);
            self.bytes += bytes;
            pg_sys::Datum::from(copy)
        }
    }

    fn write_and_renew(mut self) -> Result<Frame> {
        let context = self.context.take();
        self.write()?;
        if let Some(context) = context {
            // SAFETY: the changes that pointed into it are written.
            unsafe { pg_sys::MemoryContextReset(context) };
        }
        Ok(Frame { context, ..Frame::default() })
    }

    fn write(self) -> Result<()> {
        if let Some((table, user)) = &self.table {
            writer::write(table, *user, &self.changes)?;
        }
        if let Some(context) = self.context {
            // SAFETY: made in keep, and everything in it is written.
            unsafe { pg_sys::MemoryContextDelete(context) };
        }
        Ok(())
    }
}
