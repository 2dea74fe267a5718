//! Lines into a log as COPY writes rows: many to a page at once, without a statement.
//!
//! That skips what a statement would look at: rules, triggers, checks, policies, columns of the
//! owner's. So it is done only for a log that has none of them but the guard, and is as
//! `enable_audit` made it; all others are written by an INSERT.

use pgrx::{IntoDatum, PgRelation, pg_sys};

use super::buffer::{Change, Changes};
use super::triggers::is_guard;
use crate::pg::kept::Kept;
use crate::pg::rights;
use crate::pg::table_triggers::triggers_of;

/// The columns of a log, as its template has them; those that may be NULL must not have been forbidden
/// it.
const COLUMNS: [(&str, pg_sys::Oid); 12] = [
    ("id", pg_sys::INT8OID),
    ("operation", pg_sys::TEXTOID),
    ("table_schema", pg_sys::TEXTOID),
    ("table_name", pg_sys::TEXTOID),
    ("partition_name", pg_sys::TEXTOID),
    ("record_id", pg_sys::TEXTOID),
    ("old_data", pg_sys::JSONBOID),
    ("new_data", pg_sys::JSONBOID),
    ("changed_by", pg_sys::TEXTOID),
    ("session_user_name", pg_sys::TEXTOID),
    ("changed_at", pg_sys::TIMESTAMPTZOID),
    ("transaction_id", pg_sys::XID8OID),
];

const NULLABLE: [&str; 4] = ["partition_name", "record_id", "old_data", "new_data"];

/// Lines that are put into pages together.
const LINES: usize = 256;

unsafe extern "C-unwind" {
    /// The next number of a sequence, without a look at rights, as identity columns take it
    /// (PostgreSQL, sequence.h).
    fn nextval_internal(sequence: pg_sys::Oid, check_permissions: bool) -> i64;
}

thread_local! {
    /// The sequence of each log that can be written directly; `None` for the others.
    static SEQUENCES: Kept<Option<pg_sys::Oid>> = Kept::default();
}

/// Forgets what is known of a log that may have changed, or of all.
pub fn forget(relation: pg_sys::Oid) {
    SEQUENCES.with(|known| known.forget(relation, |log, _| log == relation));
}

/// What all lines share.
pub struct Names<'a> {
    /// The schema of the audited table.
    pub schema: &'a str,
    /// Its name.
    pub table: &'a str,
    /// The role whose rights the change had.
    pub user: String,
    /// The role that had logged in.
    pub session_user: String,
}

/// A log that lines can be put into without a statement.
pub struct DirectLog<'a> {
    log: &'a PgRelation,
    sequence: pg_sys::Oid,
}

impl DirectLog<'_> {
    /// The log, where the present role may insert into it and nothing but the guard watches over it.
    pub fn new(log: &PgRelation) -> Option<DirectLog<'_>> {
        // SAFETY: a look-up for the present role.
        let has_policies = || unsafe {
            let state = pg_sys::check_enable_rls(log.oid(), pg_sys::InvalidOid, true);
            state == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
        };
        // SAFETY: a variable of this process.
        if !rights::may_insert(log, unsafe { pg_sys::GetUserId() }) || has_policies() {
            return None;
        }
        let sequence = SEQUENCES.with(|known| known.get_or_read(log.oid(), || Ok(sequence_of(log))));
        sequence.ok()?.map(|sequence| DirectLog { log, sequence })
    }

    /// Writes changes, all of one table by one role.
    pub fn write(&self, names: &Names, changes: &Changes) {
        // SAFETY: the log is open and locked for writing, with the columns above; everything lives
        // in the executor's state, which is freed at the end, or with the transaction that an error
        // ends.
        unsafe {
            let state = pg_sys::CreateExecutorState();
            let outer = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
            let target = pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            pg_sys::InitResultRelInfo(target, self.log.as_ptr(), 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let columns = pg_sys::CreateTupleDescCopy((*self.log.as_ptr()).rd_att);
            let slots: Vec<*mut pg_sys::TupleTableSlot> = (0..changes.list.len().min(LINES))
                .map(|_| pg_sys::MakeSingleTupleTableSlot(columns, &raw const pg_sys::TTSOpsVirtual))
                .collect();
            let mut lines =
                Lines { state, target, slots, sequence: self.sequence, shared: Shared::new(names) };
            changes.list.chunks(LINES).for_each(|part| lines.write(part, changes));
            pg_sys::ExecCloseIndices(target);
            pg_sys::MemoryContextSwitchTo(outer);
            pg_sys::FreeExecutorState(state);
        }
    }
}

/// The values that all lines share.
struct Shared {
    schema: Option<pg_sys::Datum>,
    table: Option<pg_sys::Datum>,
    user: Option<pg_sys::Datum>,
    session_user: Option<pg_sys::Datum>,
    changed_at: pg_sys::Datum,
    transaction: pg_sys::Datum,
}

impl Shared {
    /// In the current memory context.
    fn new(names: &Names) -> Shared {
        // SAFETY: look-ups; the transaction gets a number if it has none yet.
        let (changed_at, transaction) =
            unsafe { (pg_sys::GetCurrentTransactionStartTimestamp(), pg_sys::GetTopFullTransactionId()) };
        Shared {
            schema: names.schema.into_datum(),
            table: names.table.into_datum(),
            user: names.user.as_str().into_datum(),
            session_user: names.session_user.as_str().into_datum(),
            changed_at: pg_sys::Datum::from(changed_at),
            transaction: pg_sys::Datum::from(transaction.value),
        }
    }
}

