//! What a session knows of an audited table, kept until PostgreSQL says that it may be outdated.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::row::RowEncoder;
use super::{TriggerCall, arguments_of};
use crate::error::{Error, Result};
use crate::identifier::{Identifier, QualifiedName};
use crate::pg::spi;
use crate::search::{Parameter, Statement};
use crate::tables::audit::AuditOptions;

/// An audited table, or one of its partitions.
pub struct AuditedTable {
    /// The table or partition whose rows change.
    pub relation: pg_sys::Oid,
    /// The table that was audited: itself, or the one it is a partition of.
    pub root: pg_sys::Oid,
    /// Whose rights write the log.
    pub owner: pg_sys::Oid,
    /// Schema and name of the root.
    pub name: QualifiedName,
    /// The partition's name, when it is one.
    pub partition: Option<String>,
    /// Where to write, and what.
    pub options: AuditOptions,
    /// How its rows become JSON.
    pub encoder: RowEncoder,
}

impl AuditedTable {
    /// Whether changes of both go to the log under the same name with the same rights.
    pub fn is_written_with(&self, other: &AuditedTable) -> bool {
        self.root == other.root
            && self.owner == other.owner
            && self.name == other.name
            && self.options.log == other.options.log
    }
}

impl AuditedTable {
    /// The tables that it is a partition of.
    pub fn ancestors(&self) -> Vec<pg_sys::Oid> {
        if self.partition.is_none() {
            return vec![];
        }
        let mut statement = Statement::default();
        let relation = statement.bind(Parameter::Integer(i64::from(self.relation.to_u32())));
        statement.push(format_args!(
            "SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors({relation}::pg_catalog.oid) AS a \
             WHERE a.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) {relation}::pg_catalog.oid"
        ));
        let found = spi::with_catalog_snapshot(|| spi::query(&statement, |row| row.get(1)));
        found.into_iter().flatten().collect()
    }
}

/// By the trigger. Never torn down: it holds memory of the server's.
type Tables = ManuallyDrop<HashMap<pg_sys::Oid, Rc<AuditedTable>>>;

thread_local! {
    static TABLES: RefCell<Tables> = RefCell::default();
}

/// Asks PostgreSQL to say when a table has changed.
pub fn watch() {
    // SAFETY: the callbacks are plain functions that only forget what is kept.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(forget_table), pg_sys::Datum::from(0));
        for cache in [pg_sys::SysCacheIdentifier::NAMESPACEOID, pg_sys::SysCacheIdentifier::TYPEOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget_all), pg_sys::Datum::from(0));
        }
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_table(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    super::direct::forget(relation);
    TABLES.with_borrow_mut(|tables| match relation {
        // All relations.
        pg_sys::InvalidOid => tables.clear(),
        relation => tables.retain(|_, table| table.relation != relation && table.root != relation),
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    TABLES.with_borrow_mut(|tables| tables.clear());
}

/// The table of a trigger; `None` when the trigger's arguments are not those of an audit.
pub fn find(call: &TriggerCall) -> Result<Option<Rc<AuditedTable>>> {
    let trigger = call.trigger().tgoid;
    if let Some(known) = TABLES.with_borrow(|tables| tables.get(&trigger).cloned()) {
        return Ok(Some(known));
    }
    let Some(options) = AuditOptions::from_arguments(&arguments_of(call.trigger())) else {
        return Ok(None);
    };
    let table = Rc::new(read(call, options)?);
    TABLES.with_borrow_mut(|tables| tables.insert(trigger, Rc::clone(&table)));
    Ok(Some(table))
}

/// The table that an audit trigger was made for, and whose rights write its log.
pub struct Origin {
    /// The table.
    pub table: pg_sys::Oid,
    /// Its owner.
    pub owner: pg_sys::Oid,
    /// Schema and name.
    pub name: QualifiedName,
}

/// Where a trigger comes from: the trigger of a partition is a copy of its parent's; that for
/// TRUNCATE, of which there are no copies, belongs to the copy with the same arguments.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn origin_of(trigger: pg_sys::Oid) -> Result<Option<Origin>> {
    let mut statement = Statement::default();
    let trigger = statement.bind(Parameter::Integer(i64::from(trigger.to_u32())));
    statement.push(format_args!(
        "WITH RECURSIVE ancestor AS ( \
             SELECT t.tgparentid, t.tgrelid FROM pg_catalog.pg_trigger AS f \
             JOIN pg_catalog.pg_trigger AS t ON t.tgrelid OPERATOR(pg_catalog.=) f.tgrelid \
              AND t.tgfoid OPERATOR(pg_catalog.=) f.tgfoid AND t.tgargs OPERATOR(pg_catalog.=) f.tgargs \
             WHERE f.oid OPERATOR(pg_catalog.=) {trigger}::pg_catalog.oid \
             AND (t.oid OPERATOR(pg_catalog.=) f.oid OR \
                  (f.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 0) \
             UNION ALL \
             SELECT t.tgparentid, t.tgrelid FROM ancestor AS a \
             JOIN pg_catalog.pg_trigger AS t ON t.oid OPERATOR(pg_catalog.=) a.tgparentid) \
         SELECT c.oid, c.relowner, n.nspname::pg_catalog.text, c.relname::pg_catalog.text \
         FROM ancestor AS a \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) a.tgrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         JOIN pg_catalog.pg_trigger AS f ON f.oid OPERATOR(pg_catalog.=) {trigger}::pg_catalog.oid \
         WHERE a.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid \
         ORDER BY (c.oid OPERATOR(pg_catalog.=) f.tgrelid)::pg_catalog.int4 LIMIT 1"
    ));
    let found = spi::with_catalog_snapshot(|| {
        spi::query(&statement, |row| {
            Some((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?, row.get::<String>(3)?, row.get(4)?))
        })
    });
    let origin = |(table, owner, schema, name): (_, _, _, String)| -> Result<Origin> {
        let name = QualifiedName { schema: Identifier::new(schema)?, name: Identifier::new(name)? };
        Ok(Origin { table, owner, name })
    };
    found.into_iter().flatten().next().map(origin).transpose()
}

fn read(call: &TriggerCall, options: AuditOptions) -> Result<AuditedTable> {
    let gone = || Error::TableGone { table: call.relation().to_u32() };
    let origin = origin_of(call.trigger().tgoid)?.ok_or_else(gone)?;
    // SAFETY: the relation is open while its trigger runs.
    let relation = unsafe { pgrx::PgRelation::from_pg(call.0.tg_relation) };
    let partition = (origin.table != call.relation()).then(|| relation.name().to_owned());
    Ok(AuditedTable {
        relation: call.relation(),
        root: origin.table,
        owner: origin.owner,
        name: origin.name,
        partition,
        encoder: RowEncoder::new(&relation, options.include_embeddings),
        options,
    })
}
