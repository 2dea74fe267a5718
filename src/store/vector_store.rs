//! Vector stores, as the catalogue and their own tables know them.

use std::ffi::CString;

use pgrx::{PgRelation, pg_sys};

use crate::kit::catalog::pgvector_schema;
use crate::kit::regclass::Regclass;
use crate::kit::{catalog, rights, spi};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::name::nearest_name;
use vector_tools_core::search::TableFacts;
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};
use vector_tools_core::store::{Store, StoreTables};

/// A store that was looked up. Its table cannot be dropped until the transaction ends.
pub struct OpenStore {
    /// What a store is.
    pub store: Store,
    /// The table of embeddings.
    pub relation: PgRelation,
    /// What the catalogue says about it.
    pub facts: std::rc::Rc<TableFacts>,
}

impl OpenStore {
    /// The store, its table closed so that it can be altered; the lock stays.
    pub fn close(self) -> Store {
        self.store
    }
}

/// Looks the store of a schema up.
///
/// # Errors
/// [`Error::UnknownStore`] (42P01), [`Error::NotAStore`] (42809), [`Error::InvalidName`] (42602).
pub fn open(schema: &str) -> Result<OpenStore> {
    open_by(schema, catalog::open_table)
}

/// Looks the store of a schema up for a call that writes rows.
///
/// # Errors
/// Those of [`open`].
pub fn open_to_write(schema: &str) -> Result<OpenStore> {
    open_by(schema, catalog::open_table_to_write)
}

/// Takes a lock that a call will need later, before it holds a weaker one: of two that hold the weaker
/// one, neither would get the stronger. Nothing where there is no store.
///
/// # Errors
/// [`Error::InvalidName`] (42602).
pub fn lock(schema: &str, mode: TableLock) -> Result<()> {
    let embeddings = StoreTables::new(schema)?.embeddings()?;
    if Regclass::find(&embeddings).is_some() {
        spi::run_script(&format!("LOCK TABLE ONLY {embeddings} IN {} MODE", mode.name()));
    }
    Ok(())
}

/// Locks on the table of embeddings.
#[derive(Debug, Clone, Copy)]
pub enum TableLock {
    /// For a new partition: rows are read and written meanwhile.
    AddPartition,
    /// For a new index: rows are read meanwhile.
    Index,
    /// For dropping a partition: nobody uses the table.
    DropPartition,
}

impl TableLock {
    fn name(self) -> &'static str {
        match self {
            TableLock::AddPartition => "SHARE UPDATE EXCLUSIVE",
            TableLock::Index => "SHARE ROW EXCLUSIVE",
            TableLock::DropPartition => "ACCESS EXCLUSIVE",
        }
    }
}

fn open_by(schema: &str, open_table: fn(pg_sys::Oid) -> Result<PgRelation>) -> Result<OpenStore> {
    let tables = StoreTables::new(schema)?;
    let embeddings = tables.embeddings()?;
    let table = Regclass::find(&embeddings).ok_or_else(|| Error::UnknownStore {
        schema: schema.to_owned(),
        nearest: nearest_name(schema, schemas_with_stores().iter().map(String::as_str)),
    })?;
    let relation = open_table(table.0)?;
    let facts = catalog::read_table(&relation)?;
    let missing = |reason: &str| Error::NotAStore { table: facts.display.clone(), reason: reason.to_owned() };
    let column = facts.find("embedding").ok_or_else(|| missing("it has no column embedding"))?;
    let dimensions = column.dimensions.ok_or_else(|| missing("its column embedding has no dimensions"))?;
    let model = facts.default_model.clone();
    let store = Store {
        table_oid: table.0.to_u32(),
        model: model.ok_or_else(|| missing("its column embedding_model has no default"))?,
        dimensions,
        vector_type: column.type_name.clone(),
        pgvector_schema: pgvector_schema(),
        embeddings,
        tables,
    };
    Ok(OpenStore { store, relation, facts })
}

