//! What PostgreSQL keeps of expressions for a session: those of indexes and of partition keys, and the checks of domains.
//!
//! It keeps them as they were planned when the session needed them first, with the bodies of SQL functions put in
//! place under the search_path of that moment. So a caller could have his own operators in the expression of an index
//! before something is done to its table with the rights of somebody else, who would then run them. Which tables that
//! will be is not known: triggers of the other role write where they like. So whoever begins to act as another role has
//! all of them read again first, under the path that is pinned then.

use std::rc::Rc;

use pgrx::{PgRelation, pg_sys};

use crate::kit::relation_cache::RelationCache;
use crate::kit::spi;
use vector_tools_core::sql::Statement;

/// The relations that have, or inherit, an expression which calls something that is not PostgreSQL's own: indexes,
/// partitioned tables, and partitions. What is PostgreSQL's own is not recorded as a dependency.
const RELATIONS: &str = "WITH RECURSIVE relation(oid) AS ( \
    SELECT c.oid FROM pg_catalog.pg_depend AS d \
    JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) d.objid \
    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
    AND d.refclassid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', \
        'pg_catalog.pg_type']::pg_catalog.regclass[]) \
    AND c.relkind OPERATOR(pg_catalog.=) ANY ('{i,I,p}'::pg_catalog.\"char\"[]) \
    UNION \
    SELECT i.inhrelid FROM relation JOIN pg_catalog.pg_inherits AS i ON i.inhparent OPERATOR(pg_catalog.=) relation.oid \
) SELECT relation.oid FROM relation";

thread_local! {
    /// The relations, under InvalidOid: any change of any relation may be one of them.
    static KEPT: RelationCache<Rc<[pg_sys::Oid]>> = RelationCache::default();
}

/// Forgets which relations have expressions, since one of them, or all with InvalidOid, may have changed.
pub fn note_change(relation: pg_sys::Oid) {
    KEPT.with(|kept| kept.forget(relation, |_, _| true));
}

/// Forgets all that this session keeps of expressions.
pub fn forget() {
    // SAFETY: tells this session alone that constraints have changed, as when another session's change is heard of.
    unsafe { pg_sys::CallSyscacheCallbacks(pg_sys::SysCacheIdentifier::CONSTROID as i32, 0) };
    relations().iter().for_each(|relation| forget_relation(*relation));
}

fn relations() -> Rc<[pg_sys::Oid]> {
    let read = || {
        let statement = Statement { text: RELATIONS.to_owned(), ..Statement::default() };
        Ok(spi::with_catalog_snapshot(|| spi::query(&statement, |row| row.get(1)))
            .into_iter()
            .flatten()
            .collect())
    };
    KEPT.with(|kept| kept.get_or_read(pg_sys::InvalidOid, read)).unwrap_or_default()
}

/// Has a relation read again, whether it is open or not.
fn forget_relation(relation: pg_sys::Oid) {
    // SAFETY: PostgreSQL does so itself whenever it hears of a change of the relation, whether that is kept or not.
    unsafe { pg_sys::RelationCacheInvalidateEntry(relation) };
    // One that a statement has open is read again but for these. PostgreSQL hands out copies of an index's
    // expressions; whoever holds the key of a partitioned table keeps it, since it is not freed.
    if is_locked(relation) {
        // SAFETY: what this session has locked is there; NULL stands for what was not read yet.
        unsafe {
            let open = PgRelation::with_lock(relation, pg_sys::NoLock as i32);
            let open = open.as_ptr();
            (*open).rd_indexprs = std::ptr::null_mut();
            (*open).rd_indpred = std::ptr::null_mut();
            (*open).rd_partkey = std::ptr::null_mut();
            (*open).rd_partkeycxt = std::ptr::null_mut();
        }
    }
}

/// Whether this session has locked a relation of its database, as it does with all that it has open.
fn is_locked(relation: pg_sys::Oid) -> bool {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: a variable of this process.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: relation.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    let mut modes = pg_sys::AccessShareLock..=pg_sys::AccessExclusiveLock;
    // SAFETY: looks into this process's own table of locks.
    unsafe {
        #[cfg(feature = "pg16")]
        return modes.any(|mode| pg_sys::LockHeldByMe(&tag, mode as i32));
        #[cfg(not(feature = "pg16"))]
        return modes.any(|mode| pg_sys::LockHeldByMe(&tag, mode as i32, false));
    }
}
