//! The index by distance of a companion.

use pgrx::pg_sys;

use crate::kit::regclass::Regclass;
use crate::kit::subtransaction::attempt;
use crate::kit::{rights, spi};
use crate::pipeline::queue;
use crate::pipeline::searchable_tables::SearchableRelation;
use vector_tools_core::error::Result;
use vector_tools_core::pipeline::queue::has_due;
use vector_tools_core::pipeline::{IndexKind, SearchableTable};
use vector_tools_core::sql::identifier::{Identifier, QualifiedName};
use vector_tools_core::sql::{Parameter, Statement};

/// The indexes of a companion by distance.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn of(companion: &QualifiedName) -> Result<Vec<QualifiedName>> {
    let Some(found) = Regclass::find(companion) else {
        return Ok(vec![]);
    };
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(found.0.to_u32()));
    statement.push(format_args!(
        "SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_index AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
         JOIN pg_catalog.pg_am AS m ON m.oid OPERATOR(pg_catalog.=) c.relam \
         WHERE i.indrelid OPERATOR(pg_catalog.=) {table} \
         AND m.amname OPERATOR(pg_catalog.=) ANY ('{{hnsw,ivfflat}}'::pg_catalog.name[])"
    ));
    let names = spi::query_new_snapshot(&statement, |row| row.get::<String>(1));
    let name =
        |name: String| Ok(QualifiedName { schema: companion.schema.clone(), name: Identifier::new(name)? });
    names.into_iter().flatten().map(name).collect()
}

/// Creates the index by distance of a companion that has none, where there is to be one and it can be. Its rows
/// are counted with the rights of their owner, whose code the planner may run.
///
/// # Errors
/// Never in practice: names are short enough.
pub fn create(table: &SearchableTable, owner: pg_sys::Oid) -> Result<()> {
    if table.options.index_kind == IndexKind::None || !of(&table.companion)?.is_empty() {
        return Ok(());
    }
    let embeddings = match table.options.index_kind {
        IndexKind::Ivfflat => rights::acting_as(owner, || {
            spi::query_new_snapshot(&table.count_embeddings(), |row| row.get::<i64>(1))
        }),
        _ => vec![],
    };
    let sql = table.index_sql(embeddings.into_iter().flatten().next().unwrap_or(0));
    rights::with_pinned_path(|| spi::run_script(&sql));
    Ok(())
}

/// Creates an IVFFlat index whose rows are embedded by now. It needs the companion without other
/// writers, and does not wait for them: the last of them does it.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn create_when_filled(searched: &SearchableRelation) -> Result<()> {
    let table = &searched.table;
    if table.options.index_kind != IndexKind::Ivfflat || !of(&table.companion)?.is_empty() {
        return Ok(());
    }
    let due = has_due(searched.source.to_u32());
    let due = queue::with_rights_of_queue(|| spi::query_new_snapshot(&due, |row| row.get::<bool>(1)));
    if due.into_iter().flatten().any(|due| due) {
        return Ok(());
    }
    let lock = format!("LOCK TABLE {} IN SHARE MODE NOWAIT", table.companion);
    let created = attempt(|| {
        rights::acting_as(searched.owner, || {
            spi::run_script(&lock);
            create(table, searched.owner)
        })
    });
    match created {
        Ok(created) => created,
        Err(failure) => {
            if failure.sqlstate != "55P03" {
                pgrx::warning!(
                    "the index by distance of {} was not created: {}",
                    table.companion,
                    failure.message
                );
            }
            Ok(())
        }
    }
}

/// The rows of a relation as the planner estimates them from its pages, or `None` where nobody has
/// counted it yet.
pub fn estimated_rows(relation: pg_sys::Oid, rows: &Statement) -> Option<f64> {
    let mut statement = Statement::default();
    let relation = statement.bind(Parameter::Oid(relation.to_u32()));
    // Of a partitioned table the partitions are counted.
    statement.push(format_args!(
        "SELECT pg_catalog.bool_and(c.reltuples OPERATOR(pg_catalog.>=) 0) FROM pg_catalog.pg_class AS c \
         WHERE c.relkind OPERATOR(pg_catalog.<>) 'p' AND c.oid OPERATOR(pg_catalog.=) ANY ( \
             SELECT p.relid FROM pg_catalog.pg_partition_tree({relation}::pg_catalog.regclass) AS p \
             UNION ALL SELECT {relation})"
    ));
    let known = spi::query(&statement, |row| row.get::<bool>(1).unwrap_or(false));
    known.into_iter().all(|known| known).then(|| spi::estimate(rows).0)
}
