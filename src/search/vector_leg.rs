//! The vector leg: the rows nearest to the query's embedding.

use super::{Filter, Parameter, SearchSource, Statement};

/// The statement that finds the `depth` rows nearest to `query` by cosine distance, nearest
/// first, with columns (tableoid, ctid as text, key). An HNSW or IVFFlat index with
/// `vector_cosine_ops` serves its inner ORDER BY; the outer one makes the order total, since an
/// index may return rows slightly out of order.
pub fn vector_leg(source: &SearchSource, filter: &Filter, query: &[f32], depth: usize) -> Statement {
    let mut statement = Statement::default();
    let query = statement.bind(Parameter::Vector(query.to_vec()));
    let limit = statement.bind(Parameter::Integer(depth as i64));
    let embedding = &source.embedding.name;
    let operator = source.distance_operator();
    statement.push(format_args!(
        "SELECT leg.place, leg.row, leg.key FROM (\
         SELECT t.tableoid::pg_catalog.int8 AS place, t.ctid::pg_catalog.text AS row, {key} AS key, \
         t.{embedding} {operator} {query} AS distance \
         FROM {table} AS t WHERE t.{embedding} IS NOT NULL",
        key = source.key_expression(),
        table = source.facts.table,
    ));
    filter.push_conditions(&mut statement);
    statement.push(format_args!(
        " ORDER BY t.{embedding} {operator} {query} LIMIT {limit}) AS leg ORDER BY leg.distance, leg.key"
    ));
    statement
}
