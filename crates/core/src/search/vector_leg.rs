//! The vector leg: the rows nearest to the query's embedding.

use crate::search::leg::{RowColumns, push_word_condition};
use crate::search::vector_space::VectorSpace;
use crate::search::{Filter, SearchSource};
use crate::sql::{Parameter, Statement};

/// How the nearest rows are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// By the order of an HNSW or IVFFlat index, where the planner agrees. Such a scan may end
    /// early when few of the rows it meets pass the filter or may be seen by the caller.
    Index,
    /// By the distances of all rows that pass.
    Exact,
}

/// What the vector leg looks for.
#[derive(Debug, Clone, Copy)]
pub struct VectorQuestion<'a> {
    /// The query's embedding.
    pub embedding: &'a [f32],
    /// A `tsquery` that rows must match.
    pub condition: Option<&'a str>,
}

/// The statement that finds the `depth` rows nearest to the question, nearest first, with columns
/// (tableoid, ctid, key as text, distance).
///
/// The inner ORDER BY is the one that an index serves. The outer one orders by exact distances,
/// since an index may hold less than the vectors and return rows slightly out of order.
pub fn vector_leg(
    source: &SearchSource,
    space: &VectorSpace,
    filter: &Filter,
    question: &VectorQuestion,
    depth: usize,
    scan: Scan,
) -> Statement {
    let mut statement = Statement::default();
    let query = statement.bind(Parameter::Vector(question.embedding.to_vec()));
    let limit = statement.bind(Parameter::Integer(depth as i64));
    let columns = RowColumns::of(source);
    let distance = space.distance(&space.query(&query));
    statement.push(format_args!(
        "SELECT leg.place, leg.row, {key}, leg.distance FROM (\
         SELECT {selected}, {distance} AS distance FROM {table} AS t WHERE t.{column} IS NOT NULL",
        key = columns.outer_key(source),
        selected = columns.selected(),
        table = source.facts.table,
        column = space.column.name,
    ));
    source.push_filter(filter, &mut statement);
    push_word_condition(&mut statement, source, question.condition);
    match scan {
        Scan::Index => {
            let scanned = statement.bind(Parameter::Integer(space.rows_to_scan(depth) as i64));
            statement.push(format_args!(" ORDER BY {} LIMIT {scanned}", space.indexed_distance(&query)))
        }
        // A subquery of its own, so that no index orders its rows.
        Scan::Exact => statement.push(format_args!(" OFFSET 0")),
    };
    statement.depends_on_values = !filter.is_empty() || question.condition.is_some();
    statement.push(format_args!(") AS leg WHERE leg.distance OPERATOR(pg_catalog.<) 'NaN'"));
    statement.push(format_args!(" ORDER BY leg.distance, {} LIMIT {limit}", columns.outer_order()));
    statement
}
