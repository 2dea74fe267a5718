//! What PostgreSQL keeps of expressions for a session: those of indexes, and the checks of domains.
//!
//! It keeps them as they were planned when the session needed them first, with the bodies of SQL functions put in
//! place under the search_path of that moment. So a caller could have his own operators in the expression of an index
//! before something is written to its table with the rights of somebody else, who would then run them. Whoever writes
//! as somebody else has them read again first, under the path that is pinned then.

use pgrx::{PgList, PgRelation, pg_sys};

use super::kept::Kept;
use super::spi;
use crate::search::{Parameter, Statement};

thread_local! {
    /// Whether the expressions of an index need more than the server itself, by the index.
    static FOREIGN: Kept<bool> = Kept::default();
}

/// Forgets what is known of an index that may have changed, or of all: not the expressions, but whose they are.
pub fn forget_known(relation: pg_sys::Oid) {
    FOREIGN.with(|known| known.forget(relation, |index, _| index == relation));
}

/// Forgets what this session keeps of expressions for writing to a table.
pub fn forget(table: pg_sys::Oid) {
    // SAFETY: PostgreSQL raises an error where the table is gone; it is about to be written to.
    let relation = unsafe { PgRelation::with_lock(table, pg_sys::RowExclusiveLock as i32) };
    if super::catalog::is_partitioned(&relation) {
        // Those of the partitions, too, and the keys by which rows are routed.
        forget_all();
        return;
    }
    // SAFETY: the relation is open.
    let indexes = unsafe { PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(relation.as_ptr())) };
    indexes.iter_oid().for_each(forget_index);
    let has_domain =
        |column: &pg_sys::FormData_pg_attribute| !column.attisdropped && is_domain(column.atttypid);
    if relation.tuple_desc().iter().any(has_domain) {
        // SAFETY: tells this session alone that constraints have changed, as when another session's change is heard of.
        unsafe { pg_sys::CallSyscacheCallbacks(pg_sys::SysCacheIdentifier::CONSTROID as i32, 0) };
    }
}

/// Forgets all that this session keeps of the catalogue.
pub fn forget_all() {
    // SAFETY: PostgreSQL does so itself whenever a session takes a lock and has missed changes of others.
    unsafe { pg_sys::InvalidateSystemCaches() };
}

fn forget_index(index: pg_sys::Oid) {
    // SAFETY: the index is that of a table that is locked. PostgreSQL hands out copies of these lists, so that nobody
    // else points to them; those of an index that is open elsewhere are not read again unless they are taken away.
    unsafe {
        let opened = PgRelation::with_lock(index, pg_sys::AccessShareLock as i32);
        let is_plain = |index: &PgRelation| {
            let index = index.as_ptr();
            (*index).rd_indexprs.is_null() && (*index).rd_indpred.is_null()
        };
        if is_plain(&opened) {
            return;
        }
        drop(opened);
        if !needs_more_than_the_server(index) {
            return;
        }
        pg_sys::RelationCacheInvalidateEntry(index);
        let opened = PgRelation::with_lock(index, pg_sys::NoLock as i32);
        if !is_plain(&opened) {
            (*opened.as_ptr()).rd_indexprs = std::ptr::null_mut();
            (*opened.as_ptr()).rd_indpred = std::ptr::null_mut();
        }
    }
}

/// Whether the expressions of an index call functions or operators that users have made, or have types of theirs:
/// PostgreSQL records that an index depends on them. Those of the server itself mean the same under any search_path.
fn needs_more_than_the_server(index: pg_sys::Oid) -> bool {
    let read = || {
        let mut statement = Statement::default();
        let index = statement.bind(Parameter::Integer(i64::from(index.to_u32())));
        statement.push(format_args!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_depend AS d \
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid \
             AND d.objid OPERATOR(pg_catalog.=) {index}::pg_catalog.oid AND d.refclassid OPERATOR(pg_catalog.=) \
             ANY ('{{pg_catalog.pg_proc,pg_catalog.pg_operator,pg_catalog.pg_type}}'::pg_catalog.regclass[]::pg_catalog.oid[]))"
        ));
        let found = spi::with_catalog_snapshot(|| spi::query(&statement, |row| row.get::<bool>(1)));
        Ok(found.into_iter().flatten().any(|needs| needs))
    };
    FOREIGN.with(|known| known.get_or_read(index, read)).unwrap_or(true)
}

/// Whether a type is a domain, or an array of one.
fn is_domain(type_oid: pg_sys::Oid) -> bool {
    // SAFETY: syscache look-ups of a column's type.
    unsafe {
        let element = pg_sys::get_element_type(type_oid);
        let plain = if element == pg_sys::InvalidOid { type_oid } else { element };
        pg_sys::getBaseType(plain) != plain
    }
}
