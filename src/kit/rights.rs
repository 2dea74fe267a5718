//! Whose rights a statement runs with, and what a role may do.

use std::ffi::CStr;

use pgrx::{PgList, PgRelation, pg_sys};

use crate::kit::catalog::{owned_text, state_table};
use crate::kit::{kept_expressions, spi};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::identifier::Identifier;
use vector_tools_core::sql::{Parameter, Statement};

/// The search_path of whatever runs with other rights than the caller's: names without a schema are those of the
/// server, and what a session has made for itself comes last.
const PINNED_PATH: &str = "pg_catalog, pg_temp";

/// The user and the settings to go back to, on every way out: PostgreSQL's own abort puts them back where a
/// (sub)transaction ends with the error, and this value where the error is caught before that.
struct Caller {
    user: pg_sys::Oid,
    context: i32,
}

impl Drop for Caller {
    fn drop(&mut self) {
        // SAFETY: the values that were in force when this one was made.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}

/// Runs `work` as another role: the only place where the current user changes.
///
/// As foreign-key checks run with the rights of a table's owner. While `work` runs,
/// - search_path is `pg_catalog, pg_temp`, so that neither an operator nor a function, type or table without a
///   schema is one that the caller has made. What is meant by the caller's names (a text search configuration, a
///   table, a value of a type with a check) must be looked up before;
/// - the operation is restricted (`SECURITY_RESTRICTED_OPERATION`): nothing in it can change the role, the
///   session's temporary objects or its prepared statements;
/// - what functions of that role set with SET ends with it.
///
/// - what the session has kept of expressions is forgotten, so that they mean what the owners of their tables meant.
///
/// Statements run so must still call nothing of the caller's by name, and no code of a third role: see
/// [`crate::kit::column_types::is_trusted`] for the types of columns.
pub fn acting_as<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    switch_to(role, || {
        kept_expressions::forget();
        work()
    })
}

fn switch_to<T>(role: pg_sys::Oid, work: impl FnOnce() -> T) -> T {
    with_pinned_path(|| {
        let mut caller = Caller { user: pg_sys::InvalidOid, context: 0 };
        // SAFETY: user and context are put back when the value is dropped.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut caller.user, &mut caller.context);
            let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE
                | pg_sys::SECURITY_RESTRICTED_OPERATION
                | pg_sys::SECURITY_NOFORCE_RLS;
            pg_sys::SetUserIdAndSecContext(role, caller.context | flags as i32);
        }
        work()
    })
}

/// Runs statements with the caller's own rights, whose names and operators without a schema are those of
/// pg_catalog, whatever the session's search_path says.
pub fn with_pinned_path<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: the value of a setting of this process, which is a C string once settings are read.
    let is_pinned = unsafe {
        let path = pg_sys::namespace_search_path;
        !path.is_null() && CStr::from_ptr(path).to_bytes() == PINNED_PATH.as_bytes()
    };
    let path = (c"search_path", PINNED_PATH.to_owned());
    spi::with_settings(if is_pinned { &[] } else { std::slice::from_ref(&path) }, work)
}

/// Runs fixed statements over a table of the extension's state, which has no expression, with the rights of its owner.
pub fn with_rights_of_state<T>(table: &CStr, work: impl FnOnce() -> T) -> T {
    let table = state_table(table);
    if table == pg_sys::InvalidOid {
        pgrx::error!("the extension vector_tools has not been created in this database");
    }
    switch_to(owner_of(table), work)
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

/// A partition, or child, of a table whose owner's rights a role does not have; `None` where it has them all. What is
/// written to such a table, or planned over it, runs code of its partitions' owners: triggers, conditions of indexes.
pub fn partition_of_other(table: &PgRelation, role: pg_sys::Oid) -> Option<pg_sys::Oid> {
    unsafe extern "C-unwind" {
        // pg_inherits.h, which pgrx leaves out.
        fn find_all_inheritors(
            parent: pg_sys::Oid,
            mode: pg_sys::LOCKMODE,
            parents: *mut *mut pg_sys::List,
        ) -> *mut pg_sys::List;
    }
    // SAFETY: the relation is open; the list is a copy, and its members may go while they are looked at, when they
    // have no owner that would matter.
    unsafe {
        if !(*table.rd_rel).relhassubclass {
            return None;
        }
        let members = find_all_inheritors(table.oid(), pg_sys::NoLock as i32, std::ptr::null_mut());
        PgList::<pg_sys::Oid>::from_pg(members).iter_oid().find(|member| {
            pg_sys::get_rel_relkind(*member) != 0
                && !pg_sys::object_ownercheck(pg_sys::RelationRelationId, *member, role)
        })
    }
}

/// An error where a role that acts on a table does not own all of its partitions.
///
/// # Errors
/// [`Error::PartitionOfOther`] (42501).
pub fn require_own_partitions(table: &PgRelation, role: pg_sys::Oid) -> Result<()> {
    match partition_of_other(table, role) {
        None => Ok(()),
        Some(partition) => {
            let partition = crate::kit::catalog::name_of(partition)?;
            Err(Error::PartitionOfOther {
                table: crate::kit::catalog::display_name(table),
                partition: format!("{}.{}", partition.schema.as_str(), partition.name.as_str()),
            })
        }
    }
}

/// Raises PostgreSQL's own error (42501) where the caller does not have the rights of a table's owner, before it is
/// opened or locked, so that a stranger has nobody wait.
///
/// # Errors
/// [`Error::TableGone`] (42P01) when it was dropped since its name was looked up.
pub fn require_owner(table: pg_sys::Oid) -> Result<()> {
    if owns(table)? {
        return Ok(());
    }
    // SAFETY: the name is a fresh copy or NULL, which stands for a relation that has just gone.
    unsafe {
        let name = pg_sys::get_rel_name(table);
        if name.is_null() {
            return Err(Error::TableGone { table: table.to_u32() });
        }
        let kind = pg_sys::get_relkind_objtype(pg_sys::get_rel_relkind(table));
        pg_sys::aclcheck_error(pg_sys::AclResult::ACLCHECK_NOT_OWNER, kind, name);
    }
    Ok(())
}

/// Whether the caller has the rights of the owner of a table that is not open.
///
/// # Errors
/// [`Error::TableGone`] (42P01) when it was dropped since its name was looked up.
pub fn owns(table: pg_sys::Oid) -> Result<bool> {
    // SAFETY: look-ups for the current user; the second finds nothing where the first does not.
    unsafe {
        if pg_sys::get_rel_relkind(table) == 0 {
            return Err(Error::TableGone { table: table.to_u32() });
        }
        Ok(pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, pg_sys::GetUserId()))
    }
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

/// The roles that default privileges have given rights on a new table; `None` is PUBLIC.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn grantees_of(table: pg_sys::Oid) -> Result<Vec<Option<Identifier>>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(table.to_u32()));
    statement.push(format_args!(
        "SELECT DISTINCT r.rolname::pg_catalog.text FROM pg_catalog.pg_class AS c \
         CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a \
         LEFT JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) a.grantee \
         WHERE c.oid OPERATOR(pg_catalog.=) {table} \
         AND a.grantee OPERATOR(pg_catalog.<>) c.relowner"
    ));
    let names = spi::with_catalog_snapshot(|| spi::query(&statement, |row| row.get::<String>(1)));
    names.into_iter().map(|name| name.map(Identifier::new).transpose()).collect()
}