fn schemas_with_stores() -> Vec<String> {
    let mut statement = Statement::default();
    statement.push(
        "SELECT n.nspname::pg_catalog.text FROM vector_tools.vector_stores AS s \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) s.store \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace",
    );
    spi::query(&statement, |row| row.get(1)).into_iter().flatten().collect()
}

/// Whether a schema is there.
pub fn schema_exists(schema: &Identifier) -> bool {
    let Ok(schema) = CString::new(schema.as_str()) else { return false };
    // SAFETY: a syscache look-up with a valid C string.
    unsafe { pg_sys::get_namespace_oid(schema.as_ptr(), true) != pg_sys::InvalidOid }
}

/// The partition that holds a namespace and nothing else.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn partition_of(store: &Store, namespace: &str) -> Result<Option<QualifiedName>> {
    // As PostgreSQL writes a bound; the setting says how it writes backslashes.
    let bound = format!("FOR VALUES IN ('{}')", namespace.replace('\'', "''"));
    let mut statement = Statement::default();
    let bound = statement.bind(Parameter::Text(bound));
    let condition = format!("pg_catalog.pg_get_expr(c.relpartbound, c.oid) OPERATOR(pg_catalog.=) {bound}");
    push_partitions(&mut statement, store, &condition);
    let settings = [(c"standard_conforming_strings", "on".to_owned())];
    let found = spi::with_settings(&settings, || spi::query_new_snapshot(&statement, read_name));
    found.into_iter().flatten().next().transpose()
}

/// The partition of all other namespaces, if there still is one.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn default_partition(store: &Store) -> Result<Option<QualifiedName>> {
    let mut statement = Statement::default();
    let condition = "pg_catalog.pg_get_expr(c.relpartbound, c.oid) OPERATOR(pg_catalog.=) 'DEFAULT'";
    push_partitions(&mut statement, store, condition);
    spi::query_new_snapshot(&statement, read_name).into_iter().flatten().next().transpose()
}

/// All partitions.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn partitions(store: &Store) -> Result<Vec<QualifiedName>> {
    let mut statement = Statement::default();
    push_partitions(&mut statement, store, "true");
    spi::query_new_snapshot(&statement, read_name).into_iter().flatten().collect()
}

fn push_partitions(statement: &mut Statement, store: &Store, condition: &str) {
    let table = statement.bind(Parameter::Oid(store.table_oid));
    statement.push(format_args!(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_inherits AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE i.inhparent OPERATOR(pg_catalog.=) {table} AND {condition}"
    ));
}

fn read_name(row: &spi::Row) -> Option<Result<QualifiedName>> {
    let (schema, name): (String, String) = (row.get(1)?, row.get(2)?);
    let qualified = || Ok(QualifiedName { schema: Identifier::new(schema)?, name: Identifier::new(name)? });
    Some(qualified())
}

/// The indexes of a store's embeddings.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn vector_indexes(store: &Store) -> Result<Vec<QualifiedName>> {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(store.table_oid));
    statement.push(format_args!(
        "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) c.relam \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table} \
         AND m.amname OPERATOR(pg_catalog.=) ANY ('{{hnsw,ivfflat}}'::pg_catalog.name[])"
    ));
    spi::query_new_snapshot(&statement, read_name).into_iter().flatten().collect()
}

/// The columns that rows are copied by: all but the generated ones.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn stored_columns(relation: &PgRelation) -> Result<Vec<Identifier>> {
    let descriptor = relation.tuple_desc();
    let columns = descriptor.iter().filter(|column| !column.attisdropped && column.attgenerated == 0);
    columns.map(|column| Identifier::new(column.name())).collect()
}

/// The rows of a table, counted.
pub fn count(table: &QualifiedName) -> f64 {
    let mut statement = Statement::default();
    statement.push(format_args!("SELECT pg_catalog.count(*) FROM {table}"));
    let counts: Vec<Option<i64>> = spi::query_new_snapshot(&statement, |row| row.get(1));
    counts.into_iter().flatten().sum::<i64>() as f64
}

