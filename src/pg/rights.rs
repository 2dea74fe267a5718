//! Whose rights a statement runs with, and what a role may do.

use std::ffi::CStr;

use pgrx::{PgRelation, pg_sys};

use super::catalog::{owned_text, state_table};
use super::spi;
use crate::error::{Error, Result};

/// Runs fixed, fully qualified statements with the rights of another role, as foreign-key checks
/// run with those of the table's owner.
pub fn with_rights_of<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    let mut user = pg_sys::InvalidOid;
    let mut context = 0;
    // SAFETY: user and context are put back below; on an error the abort of the (sub)transaction
    // puts them back.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE
            | pg_sys::SECURITY_RESTRICTED_OPERATION
            | pg_sys::SECURITY_NOFORCE_RLS;
        pg_sys::SetUserIdAndSecContext(role, context | flags as i32);
    }
    let result = work();
    // SAFETY: the values read above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}

/// Like [`with_rights_of`], where triggers and functions of that role's run too: with names that nobody can
/// shadow.
pub fn acting_as<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    spi::with_pinned_path(|| with_rights_of(role, work))
}

/// Runs fixed statements over a table of the extension's state with the rights of its owner.
pub fn with_rights_of_state<T>(table: &CStr, work: impl FnOnce() -> T) -> T {
    let table = state_table(table);
    if table == pg_sys::InvalidOid {
        pgrx::error!("the extension vector_tools has not been created in this database");
    }
    with_rights_of(owner_of(table), work)
}

/// The owner of a table.
pub fn owner_of(table: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: the table was just looked up, and PostgreSQL raises an error if it is gone.
    owner(&unsafe { PgRelation::with_lock(table, pg_sys::AccessShareLock as i32) })
}

/// The owner of a table that is open.
pub fn owner(table: &PgRelation) -> pg_sys::Oid {
    // SAFETY: while the relation is open its pg_class row is there.
    unsafe { (*table.rd_rel).relowner }
}

/// Whether the caller has the rights of a table's owner.
pub fn is_owner(table: &PgRelation) -> bool {
    // SAFETY: a look-up for the current user.
    unsafe { pg_sys::object_ownercheck(pg_sys::RelationRelationId, table.oid(), pg_sys::GetUserId()) }
}

/// Raises PostgreSQL's own error (42501) where the caller has not the rights of a table's owner. The table need
/// not be open: nobody who may not has it locked.
///
/// # Errors
/// [`Error::TableGone`] (42P01).
pub fn require_owner(table: pg_sys::Oid) -> Result<()> {
    // SAFETY: a syscache look-up of any number; the name is a fresh copy or NULL.
    let name = unsafe { pg_sys::get_rel_name(table) };
    if name.is_null() {
        return Err(Error::TableGone { table: table.to_u32() });
    }
    // SAFETY: a look-up for the current user; the name is a C string.
    unsafe {
        if !pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, pg_sys::GetUserId()) {
            pg_sys::aclcheck_error(
                pg_sys::AclResult::ACLCHECK_NOT_OWNER,
                pg_sys::ObjectType::OBJECT_TABLE,
                name,
            );
        }
    }
    Ok(())
}

/// Whether the caller may use the schema of a table.
pub fn may_use_schema(table: &PgRelation) -> bool {
    // SAFETY: a look-up for the current user; the relation is open, so its pg_class row is there.
    unsafe {
        let schema = (*table.rd_rel).relnamespace;
        let usage = pg_sys::ACL_USAGE as pg_sys::AclMode;
        pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, pg_sys::GetUserId(), usage)
            == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether the caller may read the column of that name.
pub fn may_read_named(table: &PgRelation, column: &CStr) -> bool {
    // SAFETY: a syscache look-up with a valid C string; 0 stands for no such column.
    let number = unsafe { pg_sys::get_attnum(table.oid(), column.as_ptr()) };
    number != 0 && may_read(table, number)
}

/// Whether the caller may read a column of a table.
pub fn may_read(table: &PgRelation, column: i16) -> bool {
    // SAFETY: look-ups for the current user; the column's number is that of the open relation.
    unsafe {
        let user = pg_sys::GetUserId();
        let select = pg_sys::ACL_SELECT as pg_sys::AclMode;
        pg_sys::pg_class_aclcheck(table.oid(), user, select) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck(table.oid(), column, user, select)
                == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether a role may add rows to a table.
pub fn may_insert(table: &PgRelation, role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up of the rights on an open table.
    unsafe {
        pg_sys::pg_class_aclcheck(table.oid(), role, pg_sys::ACL_INSERT as pg_sys::AclMode)
            == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Raises PostgreSQL's own error (42501) where the caller may not add rows to a table.
pub fn require_insert(table: &PgRelation) {
    // SAFETY: a look-up for the current user; the name is that of an open relation.
    unsafe {
        if !may_insert(table, pg_sys::GetUserId()) {
            pg_sys::aclcheck_error(
                pg_sys::AclResult::ACLCHECK_NO_PRIV,
                pg_sys::ObjectType::OBJECT_TABLE,
                (*table.rd_rel).relname.data.as_ptr(),
            );
        }
    }
}

/// The role of that name, if there is one.
pub fn find_role(name: &str) -> Option<pg_sys::Oid> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a syscache look-up with a valid C string.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (role != pg_sys::InvalidOid).then_some(role)
}

/// Whether a role has the rights of another one.
pub fn has_rights_of(role: pg_sys::Oid, other: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the catalogue of roles.
    unsafe { pg_sys::has_privs_of_role(role, other) }
}

/// Whether there is a role of that number.
pub fn is_role(role: pg_sys::Oid) -> bool {
    // SAFETY: a syscache look-up that raises no error.
    unsafe { !pg_sys::GetUserNameFromId(role, true).is_null() }
}

/// Whether the caller is told what others do, as members of pg_monitor are.
pub fn is_monitor() -> bool {
    // SAFETY: a variable of this process.
    find_role("pg_monitor").is_some_and(|monitor| has_rights_of(unsafe { pg_sys::GetUserId() }, monitor))
}

/// The name of a role, or its number when it is gone.
pub fn role_name(role: pg_sys::Oid) -> String {
    // SAFETY: a syscache look-up that raises no error; the name is a fresh copy or NULL.
    let name = unsafe { pg_sys::GetUserNameFromId(role, true) };
    owned_text(name).unwrap_or_else(|| role.to_u32().to_string())
}
