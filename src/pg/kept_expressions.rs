//! What PostgreSQL keeps of expressions for a session: those of indexes, and the checks of domains.
//!
//! It keeps them as they were planned when the session needed them first, with the bodies of SQL functions put in
//! place under the search_path of that moment. So a caller could have his own operators in the expression of an index
//! before something is written to its table with the rights of somebody else, who would then run them. Whoever writes
//! as somebody else has them read again first, under the path that is pinned then.

use pgrx::{PgList, PgRelation, pg_sys};

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
        pg_sys::RelationCacheInvalidateEntry(index);
        let opened = PgRelation::with_lock(index, pg_sys::NoLock as i32);
        if !is_plain(&opened) {
            (*opened.as_ptr()).rd_indexprs = std::ptr::null_mut();
            (*opened.as_ptr()).rd_indpred = std::ptr::null_mut();
        }
    }
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
