//! The registry of models, `vector_tools.model_registry`, as sessions read it.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::kit::catalog::state_table;
use crate::kit::rights;
use crate::kit::spi;
use crate::kit::spi::Row;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::manifest::EncodingSettings;
use vector_tools_core::model::name::nearest_name;
use vector_tools_core::model::{ModelRecord, Pooling};
use vector_tools_core::sql::{Parameter, Statement};

thread_local! {
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static REGISTRY: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
}

/// Notes that the registry may have changed, if the relation is the registry or stands for all.
pub fn note_change(relation: pg_sys::Oid) {
    if relation == pg_sys::InvalidOid || relation == REGISTRY.get() {
        CHANGES.set(CHANGES.get() + 1);
    }
}

/// How often the registry may have changed.
pub fn changes() -> u64 {
    CHANGES.get()
}

/// Tells every session, when the transaction commits, that the registry has changed.
pub fn announce_change() {
    let registry = registry_table();
    if registry != pg_sys::InvalidOid {
        // SAFETY: the table exists; the message is sent at commit.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(registry) };
    }
}

/// Looks a model up by its name.
///
/// # Errors
/// [`Error::UnknownModel`] (42704), with the nearest name there is.
pub fn find_model(name: &str) -> Result<ModelRecord> {
    let mut statement = Statement::default();
    let wanted = statement.bind(Parameter::Text(name.to_owned()));
    statement.push(format_args!(
        "SELECT r.name, r.provider, r.source, r.file, r.sha256, r.tokenizer_sha256, \
         r.dimensions::pg_catalog.int8, r.max_tokens::pg_catalog.int8, r.pooling, r.normalize, \
         r.query_prefix, r.passage_prefix, r.output \
         FROM vector_tools.model_registry AS r WHERE r.name OPERATOR(pg_catalog.=) {wanted}"
    ));
    let found = with_rights_of_owner(|| spi::query(&statement, read_record));
    found.into_iter().flatten().next().ok_or_else(|| Error::UnknownModel {
        name: name.to_owned(),
        nearest: nearest_name(name, model_names().iter().map(String::as_str)),
    })
}

fn model_names() -> Vec<String> {
    let statement = Statement {
        text: "SELECT r.name FROM vector_tools.model_registry AS r".to_owned(),
        ..Statement::default()
    };
    let names = with_rights_of_owner(|| spi::query(&statement, |row| row.get::<String>(1)));
    names.into_iter().flatten().collect()
}

/// The names of all models, each with the sha256 of its ONNX file, in the order of the names.
pub fn fingerprints() -> Vec<(String, String)> {
    let statement = Statement {
        text: "SELECT r.name, r.sha256 FROM vector_tools.model_registry AS r ORDER BY r.name".to_owned(),
        ..Statement::default()
    };
    let read = |row: &Row| Some((row.get(1)?, row.get(2)?));
    with_rights_of_owner(|| spi::query(&statement, read)).into_iter().flatten().collect()
}

fn read_record(row: &Row) -> Option<ModelRecord> {
    let size = |column| row.get::<i64>(column).map(|value| value as usize);
    Some(ModelRecord {
        name: row.get(1)?,
        provider: row.get(2)?,
        source: row.get(3)?,
        file: row.get(4),
        sha256: row.get(5)?,
        tokenizer_sha256: row.get(6)?,
        dimensions: size(7)?,
        settings: EncodingSettings {
            max_tokens: size(8)?,
            pooling: if row.get::<String>(9)? == Pooling::Cls.name() { Pooling::Cls } else { Pooling::Mean },
            normalize: row.get(10)?,
            query_prefix: row.get(11)?,
            passage_prefix: row.get(12)?,
            output: row.get(13),
        },
    })
}

/// Runs a fixed, fully qualified query of the registry with the rights of the registry's owner:
/// everyone may embed, but only trusted roles may see where models lie on the server.
fn with_rights_of_owner<T>(work: impl FnOnce() -> T) -> T {
    let registry = registry_table();
    if registry == pg_sys::InvalidOid {
        pgrx::error!("the extension vector_tools has not been created in this database");
    }
    REGISTRY.set(registry);
    // The registry is read as it is now: a constant call of embed is computed while the statement
    // is planned, under an older snapshot.
    rights::acting_as(rights::owner_of(registry), || spi::with_catalog_snapshot(work))
}

fn registry_table() -> pg_sys::Oid {
    state_table(c"model_registry")
}
