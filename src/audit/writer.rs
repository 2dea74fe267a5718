//! Writing changes to a log, with the rights of the audited table's owner.
//!
//! Who may make a trigger may name any log in it. So the log must be one that the table's owner may
//! write to; and since whoever owns a table can have it run functions of theirs (in triggers,
//! defaults, checks), its owner must be a role that has the rights of the table's owner already.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::{IntoDatum, PgRelation, pg_sys};

use crate::audit::buffer::Change;
use crate::audit::table::AuditedTable;
use crate::kit::{catalog, rights, spi};
use vector_tools_core::audit::{insert_sql, join_sql};
use vector_tools_core::error::{Error, Result};

thread_local! {
    /// The log that is being written to by this module.
    static WRITING: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

struct WritingGuard(pg_sys::Oid);

impl Drop for WritingGuard {
    fn drop(&mut self) {
        WRITING.set(self.0);
    }
}

/// Whether a statement may change a log: one of this module, or one of the log's owner.
pub fn may_write(log: &PgRelation) -> bool {
    WRITING.get() == log.oid() || rights::is_owner(log)
}

const TEXT: pg_sys::Oid = pg_sys::TEXTOID;
const JSONB: pg_sys::Oid = pg_sys::JSONBOID;

/// Writes changes, all of one table by one role, with one INSERT.
///
/// # Errors
/// [`Error::UnusableAuditLog`], with the SQLSTATE that says why.
pub fn write(table: &AuditedTable, user: pg_sys::Oid, changes: &[Change]) -> Result<()> {
    const TEXTS: pg_sys::Oid = pg_sys::TEXTARRAYOID;
    const JSONBS: pg_sys::Oid = pg_sys::JSONBARRAYOID;
    rights::acting_as(table.owner, || {
        let log = open_log(table)?;
        let _guard = WritingGuard(WRITING.replace(log.oid()));
        let types = [TEXT, TEXT, TEXT, TEXT, TEXTS, TEXTS, TEXTS, JSONBS, JSONBS];
        spi::execute_with(&insert_sql(&table.options.log), &types, || {
            vec![
                table.name.schema.as_str().into_datum(),
                table.name.name.as_str().into_datum(),
                rights::role_name(user).into_datum(),
                rights::role_name(session_user()).into_datum(),
                array_of(changes, TEXT, |change| change.operation.name().into_datum()),
                array_of(changes, TEXT, |change| change.partition_name().into_datum()),
                array_of(changes, TEXT, |change| change.record_id),
                array_of(changes, JSONB, |change| change.old),
                array_of(changes, JSONB, |change| change.new),
            ]
        });
        Ok(())
    })
}

/// Makes one UPDATE of a row's two halves, the first of which is written.
///
/// # Errors
/// As [`write`].
pub fn join_moved(table: &AuditedTable, change: &Change) -> Result<()> {
    let log = rights::acting_as(table.owner, || open_log(table))?;
    // The table's owner may have the right to add lines only.
    rights::acting_as(rights::owner(&log), || {
        let _guard = WritingGuard(WRITING.replace(log.oid()));
        spi::execute_with(&join_sql(&table.options.log), &[TEXT, TEXT, TEXT, TEXT, JSONB], || {
            vec![
                table.name.schema.as_str().into_datum(),
                table.name.name.as_str().into_datum(),
                change.partition_name().into_datum(),
                change.record_id,
                change.new,
            ]
        });
    });
    Ok(())
}

/// Opens the log, which nobody can replace until the transaction ends.
fn open_log(table: &AuditedTable) -> Result<PgRelation> {
    let log = &table.options.log;
    let unusable = |sqlstate, reason: &str| Error::UnusableAuditLog {
        table: table.name.to_string(),
        log: log.to_string(),
        sqlstate,
        reason: reason.to_owned(),
    };
    let gone = || unusable("42P01", "there is no such relation");
    let [schema, name] = [&log.schema, &log.name].map(|name| CString::new(name.as_str()));
    let (Ok(schema), Ok(name)) = (schema, name) else {
        return Err(gone());
    };
    // SAFETY: the names live through the call; a log that is gone gives NULL, and the value closes
    // what was opened.
    let relation = unsafe {
        let name = pg_sys::makeRangeVar(schema.as_ptr().cast_mut(), name.as_ptr().cast_mut(), -1);
        let relation = pg_sys::table_openrv_extended(name, pg_sys::RowExclusiveLock as i32, true);
        if relation.is_null() {
            return Err(gone());
        }
        PgRelation::from_pg_owned(relation)
    };
    check_opened(&relation, table.owner, unusable)?;
    Ok(relation)
}

/// Checks that an open relation may be the log of a role's tables.
pub fn check_opened(
    log: &PgRelation,
    owner: pg_sys::Oid,
    unusable: impl Fn(&'static str, &str) -> Error,
) -> Result<()> {
    if !catalog::is_table(log) {
        return Err(unusable("42809", "it is not a table"));
    }
    if !is_owned_for(log, owner) {
        return Err(unusable(
            "42501",
            "it, or a partition of it, belongs to a role that has not the rights of the table's owner",
        ));
    }
    Ok(())
}

/// Whether a log, with all of its partitions, belongs to a role that may do whatever the owner of an audited table may.
pub fn is_owned_for(log: &PgRelation, owner: pg_sys::Oid) -> bool {
    let keeper = rights::owner(log);
    rights::has_rights_of(keeper, owner) && rights::partition_of_other(log, keeper).is_none()
}

fn session_user() -> pg_sys::Oid {
    // SAFETY: a plain look-up.
    unsafe { pg_sys::GetSessionUserId() }
}

/// An array of one value of each change, in the current memory context.
fn array_of(
    changes: &[Change],
    element: pg_sys::Oid,
    value: impl Fn(&Change) -> Option<pg_sys::Datum>,
) -> Option<pg_sys::Datum> {
    let values: Vec<Option<pg_sys::Datum>> = changes.iter().map(value).collect();
    let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
    let mut values: Vec<pg_sys::Datum> =
        values.into_iter().map(|value| value.unwrap_or(pg_sys::Datum::from(0))).collect();
    let (mut count, mut first) = (values.len() as i32, 1);
    // SAFETY: as many values as nulls as counted; text and jsonb have variable length and are
    // aligned as integers.
    unsafe {
        let array = pg_sys::construct_md_array(
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            &mut count,
            &mut first,
            element,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
        );
        Some(pg_sys::Datum::from(array))
    }
}
