//! The keyword leg: the rows that share words with the query.

use super::{Filter, Parameter, SearchSource, Statement};

/// The tsquery, as text, that matches any of the lexemes; `None` without any (a query of stop
/// words finds nothing by keyword).
pub fn any_word_query(lexemes: &[String]) -> Option<String> {
    let quoted: Vec<String> = lexemes
        .iter()
        .map(|lexeme| format!("'{}'", lexeme.replace('\\', "\\\\").replace('\'', "''")))
        .collect();
    (!quoted.is_empty()).then(|| quoted.join(" | "))
}

/// The statement that finds the `depth` rows ranked highest by `ts_rank` among those that match
/// `query` (a tsquery as text), with columns (tableoid, ctid as text, key).
pub fn keyword_leg(source: &SearchSource, filter: &Filter, query: &str, depth: usize) -> Statement {
    let mut statement = Statement::default();
    let query = statement.bind(Parameter::Text(query.to_owned()));
    let limit = statement.bind(Parameter::Integer(depth as i64));
    let lexemes = &source.lexemes.name;
    statement.push(format_args!(
        "SELECT t.tableoid::pg_catalog.int8, t.ctid::pg_catalog.text, {key} \
         FROM {table} AS t WHERE t.{lexemes} OPERATOR(pg_catalog.@@) {query}::pg_catalog.tsquery",
        key = source.key_expression(),
        table = source.facts.table,
    ));
    filter.push_conditions(&mut statement);
    statement.push(format_args!(
        " ORDER BY pg_catalog.ts_rank(t.{lexemes}, {query}::pg_catalog.tsquery) DESC, {} LIMIT {limit}",
        source.key_order(),
    ));
    statement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lexemes_are_alternatives_and_quoted() {
        let lexemes = ["glue".to_owned(), "o'brien".to_owned(), "a\\b".to_owned()];
        let query = any_word_query(&lexemes);
        assert_eq!(query.as_deref(), Some("'glue' | 'o''brien' | 'a\\\\b'"));
        assert_eq!(any_word_query(&[]), None);
    }
}
