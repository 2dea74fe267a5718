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

/// One line of the log. Its values are in a buffer, at the places that are given.
pub struct Change {
    /// What happened.
    pub operation: Operation,
    /// The partition it happened in.
    pub partition: Option<Rc<AuditedTable>>,
    /// The primary key, a text.
    pub record_id: Option<usize>,
    /// The row before, a jsonb.
    pub old: Option<usize>,
    /// The row after, a jsonb.
    pub new: Option<usize>,
}

impl Change {
    /// The name of the partition.
    pub fn partition_name(&self) -> Option<&str> {
        self.partition.as_ref()?.partition.as_deref()
    }
}

/// Changes and the buffer that their values are in.
#[derive(Default)]
pub struct Changes {
    /// In the order in which they happened.
    pub list: Vec<Change>,
    /// Values of variable length, each beginning at a multiple of four.
    pub values: Vec<u8>,
}

impl Changes {
    /// The value at a place, for as long as nothing is added.
    pub fn datum(&self, place: usize) -> pg_sys::Datum {
        pg_sys::Datum::from(self.values[place..].as_ptr())
    }
}

/// The changes of one statement, all of one table by one role.
#[derive(Default)]
pub struct Frame {
    table: Option<(Rc<AuditedTable>, pg_sys::Oid)>,
    changes: Changes,
}

thread_local! {
    /// The innermost statement is the last.
    static FRAMES: RefCell<Vec<Frame>> = RefCell::default();
    /// Empty, with the memory of changes that are written.
    static SPARE: Cell<Option<Changes>> = const { Cell::new(None) };
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
    let changed = (operation, (old, new), descriptor);
    let alone = statements::add_to_frame(&FRAMES, changed, |frame, (operation, rows, descriptor)| {
        let mut frame = frame.for_changes_of(table)?;
        frame.add(table, operation, rows, descriptor);
        frame.write_if_full()
    })?;
    let Some((operation, rows, descriptor)) = alone else { return Ok(()) };
    let mut frame = Frame::default().for_changes_of(table)?;
    frame.add(table, operation, rows, descriptor);
    record_alone(table, frame, operation, rows)
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
    writer::write(table, current_user(), &Changes { list: vec![change], values: vec![] })
}

fn current_user() -> pg_sys::Oid {
    // SAFETY: a plain look-up.
    unsafe { pg_sys::GetUserId() }
}

/// Writes a change at once. A row that moved has been written as a DELETE when its INSERT comes;
/// command and transaction say that the two belong together.
fn record_alone(
    table: &Rc<AuditedTable>,
    frame: Frame,
    operation: Operation,
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
    match operation {
        Operation::Insert if before.is_some() && before == Some(moved(new, false)) => {
            writer::join_moved(table, &frame.changes)
        }
        Operation::MoveAway => {
            frame.write()?;
            MOVED.set(Some(moved(old, true)));
            Ok(())
        }
        _ => frame.write(),
    }
}

impl Frame {
    /// The frame, ready for changes of a table by the present role: what it has of another table or
    /// by another role is written.
    fn for_changes_of(mut self, table: &Rc<AuditedTable>) -> Result<Frame> {
        let user = current_user();
        let is_other = self.table.as_ref().is_some_and(|(known, by)| {
            *by != user || !(Rc::ptr_eq(known, table) || known.is_written_with(table))
        });
        if is_other {
            self.write()?;
            self = Frame::default();
        }
        if self.table.is_none() {
            self.table = Some((Rc::clone(table), user));
            self.changes = SPARE.take().unwrap_or_default();
        }
        Ok(self)
    }

    fn add(
        &mut self,
        table: &Rc<AuditedTable>,
        operation: Operation,
        (old, new): (pg_sys::HeapTuple, pg_sys::HeapTuple),
        descriptor: pg_sys::TupleDesc,
    ) {
        let values = &mut self.changes.values;
        // SAFETY: the rows are those of the trigger's table, with its descriptor.
        let mut encode = |row: pg_sys::HeapTuple| unsafe {
            (!row.is_null()).then(|| table.encoder.encode(row, descriptor, values))
        };
        let (before, after) = (encode(old), encode(new));
        let change = Change {
            operation,
            partition: table.partition.is_some().then(|| Rc::clone(table)),
            old: before.as_ref().map(|row| row.data),
            new: after.as_ref().map(|row| row.data),
            record_id: after.or(before).and_then(|row| row.key),
        };
        match (self.changes.list.last_mut(), operation) {
            (Some(last), Operation::Insert) if last.operation == Operation::MoveAway => {
                *last = Change { operation: Operation::Update, old: last.old, ..change };
            }
            _ => self.changes.list.push(change),
        }
    }

    fn write_if_full(self) -> Result<Frame> {
        let Changes { list, values } = &self.changes;
        let last = list.last().map_or(Operation::Insert, |last| last.operation);
        if is_full(list.len(), values.len(), last) {
            self.write()?;
            return Ok(Frame::default());
        }
        Ok(self)
    }

    fn write(mut self) -> Result<()> {
        const MOST_KEPT: usize = 1 << 20;
        if let Some((table, user)) = &self.table {
            writer::write(table, *user, &self.changes)?;
            self.changes.list.clear();
            self.changes.values.clear();
            if self.changes.values.capacity() <= MOST_KEPT {
                SPARE.set(Some(self.changes));
            }
        }
        Ok(())
    }
}
