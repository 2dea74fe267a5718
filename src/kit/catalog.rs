//! What PostgreSQL's catalogue says about a table.

use crate::kit::cluster_lock::acquire_lock;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;

use pgrx::{PgRelation, Spi, pg_sys};

use crate::kit::indexes;
use crate::kit::relation_cache::RelationCache;
use crate::kit::table_triggers::own_triggers;
use crate::kit::{rights, spi};
use crate::types::vector;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::search::bm25_index::Bm25Index;
use vector_tools_core::search::source::{
    Column, ColumnKind, EmbeddingTrigger, TableFacts, configuration_in, constant_in,
};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::lock::definition_lock;
use vector_tools_core::sql::{Parameter, Statement};

/// The schema that holds the extension's state.
const STATE_SCHEMA: &CStr = c"vector_tools";

/// The most bytes of an expression that is read: writing out a deep one, as anybody may have, can need more of the stack
/// than there is.
const LONGEST_EXPRESSION: usize = 16_384;

/// Opens a table, which nobody can drop or alter until the transaction ends.
///
/// # Errors
/// [`Error::TableGone`] (42P01) when it was dropped since its name was looked up.
pub fn open_table(table: pg_sys::Oid) -> Result<PgRelation> {
    open_locked(table, pg_sys::AccessShareLock)
}

/// Opens a table that will be written to. Whoever waits for this lock holds no weaker one on the table,
/// which a change of the table could wait for in turn.
///
/// # Errors
/// [`Error::TableGone`] (42P01) when it was dropped since its name was looked up.
pub fn open_table_to_write(table: pg_sys::Oid) -> Result<PgRelation> {
    open_locked(table, pg_sys::RowExclusiveLock)
}

/// Like [`open_table`], but does not wait where somebody has the table for himself: `None`.
///
/// # Errors
/// [`Error::TableGone`] (42P01).
pub fn open_table_now(table: pg_sys::Oid) -> Result<Option<PgRelation>> {
    if lock_now(table, pg_sys::AccessShareLock) { open_table(table).map(Some) } else { Ok(None) }
}

/// Like [`open_table_to_write`], but does not wait where somebody keeps writers away: `None`.
///
/// # Errors
/// [`Error::TableGone`] (42P01).
pub fn open_table_to_write_now(table: pg_sys::Oid) -> Result<Option<PgRelation>> {
    if lock_now(table, pg_sys::RowExclusiveLock) { open_table_to_write(table).map(Some) } else { Ok(None) }
}

fn lock_now(table: pg_sys::Oid, mode: u32) -> bool {
    // SAFETY: any number may be locked, that of a table that is gone too; the lock ends with the transaction.
    unsafe { pg_sys::ConditionalLockRelationOid(table, mode as i32) }
}

/// Lets one call of the owner's at a time change what a table is governed by, with the lock that the change will take: of
/// two that have opened the table and ask for it then, neither would get it. Whoever is not the owner gets no lock, and so
/// has nobody wait; the call will refuse him.
///
/// # Errors
/// [`Error::TableGone`] (42P01) when it was dropped since its name was looked up.
pub fn lock_definition(table: pg_sys::Oid, mode: u32) -> Result<()> {
    if rights::owns(table)? {
        acquire_lock(definition_lock(table.to_u32()));
        // SAFETY: any number may be locked, that of a table that is gone too; the lock ends with the transaction.
        unsafe { pg_sys::LockRelationOid(table, mode as i32) };
    }
    Ok(())
}

fn open_locked(table: pg_sys::Oid, mode: u32) -> Result<PgRelation> {
    // SAFETY: a table that is gone gives NULL; the value closes what was opened.
    unsafe {
        let relation = pg_sys::try_relation_open(table, mode as i32);
        if relation.is_null() {
            return Err(Error::TableGone { table: table.to_u32() });
        }
        Ok(PgRelation::from_pg_owned(relation))
    }
}

thread_local! {
    /// What this session knows of tables; dropped when PostgreSQL says that it may be outdated.
    static TABLES: RelationCache<Rc<TableFacts>> = RelationCache::default();
}

/// Forgets what is known of a relation, or of all.
pub fn forget(relation: pg_sys::Oid) {
    TABLES.with(|tables| {
        tables.forget(relation, |table, facts| {
            // Nobody tells of a table when its index gets another name or other options.
            let is_index = |index: &Bm25Index| index.number == relation.to_u32();
            table == relation || facts.bm25_indexes.iter().any(is_index)
        });
    });
}

/// What a search must know about a table, read once in a session until it changes.
///
/// # Errors
/// [`Error::NotSearchable`] (42809) for anything but an ordinary, partitioned or materialized
/// table: only their rows have a place that one statement can hand to the next.
pub fn read_table(relation: &PgRelation) -> Result<Rc<TableFacts>> {
    // As new as the look at the catalogue that has opened the table: what is kept must not be older.
    let read = || spi::with_catalog_snapshot(|| read_facts(relation)).map(Rc::new);
    TABLES.with(|tables| tables.get_or_read(relation.oid(), read))
}

