//! What sessions keep of tables, and how they hear that it may be outdated.

use std::sync::OnceLock;

use pgrx::pg_sys;

use crate::kit::{catalog, kept_expressions};

/// Forgets what is kept of a relation, or of all with InvalidOid.
type Forget = fn(pg_sys::Oid);

/// What this room keeps of tables.
const OWN: [Forget; 2] = [catalog::forget, kept_expressions::note_change];

/// What the features keep of tables, under the names of what they are made of; and what they keep of tables alone.
static FEATURES: OnceLock<(&[Forget], &[Forget])> = OnceLock::new();

/// The catalogues whose names stand in what is kept: schemas, types and text search configurations.
const NAMED: [pg_sys::SysCacheIdentifier::Type; 3] = [
    pg_sys::SysCacheIdentifier::NAMESPACEOID,
    pg_sys::SysCacheIdentifier::TYPEOID,
    pg_sys::SysCacheIdentifier::TSCONFIGOID,
];

/// Asks PostgreSQL to say when a table, or something that its description depends on, has changed.
///
/// `named` forgets what was read with names of schemas, types or text search configurations in it, `plain` what was not.
pub fn watch(named: &'static [Forget], plain: &'static [Forget]) {
    // The library is loaded once in a process.
    let _ = FEATURES.set((named, plain));
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
    let (named, plain) = FEATURES.get().copied().unwrap_or_default();
    OWN.iter().chain(named).chain(plain).for_each(|forget| forget(relation));
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    let (named, _) = FEATURES.get().copied().unwrap_or_default();
    OWN.iter().chain(named).for_each(|forget| forget(pg_sys::InvalidOid));
}
