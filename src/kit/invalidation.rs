//! What sessions keep of tables, and how they hear that it may be outdated.

use pgrx::pg_sys;

use crate::audit;
use crate::kit::{catalog, kept_expressions};
use crate::model::registry;
use crate::pipeline::{queue, searched_tables};

/// What forgets a relation in each place that keeps something of tables, or all with InvalidOid.
const FORGET: [fn(pg_sys::Oid); 5] =
    [catalog::forget, kept_expressions::note_change, searched_tables::forget, queue::forget, audit::forget];

/// The catalogues whose names stand in what is kept: schemas, types and text search configurations.
const NAMED: [pg_sys::SysCacheIdentifier::Type; 3] = [
    pg_sys::SysCacheIdentifier::NAMESPACEOID,
    pg_sys::SysCacheIdentifier::TYPEOID,
    pg_sys::SysCacheIdentifier::TSCONFIGOID,
];

/// Asks PostgreSQL to say when a table, or something that its description depends on, has changed.
pub fn watch() {
    let nothing = pg_sys::Datum::from(0);
    // SAFETY: called once, while the library is loaded; the callbacks are plain functions that only forget what is
    // kept.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(forget_table), nothing);
        for cache in NAMED {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget_all), nothing);
        }
    }
}

/// InvalidOid stands for all relations.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_table(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    registry::note_change(relation);
    FORGET.iter().for_each(|forget| forget(relation));
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    FORGET.iter().for_each(|forget| forget(pg_sys::InvalidOid));
}
