//! Changes on their way to the log.
//!
//! Row triggers see one row at a time, but one INSERT for each of them would cost more than the
//! row itself. So changes are collected until the statement whose triggers are running has run
//! them all, which the hooks in `pg::statements` say. Where none of them is at work (the statement
//! that loads this library, the apply worker of logical replication) each change is written at
//! once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;

use crate::audit::row::EncodedRow;
use crate::audit::table::AuditedTable;
use crate::audit::writer;
use crate::hooks;
use vector_tools_core::audit::change::{Operation, is_full};
use vector_tools_core::error::Result;

/// One line of the log. Its values are in the memory of its batch.
pub struct Change {
    /// What happened.
    pub operation: Operation,
    /// The partition it happened in.
    pub partition: Option<Rc<AuditedTable>>,
    /// The primary key, a text.
    pub record_id: Option<pg_sys::Datum>,
    /// The row before, a jsonb.
    pub old: Option<pg_sys::Datum>,
    /// The row after, a jsonb.
    pub new: Option<pg_sys::Datum>,
}

impl Change {
    /// The name of the partition.
    pub fn partition_name(&self) -> Option<&str> {
        self.partition.as_ref()?.partition.as_deref()
    }
}

/// What a trigger for rows has been handed.
struct ChangedRow {
    operation: Operation,
    old: pg_sys::HeapTuple,
    new: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

/// The changes of one table by one role, which one INSERT writes.
struct Batch {
    table: Rc<AuditedTable>,
    user: pg_sys::Oid,
    /// In the order in which they happened.
    changes: Vec<Change>,
    /// How much their values take.
    bytes: usize,
    /// Where their values are, until they are written or the (sub)transaction is rolled back.
    memory: pg_sys::MemoryContext,
}

/// The changes of one statement.
#[derive(Default)]
pub struct Frame {
    batches: Vec<Batch>,
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
    hooks::in_frame(&FRAMES, work, Frame::write)
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
    let row = ChangedRow { operation, old, new, descriptor };
    let alone = hooks::add_to_frame(&FRAMES, row, |frame, row| frame.add(table, &row))?;
    alone.map_or(Ok(()), |row| record_alone(table, &row))
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
fn record_alone(table: &Rc<AuditedTable>, row: &ChangedRow) -> Result<()> {
    // SAFETY: the rows are those of the trigger, of the present transaction's making.
    let moved = |tuple: pg_sys::HeapTuple, of_delete: bool| unsafe {
        let header = (*tuple).t_data;
        let command = if of_delete {
            pg_sys::HeapTupleHeaderGetCmax(header)
        } else {
            pg_sys::HeapTupleHeaderGetCmin(header)
        };
        Moved { root: table.root, transaction: pg_sys::GetTopTransactionIdIfAny(), command }
    };
    let mut batch = Batch::new(table, current_user());
    batch.add(table, row);
    let before = MOVED.take();
    match (row.operation, batch.changes.as_slice()) {
        (Operation::Insert, [change]) if before.is_some() && before == Some(moved(row.new, false)) => {
            writer::join_moved(table, change)
        }
        (Operation::MoveAway, _) => {
            batch.write()?;
            MOVED.set(Some(moved(row.old, true)));
            Ok(())
        }
        _ => batch.write(),
    }
}

impl Frame {
    /// Adds a change of the present role to the batch it belongs to, which is written when it is full.
    fn add(mut self, table: &Rc<AuditedTable>, row: &ChangedRow) -> Result<Frame> {
        let user = current_user();
        let known = self.batches.iter().position(|batch| batch.takes(table, user));
        let place = known.unwrap_or(self.batches.len());
        if known.is_none() {
            self.batches.push(Batch::new(table, user));
        }
        self.batches[place].add(table, row);
        if self.batches[place].is_full() {
            self.batches.remove(place).write()?;
        }
        Ok(self)
    }

    fn write(self) -> Result<()> {
        self.batches.into_iter().try_for_each(Batch::write)
    }
}

impl Batch {
    fn new(table: &Rc<AuditedTable>, user: pg_sys::Oid) -> Batch {
        // SAFETY: the context of the (sub)transaction that the statement is in outlives the batch, and is
        // deleted with all below it when an error ends that.
        let memory = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurTransactionContext,
                c"vector_tools audited changes".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        Batch { table: Rc::clone(table), user, changes: vec![], bytes: 0, memory }
    }

    /// Whether changes of a table by a role belong to it.
    fn takes(&self, table: &Rc<AuditedTable>, user: pg_sys::Oid) -> bool {
        self.user == user && (Rc::ptr_eq(&self.table, table) || self.table.is_written_with(table))
    }

    fn add(&mut self, table: &Rc<AuditedTable>, row: &ChangedRow) {
        // SAFETY: the rows are those of the trigger's table, with its descriptor.
        let encode = |tuple: pg_sys::HeapTuple| unsafe {
            (!tuple.is_null()).then(|| table.encoder.encode(tuple, row.descriptor))
        };
        let (before, after) = (encode(row.old), encode(row.new));
        let key = after.as_ref().or(before.as_ref()).and_then(|encoded| encoded.key);
        let data = |encoded: Option<EncodedRow>| encoded.map(|encoded| encoded.data);
        let change = Change {
            operation: row.operation,
            partition: table.partition.is_some().then(|| Rc::clone(table)),
            record_id: self.keep(key),
            old: self.keep(data(before)),
            new: self.keep(data(after)),
        };
        match self.changes.last_mut() {
            Some(last) if last.operation == Operation::MoveAway && row.operation == Operation::Insert => {
                *last = Change { operation: Operation::Update, old: last.old, ..change };
            }
            _ => self.changes.push(change),
        }
    }

    /// Copies a value, a text or jsonb, since what a trigger makes is gone when the next one fires.
    fn keep(&mut self, value: Option<pg_sys::Datum>) -> Option<pg_sys::Datum> {
        let value = value?;
        // SAFETY: both types have variable length; the memory is the batch's own.
        unsafe {
            self.bytes += pgrx::varlena::varsize_any(value.cast_mut_ptr());
            let outer = pg_sys::MemoryContextSwitchTo(self.memory);
            let copy = pg_sys::pg_detoast_datum_copy(value.cast_mut_ptr());
            pg_sys::MemoryContextSwitchTo(outer);
            Some(pg_sys::Datum::from(copy))
        }
    }

    fn is_full(&self) -> bool {
        let last = self.changes.last().map_or(Operation::Insert, |last| last.operation);
        is_full(self.changes.len(), self.bytes, last)
    }

    fn write(self) -> Result<()> {
        writer::write(&self.table, self.user, &self.changes)?;
        // SAFETY: made in new; the values in it are written.
        unsafe { pg_sys::MemoryContextDelete(self.memory) };
        Ok(())
    }
}
