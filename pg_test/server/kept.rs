//! What a session keeps until it hears that it may be outdated.

#[pgrx::pg_schema]
mod tests {
    use crate::kit::relation_cache::RelationCache;
    use pgrx::pg_sys::{InvalidOid, Oid};
    use pgrx::prelude::*;

    const TABLE: Oid = Oid::from_u32(1);
    const OTHER: Oid = Oid::from_u32(2);

    fn get(kept: &RelationCache<&'static str>, number: Oid, now: &'static str) -> &'static str {
        kept.get_or_read(number, || Ok(now)).expect("the closure gives a value")
    }

    fn forget(kept: &RelationCache<&'static str>, relation: Oid) {
        kept.forget(relation, |number, _| number == relation);
    }

    #[pg_test]
    fn a_value_is_read_once_until_its_table_changes() {
        let kept = RelationCache::default();
        assert_eq!(get(&kept, TABLE, "first"), "first");
        assert_eq!(get(&kept, OTHER, "other"), "other");
        assert_eq!(get(&kept, TABLE, "second"), "first");
        forget(&kept, TABLE);
        assert_eq!(get(&kept, TABLE, "third"), "third");
        assert_eq!(get(&kept, OTHER, "changed"), "other");
        forget(&kept, InvalidOid);
        assert_eq!(get(&kept, OTHER, "changed"), "changed");
    }

    #[pg_test]
    fn a_value_is_not_kept_when_something_changed_while_it_was_read() {
        let kept = RelationCache::default();
        let read = || {
            // As a look at the catalogue does when another session has committed meanwhile.
            forget(&kept, TABLE);
            Ok("old")
        };
        assert_eq!(kept.get_or_read(TABLE, read).expect("the closure gives a value"), "old");
        assert_eq!(get(&kept, TABLE, "new"), "new");
    }

    #[pg_test]
    fn a_failed_look_is_not_kept() {
        let kept = RelationCache::default();
        let gone = kept.get_or_read(TABLE, || Err(vector_tools_core::error::Error::TableGone { table: 1 }));
        assert!(gone.is_err());
        assert_eq!(get(&kept, TABLE, "there"), "there");
    }
}