fn read_facts(relation: &PgRelation) -> Result<TableFacts> {
    let table = qualified_name(relation)?;
    let display = display_name(relation);
    if !is_table(relation) && relation_kind(relation) != pg_sys::RELKIND_MATVIEW {
        return Err(Error::NotSearchable { subject: display, kind: kind_in_words(relation) });
    }
    let vector_types = [vector::vector_type(), vector::half_vector_type()];
    let configurations = generated_configurations(relation);
    let mut columns = Vec::new();
    for attribute in relation.tuple_desc().iter().filter(|attribute| !attribute.attisdropped) {
        let type_oid = attribute.atttypid;
        let kind = match type_oid {
            oid if vector_types.contains(&oid) => ColumnKind::Vector,
            pg_sys::TSVECTOROID => ColumnKind::Lexemes,
            pg_sys::JSONBOID => ColumnKind::Json,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => ColumnKind::Text,
            _ => ColumnKind::Other,
        };
        columns.push(Column {
            name: Identifier::new(attribute.name())?,
            type_name: qualified_type_name(type_oid),
            // SAFETY: a syscache look-up of a column's type.
            compared_as: qualified_type_name(unsafe { pg_sys::getBaseType(type_oid) }),
            kind,
            type_oid: type_oid.to_u32(),
            configuration: configurations.get(attribute.name()).cloned(),
            // pgvector keeps the dimensions as the type modifier.
            dimensions: usize::try_from(attribute.atttypmod).ok().filter(|_| kind == ColumnKind::Vector),
        });
    }
    Ok(TableFacts {
        primary_key: primary_key(relation)?,
        embedding_trigger: embedding_trigger(relation),
        pgvector_schema: pgvector_schema(),
        vector_indexes: indexes::vector_indexes(relation)?,
        bm25_indexes: indexes::bm25_indexes(relation)?,
        default_model: default_model(relation),
        partition_key: if is_partitioned(relation) { partition_key(relation)? } else { vec![] },
        table,
        display,
        columns,
    })
}

/// The name of a schema, if it exists.
pub fn schema_name(schema: pg_sys::Oid) -> Option<Identifier> {
    // SAFETY: a syscache look-up; the name is a fresh copy or NULL.
    let name = unsafe { pg_sys::get_namespace_name(schema) };
    owned_text(name).and_then(|name| Identifier::new(name).ok())
}

/// The schema of pgvector.
pub fn pgvector_schema() -> Identifier {
    schema_name(vector::pgvector_schema_oid())
        .unwrap_or_else(|| pgrx::error!("the extension vector is not there"))
}

/// The schema of the extension's own functions.
pub fn extension_schema() -> Identifier {
    // SAFETY: a valid C string; with missing_ok false PostgreSQL raises its own error.
    let schema =
        unsafe { pg_sys::get_extension_schema(pg_sys::get_extension_oid(c"vector_tools".as_ptr(), false)) };
    schema_name(schema).unwrap_or_else(|| pgrx::error!("the extension vector_tools is not there"))
}

/// The comment of a table.
pub fn comment_of(relation: &PgRelation) -> Option<String> {
    // SAFETY: a look-up in the catalogue; the comment is a fresh copy or NULL.
    owned_text(unsafe { pg_sys::GetComment(relation.oid(), pg_sys::RelationRelationId, 0) })
}

/// The text search configurations of generated tsvector columns, read from their expressions;
/// none for a column that is filled in another way.
fn generated_configurations(relation: &PgRelation) -> HashMap<String, String> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    statement.push(format_args!(
        "SELECT a.attname::pg_catalog.text, \
             CASE WHEN pg_catalog.octet_length(d.adbin::pg_catalog.text) OPERATOR(pg_catalog.<=) {LONGEST_EXPRESSION} \
                  THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END \
         FROM pg_catalog.pg_attrdef AS d \
         JOIN pg_catalog.pg_attribute AS a \
           ON a.attrelid OPERATOR(pg_catalog.=) d.adrelid AND a.attnum OPERATOR(pg_catalog.=) d.adnum \
         WHERE d.adrelid OPERATOR(pg_catalog.=) {table} AND a.atttypid OPERATOR(pg_catalog.=) \
         'pg_catalog.tsvector'::pg_catalog.regtype"
    ));
    let found = spi::query(&statement, |row| {
        let expression: String = row.get(2)?;
        Some((row.get::<String>(1)?, configuration_in(&expression)?))
    });
    found.into_iter().flatten().collect()
}

