//! Statements over rows that are known by their place: scoring what one leg did not see, and
//! fetching what won.

use crate::search::bm25_index::Bm25Index;
use crate::search::candidate::Location;
use crate::search::keyword_leg::{KeywordQuestion, score_expression};
use crate::search::leg::RowColumns;
use crate::search::lexemes::configuration_expression;
use crate::search::request::ChunkChoice;
use crate::search::source::Origin;
use crate::search::{Filter, SearchSource};
use crate::sql::{Parameter, Statement};

/// What rows are measured by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measures<'a> {
    /// The query's embedding.
    pub embedding: Option<&'a [f32]>,
    /// The query's words.
    pub keywords: Option<&'a KeywordQuestion>,
    /// The index that scores words instead of the tsvector column.
    pub index: Option<&'a Bm25Index>,
    /// What the filter says of the columns by which the table is partitioned, so that a statement
    /// visits only the partitions that the legs have visited.
    pub partitions: Option<&'a Filter>,
}

/// How matched words are shown.
#[derive(Debug, Clone, Copy)]
pub struct Highlight<'a> {
    /// The text search configuration; `None` for the session's own.
    pub configuration: Option<&'a str>,
    /// The words, as a `tsquery` in text form.
    pub words: &'a str,
}

/// The statement that scores rows by both legs, in any order, with columns (tableoid, ctid,
/// distance, text_score). Both are there for every row that has them, whichever leg found it.
pub fn measure_rows(source: &SearchSource, rows: &[Location], measures: &Measures) -> Statement {
    let mut statement = Statement::default();
    let (distance, score) = measure_expressions(&mut statement, source, measures);
    statement.push(format_args!("SELECT t.tableoid, t.ctid, {distance}, {score}"));
    push_rows(&mut statement, source, rows, measures.partitions);
    statement
}

/// The statement that reads the embeddings of rows, in any order, with columns (tableoid, ctid,
/// embedding as `vector`).
pub fn fetch_embeddings(source: &SearchSource, rows: &[Location], partitions: Option<&Filter>) -> Statement {
    let mut statement = Statement::default();
    let embedding =
        source.vectors.as_ref().map_or("NULL".to_owned(), |space| format!("t.{}", space.column.name));
    let vector = format!("{}.vector", source.facts.pgvector_schema);
    statement.push(format_args!("SELECT t.tableoid, t.ctid, {embedding}::{vector}"));
    push_rows(&mut statement, source, rows, partitions);
    statement
}

/// The statement that reads rows, in any order, with columns (tableoid, ctid, distance,
/// text_score, content, doc as text, highlight). The doc is the row without its vectors and
/// tsvectors.
pub fn fetch_rows(
    source: &SearchSource,
    rows: &[Location],
    measures: &Measures,
    highlight: Option<Highlight>,
) -> Statement {
    let mut statement = Statement::default();
    let (distance, score) = measure_expressions(&mut statement, source, measures);
    let content = source.content.as_ref().map_or("NULL".to_owned(), |column| format!("t.{column}"));
    let document = match &source.origin {
        None => {
            let shown: Vec<String> =
                source.facts.shown_columns().map(|column| format!("t.{column}")).collect();
            format!("SELECT pg_catalog.to_jsonb(d.*) FROM (SELECT {}) AS d", shown.join(", "))
        }
        Some(origin) => row_of_chunk(origin),
    };
    let content = match &source.origin {
        Some(origin) if origin.chunks == ChunkChoice::Parent => text_of_parent(origin),
        _ => content,
    };
    let highlight = highlight.filter(|_| source.content.is_some()).map_or("NULL".to_owned(), |highlight| {
        let configuration = configuration_expression(&mut statement, highlight.configuration);
        let words = statement.bind(Parameter::Text(highlight.words.to_owned()));
        format!(
            "pg_catalog.ts_headline({configuration}, ({content})::pg_catalog.text, {words}::pg_catalog.tsquery)"
        )
    });
    statement.push(format_args!(
        "SELECT t.tableoid, t.ctid, {distance}, {score}, ({content})::pg_catalog.text, \
         ({document})::pg_catalog.text, ({highlight})::pg_catalog.text",
    ));
    push_rows(&mut statement, source, rows, measures.partitions);
    statement
}

/// The row that the chunk `t` is of, as JSON, and the chunk's place in it.
fn row_of_chunk(origin: &Origin) -> String {
    let shown: Vec<String> = origin.shown.iter().map(|column| format!("s.{column}")).collect();
    format!(
        "SELECT pg_catalog.to_jsonb(d.*) OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('_chunk', \
             pg_catalog.jsonb_build_object('index', t.chunk_index, 'start', t.start_offset, 'end', t.end_offset, \
             'parent', t.parent_index)) \
         FROM (SELECT {} FROM {} AS s WHERE {}) AS d",
        shown.join(", "),
        origin.from,
        origin.same_row,
    )
}

/// The text of the chunk that the chunk `t` is a part of, else its own.
fn text_of_parent(origin: &Origin) -> String {
    format!(
        "coalesce((SELECT p.content FROM {} AS p WHERE {} \
         AND p.chunk_index OPERATOR(pg_catalog.=) t.parent_index), t.content)",
        origin.companion, origin.same_chunks,
    )
}

/// The statement that puts rows in the order of their keys, with the columns of a leg and no score.
pub fn order_rows(source: &SearchSource, rows: &[Location], partitions: Option<&Filter>) -> Statement {
    let columns = RowColumns::of(source);
    let mut statement = Statement::default();
    statement.push(format_args!(
        "SELECT leg.place, leg.row, {key}, 0::pg_catalog.float8 FROM (SELECT {selected}",
        key = columns.outer_key(source),
        selected = columns.selected(),
    ));
    push_rows(&mut statement, source, rows, partitions);
    statement.push(format_args!(") AS leg ORDER BY {}", columns.outer_order()));
    statement
}

fn measure_expressions(
    statement: &mut Statement,
    source: &SearchSource,
    measures: &Measures,
) -> (String, String) {
    let distance = match (&source.vectors, measures.embedding) {
        (Some(space), Some(embedding)) => {
            let query = statement.bind(Parameter::Vector(embedding.to_vec()));
            space.distance(&space.query(&query))
        }
        _ => "NULL".to_owned(),
    };
    let score = match (measures.index, &source.lexemes, measures.keywords) {
        (Some(index), _, Some(question)) => {
            let query = statement.bind(Parameter::Text(question.text.clone()));
            index.score(&query)
        }
        (None, Some(lexemes), Some(question)) => score_expression(statement, lexemes, question, 0),
        _ => "NULL".to_owned(),
    };
    (format!("({distance})::pg_catalog.float8"), format!("({score})::pg_catalog.float8"))
}

fn push_rows(
    statement: &mut Statement,
    source: &SearchSource,
    rows: &[Location],
    partitions: Option<&Filter>,
) {
    let mut tables: Vec<u32> = rows.iter().map(|row| row.table).collect();
    tables.sort_unstable();
    tables.dedup();
    let tables = statement.bind(Parameter::Texts(tables.iter().map(u32::to_string).collect()));
    let places = statement.bind(Parameter::Texts(rows.iter().map(Location::to_string).collect()));
    statement.push(format_args!(
        " FROM {table} AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY ({places}::pg_catalog.tid[]) \
         AND t.tableoid OPERATOR(pg_catalog.=) ANY ({tables}::pg_catalog.oid[])",
        table = source.facts.table,
    ));
    if let Some(partitions) = partitions {
        partitions.push_conditions(statement);
        // A plan for all values would lock the other partitions, and wait for who changes them.
        statement.depends_on_values = true;
    }
}
