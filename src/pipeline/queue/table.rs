//! What a session knows of a table whose rows it queues, kept until PostgreSQL says that it may be
//! outdated.

use std::ffi::CStr;
use std::rc::Rc;

use pgrx::{PgRelation, pg_sys};

use crate::kit::lossless::with_lossless_output;
use crate::kit::relation_cache::RelationCache;
use crate::kit::trigger_call::{TriggerCall, arguments_of, origin_of};
use crate::kit::{catalog, spi};
use crate::pipeline::searchable_tables::{key_columns, read_arguments};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::Mode;

/// A table made searchable, or one of its partitions.
pub struct QueuedTable {
    relation: pg_sys::Oid,
    /// The table that was made searchable: itself, or the one it is a partition of.
    pub root: pg_sys::Oid,
    /// When its rows are embedded.
    pub mode: Mode,
    /// The places of the key's columns, and what writes them.
    key: Vec<(usize, pg_sys::Oid)>,
}

thread_local! {
    /// By the trigger.
    static TABLES: RelationCache<Option<Rc<QueuedTable>>> = RelationCache::default();
}

/// Forgets what is known of a relation, or of all.
pub fn forget(relation: pg_sys::Oid) {
    TABLES.with(|tables| {
        tables.forget(relation, |_, table| {
            table.as_ref().is_none_or(|table| table.relation == relation || table.root == relation)
        });
    });
}

/// The table of a trigger; `None` when the trigger's arguments are not those of `enable_search`.
pub fn find(call: &TriggerCall) -> Result<Option<Rc<QueuedTable>>> {
    let read = || {
        let Some((options, _)) = read_arguments(&arguments_of(call.trigger())) else {
            return Ok(None);
        };
        spi::with_catalog_snapshot(|| read(call, options.mode)).map(|table| Some(Rc::new(table)))
    };
    TABLES.with(|tables| tables.get_or_read(call.trigger().tgoid, read))
}

fn read(call: &TriggerCall, mode: Mode) -> Result<QueuedTable> {
    let gone = || Error::TableGone { table: call.relation().to_u32() };
    let origin = origin_of(call.trigger().tgoid)?.ok_or_else(gone)?;
    // SAFETY: the relation is open while its trigger runs.
    let relation = unsafe { PgRelation::from_pg(call.data().tg_relation) };
    // A partition may have its columns in another order.
    let keys = key_columns(&catalog::open_table(origin.table)?)?;
    let columns = relation.tuple_desc();
    let key = keys.iter().filter_map(|key| {
        let place =
            columns.iter().position(|column| !column.attisdropped && column.name() == key.name.as_str())?;
        Some((place, output_function(columns.get(place)?.atttypid)))
    });
    Ok(QueuedTable { relation: call.relation(), root: origin.table, mode, key: key.collect() })
}

impl QueuedTable {
    /// Whether rows of both can be queued together.
    pub fn is_queued_with(&self, other: &QueuedTable) -> bool {
        self.root == other.root && self.mode == other.mode
    }

    /// The key of a row, each column as text.
    ///
    /// # Safety
    /// `row` must be a row of the table this was made for, with the descriptor of that table.
    pub unsafe fn key_of(&self, row: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Vec<String> {
        let text = |(place, output): &(usize, pg_sys::Oid)| {
            let mut is_null = false;
            // SAFETY: the caller's promise; the function is that of the column's type and gives a
            // fresh C string. The columns of a primary key are never NULL.
            unsafe {
                let value = pg_sys::heap_getattr(row, *place as i32 + 1, descriptor, &mut is_null);
                let text = pg_sys::OidOutputFunctionCall(*output, value);
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        };
        with_lossless_output(|| self.key.iter().map(text).collect())
    }
}

fn output_function(type_oid: pg_sys::Oid) -> pg_sys::Oid {
    let (mut output, mut is_variable) = (pg_sys::InvalidOid, false);
    // SAFETY: the type is that of an existing column.
    unsafe { pg_sys::getTypeOutputInfo(type_oid, &mut output, &mut is_variable) };
    output
}
