//! Fetching the rows that won, and only those, with their measures in both legs.

use super::{Parameter, RankedRow, SearchSource, Statement};

/// The statement that reads `rows`, in any order, with columns (tableoid, ctid as text,
/// similarity, text_score, content, doc as text). `similarity` is 1 − cosine distance, so between
/// −1 and 1; both measures are there for every row that has them, whichever leg found it.
pub fn fetch_rows(
    source: &SearchSource,
    rows: &[RankedRow],
    query_embedding: Option<&[f32]>,
    keyword_query: Option<&str>,
) -> Statement {
    let mut statement = Statement::default();
    let places = rows.iter().map(|row| row.location.table.to_string()).collect();
    let places = statement.bind(Parameter::Texts(places));
    let locations = rows.iter().map(|row| row.location.row.clone()).collect();
    let locations = statement.bind(Parameter::Texts(locations));
    let embedding = &source.embedding.name;
    let lexemes = &source.lexemes.name;
    let similarity = query_embedding.map_or("NULL".to_owned(), |query| {
        let query = statement.bind(Parameter::Vector(query.to_vec()));
        format!(
            "1::pg_catalog.float8 OPERATOR(pg_catalog.-) (t.{embedding} {} {query})",
            source.distance_operator()
        )
    });
    let text_score = keyword_query.map_or("NULL".to_owned(), |query| {
        let query = statement.bind(Parameter::Text(query.to_owned()));
        format!("pg_catalog.ts_rank(t.{lexemes}, {query}::pg_catalog.tsquery)")
    });
    let content = source.content.as_ref().map_or("NULL".to_owned(), |column| format!("t.{column}"));
    let hidden =
        statement.bind(Parameter::Texts(vec![embedding.as_str().to_owned(), lexemes.as_str().to_owned()]));
    statement.push(format_args!(
        "SELECT t.tableoid::pg_catalog.int8, t.ctid::pg_catalog.text, \
         ({similarity})::pg_catalog.float8, ({text_score})::pg_catalog.float8, \
         ({content})::pg_catalog.text, \
         (pg_catalog.to_jsonb(t.*) OPERATOR(pg_catalog.-) {hidden})::pg_catalog.text \
         FROM {table} AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY ({locations}::pg_catalog.tid[]) \
         AND t.tableoid OPERATOR(pg_catalog.=) ANY ({places}::pg_catalog.oid[])",
        table = source.facts.table,
    ));
    statement
}
