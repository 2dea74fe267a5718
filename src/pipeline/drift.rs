//! The SQL functions behind vector_tools.search_drift. Their declarations are in sql/pipeline.sql.

use pgrx::PgRelation;
use pgrx::prelude::*;

use crate::kit::catalog;
use crate::kit::lists;
use crate::kit::lists::Read;
use crate::kit::{rights, spi};
use crate::pipeline::enable::find_readable;
use crate::pipeline::searchable_tables::{Shadow, may_read};
use vector_tools_core::pipeline::Role;
use vector_tools_core::pipeline::drift::{count_embedded, count_store};
use vector_tools_core::sql::Statement;
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};

/// Rows and chunks of a searched table by companion and model; one line of NULLs where the caller may not
/// read them all.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn count_search_models(
    source: Option<pg_sys::Oid>,
) -> TableIterator<
    'static,
    (
        name!(role, Option<String>),
        // A regclass is passed as the oid it is.
        name!(companion, Option<pg_sys::Oid>),
        name!(model, Option<String>),
        name!(is_current, Option<bool>),
        name!(rows, Option<i64>),
        name!(chunks, Option<i64>),
    ),
> {
    let Some(searched) = source.and_then(find_readable) else {
        return TableIterator::once((None, None, None, None, None, None));
    };
    let live = searched.companion.map(|companion| (Role::Live, companion, &searched.table));
    let shadow = |role, shadow: &'_ Option<Shadow>| shadow.as_ref().map(|shadow| (role, shadow.companion));
    let (next, previous) = (shadow(Role::Next, &searched.next), shadow(Role::Previous, &searched.previous));
    let table_of = |role| match role {
        Role::Next => searched.next.as_ref().map_or(&searched.table, |shadow| &shadow.table),
        Role::Previous => searched.previous.as_ref().map_or(&searched.table, |shadow| &shadow.table),
        Role::Live => &searched.table,
    };
    let others = next.into_iter().chain(previous).map(|(role, companion)| (role, companion, table_of(role)));
    let mut lines = Vec::new();
    for (role, companion, table) in live.into_iter().chain(others) {
        let model = &table.options.model;
        let role = || Some(role.name().to_owned());
        let read = Read { table: companion, columns: &[c"chunk_index", c"model"] };
        match count_by_model(&table.source, searched.owner, &read, &table.count_by_model(), model) {
            Some(counts) => lines.extend(counts.into_iter().map(|counted| {
                let is_current = Some(counted.is_current);
                (role(), Some(companion), counted.model, is_current, counted.rows, counted.chunks)
            })),
            None => lines.push((role(), Some(companion), Some(model.clone()), None, None, None)),
        }
    }
    TableIterator::new(lines)
}

/// Rows of a table that have an embedding in a column of their own; NULL where the caller may not read them
/// all.
#[pg_extern(sql = false)]
fn count_embedded_rows(source: Option<pg_sys::Oid>, embedding_column: Option<String>) -> Option<i64> {
    let (relation, column) = (open_countable(source?)?, Identifier::new(embedding_column?).ok()?);
    if !may_read(&relation, &column) {
        return None;
    }
    let table = catalog::qualified_name(&relation).ok()?;
    let statement = count_embedded(&table, catalog::is_partitioned(&relation), &column);
    let (owner, read) = (rights::owner(&relation), Read::rows(relation.oid()));
    let counts = count_as_owner(&table, owner, &read, &statement, |row| row.get(1));
    counts?.into_iter().flatten().next()
}

/// Rows of a vector store by model; one line of NULLs where the caller may not read them all.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn count_store_models(
    store: Option<pg_sys::Oid>,
) -> TableIterator<
    'static,
    (
        name!(model, Option<String>),
        name!(is_current, Option<bool>),
        name!(rows, Option<i64>),
        name!(chunks, Option<i64>),
    ),
> {
    let Some(counts) = store.and_then(count_store_rows) else {
        return TableIterator::once((None, None, None, None));
    };
    TableIterator::new(
        counts
            .into_iter()
            .map(|counted| (counted.model, Some(counted.is_current), counted.rows, counted.chunks)),
    )
}

/// What is embedded with one model.
struct Counted {
    model: Option<String>,
    is_current: bool,
    rows: Option<i64>,
    chunks: Option<i64>,
}

fn count_store_rows(store: pg_sys::Oid) -> Option<Vec<Counted>> {
    let relation = open_countable(store)?;
    let read = Read { table: store, columns: &[c"embedding_model", c"chunk_index"] };
    if !read.columns.iter().all(|column| rights::may_read_named(&relation, column)) {
        return None;
    }
    let facts = catalog::read_table(&relation).ok()?;
    let model = facts.default_model.as_ref()?;
    count_by_model(&facts.table, rights::owner(&relation), &read, &count_store(&facts.table), model)
}

/// What a statement with columns (model, rows, chunks) counts; nothing of the model that there should be
/// where there is nothing at all.
fn count_by_model(
    table: &QualifiedName,
    owner: pg_sys::Oid,
    read: &Read,
    statement: &Statement,
    model: &str,
) -> Option<Vec<Counted>> {
    let mut counts = count_as_owner(table, owner, read, statement, |row| {
        let found: Option<String> = row.get(1);
        let is_current = found.as_deref() == Some(model);
        Counted { model: found, is_current, rows: row.get(2), chunks: row.get(3) }
    })?;
    if counts.is_empty() {
        let model = Some(model.to_owned());
        counts.push(Counted { model, is_current: true, rows: Some(0), chunks: Some(0) });
    }
    Some(counts)
}

/// A table whose rows the caller may all read, if he may read its columns.
fn open_countable(table: pg_sys::Oid) -> Option<PgRelation> {
    let relation = lists::open(table)?;
    let is_countable = catalog::is_table(&relation)
        && !catalog::is_of_other_session(&relation)
        && rights::may_use_schema(&relation)
        && !catalog::has_hidden_rows(&relation);
    is_countable.then_some(relation)
}

fn count_as_owner<T>(
    table: &QualifiedName,
    owner: pg_sys::Oid,
    tables: &Read,
    statement: &Statement,
    read: impl FnMut(&spi::Row) -> T,
) -> Option<Vec<T>> {
    lists::look_as_owner(table, owner, std::slice::from_ref(tables), || spi::query(statement, read))
}
