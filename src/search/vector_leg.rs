//! The vector leg: the rows nearest to the query's embedding.

use super::{Filter, Parameter, SearchSource, Statement};

/// How the nearest rows are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// As the planner likes, by an HNSW or IVFFlat index where there is one. Such a scan may end
    /// early when few of the rows it meets pass the filter or may be seen by the caller.
    Planned,
    /// By the distances of all rows that pass.
    Exact,
}

/// The statement that finds the `depth` rows nearest to `query` by cosine distance, nearest
/// first, with columns (tableoid, ctid as text, key). An index with `vector_cosine_ops` serves its
/// inner ORDER BY; the outer one makes the order total, since an index may return rows slightly
/// out of order.
pub fn vector_leg(
    source: &SearchSource,
    filter: &Filter,
    query: &[f32],
    depth: usize,
    scan: Scan,
) -> Statement {
    let mut statement = Statement::default();
    let query = statement.bind(Parameter::Vector(query.to_vec()));
    let limit = statement.bind(Parameter::Integer(depth as i64));
    let embedding = &source.embedding.name;
    let distance = format!("t.{embedding} {} {query}", source.distance_operator());
    statement.push(format_args!(
        "SELECT leg.place, leg.row, leg.key FROM (\
         SELECT t.tableoid::pg_catalog.int8 AS place, t.ctid::pg_catalog.text AS row, {key} AS key, \
         {distance} AS distance FROM {table} AS t WHERE t.{embedding} IS NOT NULL",
        key = source.key_expression(),
        table = source.facts.table,
    ));
    filter.push_conditions(&mut statement);
    match scan {
        Scan::Planned => statement.push(format_args!(" ORDER BY {distance}")),
        // No index orders by a sum.
        Scan::Exact => {
            statement.push(format_args!(" ORDER BY ({distance}) OPERATOR(pg_catalog.+) 0::pg_catalog.float8"))
        }
    };
    statement.push(format_args!(" LIMIT {limit}) AS leg ORDER BY leg.distance, leg.key"));
    statement
}
