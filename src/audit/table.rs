//! What a session knows of an audited table, kept until PostgreSQL says that it may be outdated.

use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use crate::audit::row::RowEncoder;

use crate::kit::relation_cache::RelationCache;
use crate::kit::spi;
use crate::kit::trigger_call::{TriggerCall, arguments_of, origin_of};
use vector_tools_core::audit::AuditOptions;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::identifier::QualifiedName;
use vector_tools_core::sql::{Parameter, Statement};

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
        let relation = statement.bind(Parameter::Oid(self.relation.to_u32()));
        statement.push(format_args!(
            "SELECT a.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors({relation}) AS a \
             WHERE a.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) {relation}"
        ));
        let found = spi::with_catalog_snapshot(|| spi::query(&statement, |row| row.get(1)));
        found.into_iter().flatten().collect()
    }
}

/// By the trigger. Never torn down: it holds memory of the server's.
type Tables = ManuallyDrop<RelationCache<Option<Rc<AuditedTable>>>>;

thread_local! {
    static TABLES: Tables = Tables::default();
}

/// Forgets what is known of a relation, or of all.
pub fn forget(relation: pg_sys::Oid) {
    TABLES.with(|tables| {
        tables.forget(relation, |_, table| {
            table.as_ref().is_none_or(|table| table.relation == relation || table.root == relation)
        });
    });
}

/// The table of a trigger; `None` when the trigger's arguments are not those of an audit.
pub fn find(call: &TriggerCall) -> Result<Option<Rc<AuditedTable>>> {
    let read = || {
        let Some(options) = AuditOptions::from_arguments(&arguments_of(call.trigger())) else {
            return Ok(None);
        };
        read(call, options).map(|table| Some(Rc::new(table)))
    };
    TABLES.with(|tables| tables.get_or_read(call.trigger().tgoid, read))
}

fn read(call: &TriggerCall, options: AuditOptions) -> Result<AuditedTable> {
    let gone = || Error::TableGone { table: call.relation().to_u32() };
    let origin = origin_of(call.trigger().tgoid)?.ok_or_else(gone)?;
    // SAFETY: the relation is open while its trigger runs.
    let relation = unsafe { pgrx::PgRelation::from_pg(call.data().tg_relation) };
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