/// The model in the default of a column `embedding_model`.
fn default_model(relation: &PgRelation) -> Option<String> {
    relation.tuple_desc().iter().find(|attribute| attribute.name() == "embedding_model")?;
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    statement.push(format_args!(
        "SELECT CASE WHEN pg_catalog.octet_length(d.adbin::pg_catalog.text) OPERATOR(pg_catalog.<=) {LONGEST_EXPRESSION} \
                     THEN d.adbin::pg_catalog.text END \
         FROM pg_catalog.pg_attrdef AS d \
         JOIN pg_catalog.pg_attribute AS a \
           ON a.attrelid OPERATOR(pg_catalog.=) d.adrelid AND a.attnum OPERATOR(pg_catalog.=) d.adnum \
         WHERE d.adrelid OPERATOR(pg_catalog.=) {table} \
         AND a.attname OPERATOR(pg_catalog.=) 'embedding_model' AND a.attgenerated OPERATOR(pg_catalog.=) ''"
    ));
    let found = spi::query(&statement, |row| constant_in(&row.get::<String>(1)?));
    found.into_iter().flatten().next()
}

/// The columns by which a table is partitioned; expressions are left out.
fn partition_key(relation: &PgRelation) -> Result<Vec<Identifier>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    statement.push(format_args!(
        "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_partitioned_table AS p \
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) p.partrelid \
           AND a.attnum OPERATOR(pg_catalog.=) ANY (p.partattrs::pg_catalog.int2[]) \
         WHERE p.partrelid OPERATOR(pg_catalog.=) {table}"
    ));
    let names = spi::query(&statement, |row| row.get::<String>(1));
    names.into_iter().flatten().map(Identifier::new).collect()
}

/// Whether a table has a column of that name.
pub fn has_column(table: pg_sys::Oid, column: &CStr) -> bool {
    // SAFETY: a syscache look-up with a valid C string; 0 stands for no such column, or table.
    unsafe { pg_sys::get_attnum(table, column.as_ptr()) != 0 }
}

/// Schema and name of a relation that need not be open.
///
/// # Errors
/// [`Error::TableGone`] (42P01).
pub fn name_of(table: pg_sys::Oid) -> Result<QualifiedName> {
    // SAFETY: syscache look-ups of any number; the names are fresh copies or NULL.
    let (schema, name) = unsafe {
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table));
        (owned_text(schema), owned_text(pg_sys::get_rel_name(table)))
    };
    let gone = || Error::TableGone { table: table.to_u32() };
    Ok(QualifiedName {
        schema: Identifier::new(schema.ok_or_else(gone)?)?,
        name: Identifier::new(name.ok_or_else(gone)?)?,
    })
}

/// Whether policies hide rows of a table from the caller.
pub fn has_hidden_rows(relation: &PgRelation) -> bool {
    // SAFETY: a look-up for the current user; with no_error it raises none.
    let state = unsafe { pg_sys::check_enable_rls(relation.oid(), pg_sys::InvalidOid, true) };
    state == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

/// The rows of the partitions among some relations, as they were counted last; `None` where none is a
/// partition or has been counted.
pub fn rows_of_partitions(relations: &[pg_sys::Oid]) -> Option<f64> {
    let rows = relations.iter().filter_map(|relation| {
        // SAFETY: a syscache look-up, released at once; a relation that a plan names is locked.
        unsafe {
            let tuple = pg_sys::SearchSysCache1(
                pg_sys::SysCacheIdentifier::RELOID as i32,
                pg_sys::Datum::from(*relation),
            );
            if tuple.is_null() {
                return None;
            }
            let class = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_class>();
            let (is_partition, kind, rows) =
                ((*class).relispartition, (*class).relkind as u8, (*class).reltuples);
            pg_sys::ReleaseSysCache(tuple);
            (is_partition && kind == pg_sys::RELKIND_RELATION && rows >= 0.0).then_some(f64::from(rows))
        }
    });
    let rows: Vec<f64> = rows.collect();
    (!rows.is_empty()).then(|| rows.iter().sum())
}

/// Whether a table is partitioned.
pub fn is_partitioned(relation: &PgRelation) -> bool {
    relation_kind(relation) == pg_sys::RELKIND_PARTITIONED_TABLE
}

/// Whether a relation is an ordinary or a partitioned table.
pub fn is_table(relation: &PgRelation) -> bool {
    matches!(relation_kind(relation), pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE)
}

/// Whether a table is temporary.
pub fn is_temporary(relation: &PgRelation) -> bool {
    // SAFETY: the relation is open, so its pg_class row is there.
    unsafe { (*relation.rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP }
}

/// Whether a table is temporary and not of this session, which cannot read it.
pub fn is_of_other_session(relation: &PgRelation) -> bool {
    // SAFETY: the relation is open, so its descriptor is there.
    is_temporary(relation) && unsafe { !(*relation.as_ptr()).rd_islocaltemp }
}

/// What a relation is, for an error's detail.
pub fn kind_in_words(relation: &PgRelation) -> &'static str {
    match relation_kind(relation) {
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => "a table",
        pg_sys::RELKIND_MATVIEW => "a materialized view",
        pg_sys::RELKIND_VIEW => "a view",
        pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
        pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => "an index",
        _ => "another kind of relation",
    }
}

fn relation_kind(relation: &PgRelation) -> u8 {
    // SAFETY: the relation is open, so its pg_class row is there.
    unsafe { (*relation.rd_rel).relkind as u8 }
}

/// Schema and name of a relation.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn qualified_name(relation: &PgRelation) -> Result<QualifiedName> {
    Ok(QualifiedName {
        schema: Identifier::new(relation.namespace())?,
        name: Identifier::new(relation.name())?,
    })
}