/// The role that owns a table, where that is not the caller.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn other_owner(relation: &PgRelation) -> Result<Option<Identifier>> {
    let owner = rights::owner(relation);
    // SAFETY: a variable of this process.
    let is_other = owner != unsafe { pg_sys::GetUserId() };
    if is_other { Identifier::new(rights::role_name(owner)).map(Some) } else { Ok(None) }
}

/// The table of a store's collections.
///
/// # Errors
/// [`Error::NotAStore`] (42809) where something else is in its place.
pub fn collections(store: &Store) -> Result<QualifiedName> {
    beside(store, store.tables.collections()?)
}

/// The table of a store's jobs.
///
/// # Errors
/// [`Error::NotAStore`] (42809) where something else is in its place.
pub fn jobs(store: &Store) -> Result<QualifiedName> {
    beside(store, store.tables.jobs()?)
}

/// Checks that what is called as a table beside the embeddings is one of their owner's, if it is there: who may create
/// in the schema of a store could have a view there, which runs his functions for whoever reads it.
fn beside(store: &Store, name: QualifiedName) -> Result<QualifiedName> {
    let mut statement = Statement::default();
    let schema = statement.bind(Parameter::Text(name.schema.as_str().to_owned()));
    let relation = statement.bind(Parameter::Text(name.name.as_str().to_owned()));
    let embeddings = statement.bind(Parameter::Integer(i64::from(store.table_oid)));
    statement.push(format_args!(
        "SELECT c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p}}'::pg_catalog.\"char\"[]) \
             AND c.relowner OPERATOR(pg_catalog.=) e.relowner \
         FROM pg_catalog.pg_namespace AS n \
         JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid \
          AND c.relname OPERATOR(pg_catalog.=) {relation}::pg_catalog.name \
         JOIN pg_catalog.pg_class AS e ON e.oid OPERATOR(pg_catalog.=) {embeddings}::pg_catalog.oid \
         WHERE n.nspname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name"
    ));
    if spi::query_new_snapshot(&statement, |row| row.get::<bool>(1))
        .into_iter()
        .flatten()
        .all(|is_own| is_own)
    {
        return Ok(name);
    }
    Err(Error::NotAStore {
        table: store.embeddings.to_string(),
        reason: format!("{name} is not a table of its owner's"),
    })
}

/// A collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Collection {
    /// Its id, a UUID as text.
    pub id: String,
    /// The namespace it is in.
    pub namespace: String,
}

/// Looks a collection up.
///
/// # Errors
/// [`Error::UnknownCollection`] (42704).
pub fn find_collection(store: &Store, name: &str) -> Result<Collection> {
    let found = collection(store, name)?;
    found.ok_or_else(|| Error::UnknownCollection {
        name: name.to_owned(),
        schema: store.tables.schema.as_str().to_owned(),
        nearest: nearest_name(name, collection_names(store).iter().map(String::as_str)),
    })
}

/// The collection of that name, if there is one.
///
/// # Errors
/// Never in practice: the names are short.
pub fn collection(store: &Store, name: &str) -> Result<Option<Collection>> {
    let mut statement = Statement::default();
    let wanted = statement.bind(Parameter::Text(name.to_owned()));
    statement.push(format_args!(
        "SELECT c.id::pg_catalog.text, c.namespace::pg_catalog.text FROM {} AS c \
         WHERE c.name OPERATOR(pg_catalog.=) {wanted}",
        collections(store)?
    ));
    let found = spi::query_new_snapshot(&statement, |row| {
        Some(Collection { id: row.get(1)?, namespace: row.get(2)? })
    });
    Ok(found.into_iter().flatten().next())
}

fn collection_names(store: &Store) -> Vec<String> {
    let mut statement = Statement::default();
    let Ok(collections) = collections(store) else { return vec![] };
    statement.push(format_args!("SELECT c.name::pg_catalog.text FROM {collections} AS c LIMIT 1000"));
    spi::query(&statement, |row| row.get(1)).into_iter().flatten().collect()
}

/// The role that the caller is.
pub fn current_role() -> String {
    // SAFETY: the current user exists; the name is a fresh copy.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), false);
        std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}
