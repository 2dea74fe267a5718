//! What a session keeps of tables until PostgreSQL says that it may be outdated.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use pgrx::pg_sys;

use vector_tools_core::error::Result;

/// Values by the number of what they were read for: a table, or a trigger.
pub struct RelationCache<Value> {
    values: RefCell<HashMap<pg_sys::Oid, Value>>,
    /// How often something may have become outdated.
    changes: Cell<u64>,
}

impl<Value> Default for RelationCache<Value> {
    fn default() -> Self {
        RelationCache { values: RefCell::default(), changes: Cell::default() }
    }
}

impl<Value: Clone> RelationCache<Value> {
    /// The value that is kept, or the one that `read` finds.
    ///
    /// A change that PostgreSQL tells of while `read` looks at the catalogue may be one that `read` has not
    /// seen, and nobody will tell of it again: then the value is good for this call, but not kept.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn get_or_read(&self, number: pg_sys::Oid, read: impl FnOnce() -> Result<Value>) -> Result<Value> {
        // Nothing is borrowed while PostgreSQL does anything: it may call `forget`.
        if let Some(known) = self.values.borrow().get(&number) {
            return Ok(known.clone());
        }
        let changes = self.changes.get();
        let value = read()?;
        if self.changes.get() == changes {
            self.values.borrow_mut().insert(number, value.clone());
        }
        Ok(value)
    }

    /// Forgets the values that depend on a relation, or all of them where it is InvalidOid.
    pub fn forget(&self, relation: pg_sys::Oid, depends: impl Fn(pg_sys::Oid, &Value) -> bool) {
        self.changes.set(self.changes.get() + 1);
        let all = relation == pg_sys::InvalidOid;
        self.values.borrow_mut().retain(|number, value| !all && !depends(*number, value));
    }
}