/// The name as `regclass` writes it, with its schema.
pub fn display_name(relation: &PgRelation) -> String {
    let schema = std::ffi::CString::new(relation.namespace()).unwrap_or_default();
    let name = std::ffi::CString::new(relation.name()).unwrap_or_default();
    // SAFETY: two valid C strings; the result is a fresh copy.
    let quoted = unsafe { pg_sys::quote_qualified_identifier(schema.as_ptr(), name.as_ptr()) };
    owned_text(quoted).unwrap_or_default()
}

fn qualified_type_name(type_oid: pg_sys::Oid) -> String {
    // SAFETY: the type is that of an existing column; the result is a fresh copy.
    let name =
        unsafe { pg_sys::format_type_extended(type_oid, -1, pg_sys::FORMAT_TYPE_FORCE_QUALIFY as u16) };
    owned_text(name).unwrap_or_default()
}

fn primary_key(relation: &PgRelation) -> Result<Vec<Identifier>> {
    let columns = relation.tuple_desc();
    let numbers = primary_key_numbers(relation).into_iter();
    let attributes = numbers.filter_map(|number| columns.get(number as usize - 1));
    attributes.map(|attribute| Identifier::new(attribute.name())).collect()
}

/// The numbers of the primary key's columns, in the order of the table's.
pub fn primary_key_numbers(relation: &PgRelation) -> Vec<i32> {
    let mut numbers = Vec::new();
    // SAFETY: the relation is open; the bitmap is a copy in the current memory context and its
    // members are attribute numbers less FirstLowInvalidHeapAttributeNumber.
    unsafe {
        let members = pg_sys::RelationGetIndexAttrBitmap(
            relation.as_ptr(),
            pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY,
        );
        let mut member = pg_sys::bms_next_member(members, -1);
        while member >= 0 {
            numbers.push(member + pg_sys::FirstLowInvalidHeapAttributeNumber);
            member = pg_sys::bms_next_member(members, member);
        }
    }
    numbers
}

/// The arguments of the first `vector_tools.embed_row` trigger of a table.
fn embedding_trigger(relation: &PgRelation) -> Option<EmbeddingTrigger> {
    let trigger = own_triggers(relation, "embed_row").into_iter().next()?;
    let mut arguments = trigger.arguments.into_iter();
    Some(EmbeddingTrigger {
        content: arguments.next()?,
        embedding: arguments.next()?,
        model: arguments.next()?,
    })
}

/// A table of the extension's state; zero where the extension has not been created.
pub fn state_table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: syscache look-ups with valid C strings.
    unsafe {
        let schema = pg_sys::get_namespace_oid(STATE_SCHEMA.as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    }
}

/// Whether a function is the one of that name in the schema of the extension's state.
pub fn is_state_function(function: pg_sys::Oid, name: &str) -> bool {
    // SAFETY: syscache look-ups of a trigger's function; the name is a fresh copy or NULL.
    unsafe {
        let schema = pg_sys::get_namespace_oid(STATE_SCHEMA.as_ptr(), true);
        pg_sys::get_func_namespace(function) == schema
            && owned_text(pg_sys::get_func_name(function)).as_deref() == Some(name)
    }
}

/// A copy of a C string, `None` for NULL.
pub(crate) fn owned_text(pointer: *const std::ffi::c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not null, and all callers hand in C strings.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

/// The text search configuration of that name, found through search_path where it has no schema.
///
/// # Errors
/// The server's own (42704) where there is none.
pub fn find_text_configuration(name: &str) -> Result<QualifiedName> {
    let part = |column: &str| {
        let sql = format!(
            "SELECT {column}::pg_catalog.text FROM pg_catalog.pg_ts_config AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.cfgnamespace \
             WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.regconfig"
        );
        let found = Spi::get_one_with_args::<String>(&sql, &[name.into()]);
        Identifier::new(found.ok().flatten().unwrap_or_default())
    };
    Ok(QualifiedName { schema: part("n.nspname")?, name: part("c.cfgname")? })
}