struct Lines {
    state: *mut pg_sys::EState,
    target: *mut pg_sys::ResultRelInfo,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    sequence: pg_sys::Oid,
    shared: Shared,
}

impl Lines {
    /// Writes at most as many changes as there are slots.
    ///
    /// # Safety
    /// State, target and slots must be those of the open log.
    unsafe fn write(&mut self, part: &[Change], changes: &Changes) {
        // SAFETY: the caller's promise. Inserting leaves memory behind, so it gets a context that is
        // emptied with each part.
        unsafe {
            let context = per_tuple_context(self.state);
            pg_sys::MemoryContextReset(context);
            let outer = pg_sys::MemoryContextSwitchTo(context);
            for (slot, change) in self.slots.iter().zip(part) {
                self.fill(*slot, change, changes);
            }
            let relation = (*self.target).ri_RelationDesc;
            let (slots, command) = (self.slots.as_mut_ptr(), pg_sys::GetCurrentCommandId(true));
            pg_sys::heap_multi_insert(relation, slots, part.len() as i32, command, 0, std::ptr::null_mut());
            let nothing = std::ptr::null_mut();
            for slot in &self.slots[..part.len()] {
                if (*self.target).ri_NumIndices > 0 {
                    let (target, state) = (self.target, self.state);
                    pg_sys::ExecInsertIndexTuples(
                        target,
                        *slot,
                        state,
                        false,
                        false,
                        std::ptr::null_mut(),
                        nothing,
                        false,
                    );
                }
                pg_sys::ExecClearTuple(*slot);
            }
            pg_sys::MemoryContextSwitchTo(outer);
        }
    }

    unsafe fn fill(&self, slot: *mut pg_sys::TupleTableSlot, change: &Change, changes: &Changes) {
        let datum = |place: Option<usize>| place.map(|place| changes.datum(place));
        // SAFETY: the sequence is that of the log's identity, which cannot be dropped while the log
        // is open; errors of C become panics at the boundary.
        let number = unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(self.sequence, false)) };
        let values = [
            Some(pg_sys::Datum::from(number)),
            change.operation.name().into_datum(),
            self.shared.schema,
            self.shared.table,
            change.partition_name().into_datum(),
            datum(change.record_id),
            datum(change.old),
            datum(change.new),
            self.shared.user,
            self.shared.session_user,
            Some(self.shared.changed_at),
            Some(self.shared.transaction),
        ];
        // SAFETY: the slot has as many places as the log has columns.
        unsafe {
            for (place, value) in values.into_iter().enumerate() {
                *(*slot).tts_values.add(place) = value.unwrap_or(pg_sys::Datum::from(0));
                *(*slot).tts_isnull.add(place) = value.is_none();
            }
            pg_sys::ExecStoreVirtualTuple(slot);
        }
    }
}

unsafe fn per_tuple_context(state: *mut pg_sys::EState) -> pg_sys::MemoryContext {
    // SAFETY: the state is that of an executor.
    unsafe {
        let mut expressions = (*state).es_per_tuple_exprcontext;
        if expressions.is_null() {
            expressions = pg_sys::MakePerTupleExprContext(state);
        }
        (*expressions).ecxt_per_tuple_memory
    }
}

/// The sequence of a log's numbers, when the log is as `enable_audit` makes it.
fn sequence_of(log: &PgRelation) -> Option<pg_sys::Oid> {
    let columns = log.tuple_desc();
    let is_as_made = columns.len() == COLUMNS.len()
        && columns.iter().zip(COLUMNS).all(|(column, (name, type_oid))| {
            !column.attisdropped
                && column.name() == name
                && column.atttypid == type_oid
                && column.atttypmod == -1
                && !(column.attnotnull && NULLABLE.contains(&name))
        });
    // SAFETY: the log is open, so its descriptions are there; a look-up in the catalogue.
    unsafe {
        let relation = &*log.as_ptr();
        let class = &*relation.rd_rel;
        let is_plain =
            class.relkind as u8 == pg_sys::RELKIND_RELATION
                && !class.relispartition
                && relation.rd_tableam == pg_sys::GetHeapamTableAmRoutine()
                && relation.rd_rules.is_null()
                && relation.rd_att.as_ref().and_then(|columns| columns.constr.as_ref()).is_none_or(
                    |constraints| constraints.num_check == 0 && !constraints.has_generated_stored,
                );
        let is_watched = !triggers_of(log).iter().all(is_guard);
        if !is_as_made || !is_plain || is_watched || has_special_index(log) {
            return None;
        }
        #[cfg(feature = "pg16")]
        let sequence = pg_sys::getIdentitySequence(log.oid(), 1, true);
        #[cfg(not(feature = "pg16"))]
        let sequence = pg_sys::getIdentitySequence(log.as_ptr(), 1, true);
        (columns.get(0)?.attidentity != 0 && sequence != pg_sys::InvalidOid).then_some(sequence)
    }
}

/// Whether an index wants more than the values of columns: that of a constraint which waits for the end of the
/// transaction, when triggers check it, or one with an expression or a condition, which may run functions.
fn has_special_index(log: &PgRelation) -> bool {
    log.indices(pg_sys::AccessShareLock as i32).any(|index| {
        // SAFETY: the index is open, so its description and its row of the catalogue are there.
        unsafe {
            let has = |column: u32| {
                !pg_sys::heap_attisnull(index.rd_indextuple, column as i32, std::ptr::null_mut())
            };
            !(*index.rd_index).indimmediate
                || has(pg_sys::Anum_pg_index_indexprs)
                || has(pg_sys::Anum_pg_index_indpred)
        }
    })
}
