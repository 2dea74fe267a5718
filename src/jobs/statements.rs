//! The statements of the queue. They run with the rights of its owner, since nobody else may read it.

use std::time::Duration;

use super::{Category, Failure};
use crate::search::{Parameter, Statement};

/// Adds entries for rows of a table, whose keys are given column by column.
pub fn enqueue(source: u32, columns: Vec<Vec<String>>) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Integer(i64::from(source)));
    let names: Vec<String> = (0..columns.len()).map(|place| format!("k.key_{place}")).collect();
    let names = names.join(", ");
    let arrays: Vec<String> = columns
        .into_iter()
        .map(|values| format!("pg_catalog.unnest({})", statement.bind(Parameter::Texts(values))))
        .collect();
    statement.push(format_args!(
        "INSERT INTO vector_tools.queue (source, key) \
         SELECT {source}::pg_catalog.oid::pg_catalog.regclass, ARRAY[{names}] \
         FROM ROWS FROM ({arrays}) AS k({aliases})",
        arrays = arrays.join(", "),
        aliases = names.replace("k.", ""),
    ));
    statement
}

/// Reads the tables that have entries to be tried now, with columns (oid), those first whose entry is
/// due longest. One look into the index for each table.
pub fn due_sources() -> Statement {
    let text = "WITH RECURSIVE listed AS ( \
             (SELECT q.source FROM vector_tools.queue AS q WHERE NOT q.is_dead ORDER BY q.source LIMIT 1) \
             UNION ALL \
             SELECT (SELECT q.source FROM vector_tools.queue AS q WHERE NOT q.is_dead \
                     AND q.source OPERATOR(pg_catalog.>) l.source ORDER BY q.source LIMIT 1) \
             FROM listed AS l WHERE l.source IS NOT NULL) \
         SELECT l.source::pg_catalog.oid FROM listed AS l CROSS JOIN LATERAL ( \
             SELECT q.next_try FROM vector_tools.queue AS q \
             WHERE q.source OPERATOR(pg_catalog.=) l.source AND NOT q.is_dead \
             ORDER BY q.next_try LIMIT 1) AS first \
         WHERE first.next_try OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() \
         ORDER BY first.next_try, l.source";
    Statement { text: text.to_owned(), ..Statement::default() }
}

/// Leases entries of a table until the transaction ends: a crash, a kill or an error gives them back
/// by itself. Columns (id, key, attempts).
pub fn lease(source: u32, limit: usize) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Integer(i64::from(source)));
    let limit = statement.bind(Parameter::Integer(limit as i64));
    // A subquery, since an index cannot serve a volatile function.
    statement.push(format_args!(
        "SELECT q.id, q.key, q.attempts FROM vector_tools.queue AS q \
         WHERE q.source OPERATOR(pg_catalog.=) {source}::pg_catalog.oid AND NOT q.is_dead \
         AND q.next_try OPERATOR(pg_catalog.<=) (SELECT pg_catalog.clock_timestamp()) \
         ORDER BY q.next_try, q.id LIMIT {limit} FOR UPDATE SKIP LOCKED"
    ));
    statement
}

/// Removes entries that are done.
pub fn remove(ids: Vec<i64>) -> Statement {
    let mut statement = Statement::default();
    let ids = statement.bind(Parameter::Integers(ids));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queue AS q WHERE q.id OPERATOR(pg_catalog.=) ANY ({ids})"
    ));
    statement
}

/// Removes the dead entries of rows that are done now; keys as JSON arrays.
pub fn remove_dead(source: u32, keys: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Integer(i64::from(source)));
    let keys = statement.bind(Parameter::Texts(keys));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queue AS q WHERE q.source OPERATOR(pg_catalog.=) {source}::pg_catalog.oid \
         AND q.is_dead AND q.category IS NOT NULL \
         AND pg_catalog.array_to_json(q.key)::pg_catalog.text OPERATOR(pg_catalog.=) ANY ({keys})"
    ));
    statement
}

/// Puts entries off without counting it as a failure.
pub fn postpone(ids: Vec<i64>, wait: Duration) -> Statement {
    let mut statement = Statement::default();
    let ids = statement.bind(Parameter::Integers(ids));
    let wait = statement.bind(Parameter::Number(wait.as_secs_f64()));
    statement.push(format_args!(
        "UPDATE vector_tools.queue AS q SET next_try = {} WHERE q.id OPERATOR(pg_catalog.=) ANY ({ids})",
        time_after(&wait)
    ));
    statement
}

/// Records a failure; without a wait the entries are dead.
pub fn record_failure(ids: Vec<i64>, attempts: u32, failure: &Failure, wait: Option<Duration>) -> Statement {
    let mut statement = Statement::default();
    let ids = statement.bind(Parameter::Integers(ids));
    let attempts = statement.bind(Parameter::Integer(i64::from(attempts)));
    let category = statement.bind(Parameter::Text(failure.category.name().to_owned()));
    let sqlstate = statement.bind(Parameter::Text(failure.sqlstate.clone()));
    let message = statement.bind(Parameter::Text(failure.message.clone()));
    let next_try = match wait {
        Some(wait) => {
            let wait = statement.bind(Parameter::Number(wait.as_secs_f64()));
            time_after(&wait)
        }
        None => "q.next_try".to_owned(),
    };
    statement.push(format_args!(
        "UPDATE vector_tools.queue AS q SET attempts = {attempts}, category = {category}, sqlstate = {sqlstate}, \
         last_error = {message}, is_dead = {is_dead}, next_try = {next_try} \
         WHERE q.id OPERATOR(pg_catalog.=) ANY ({ids})",
        is_dead = wait.is_none(),
    ));
    statement
}

/// Removes all entries of a table.
pub fn remove_source(source: u32) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Integer(i64::from(source)));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queue AS q WHERE q.source OPERATOR(pg_catalog.=) {source}::pg_catalog.oid"
    ));
    statement
}

/// Has failed entries of a table tried again at once, those of one category where it is given.
pub fn retry(source: u32, category: Option<Category>) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Integer(i64::from(source)));
    statement.push(format_args!(
        "UPDATE vector_tools.queue AS q SET is_dead = false, attempts = 0, next_try = pg_catalog.clock_timestamp() \
         WHERE q.source OPERATOR(pg_catalog.=) {source}::pg_catalog.oid AND q.category IS NOT NULL"
    ));
    if let Some(category) = category {
        let category = statement.bind(Parameter::Text(category.name().to_owned()));
        statement.push(format_args!(" AND q.category OPERATOR(pg_catalog.=) {category}"));
    }
    statement
}

/// Notes how many rows a batch has done and how long it took, for the rate that search_progress shows,
/// and forgets what is too old for it.
pub fn note_batch(source: u32, rows: usize, seconds: f64) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Integer(i64::from(source)));
    let rows = statement.bind(Parameter::Integer(rows as i64));
    let seconds = statement.bind(Parameter::Number(seconds));
    // Old lines that another worker is deleting are skipped, so that nobody waits for anybody.
    statement.push(format_args!(
        "WITH old AS (DELETE FROM vector_tools.batches AS b WHERE b.id IN ( \
             SELECT o.id FROM vector_tools.batches AS o WHERE o.finished_at OPERATOR(pg_catalog.<) \
             (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '5 minutes'::pg_catalog.interval) \
             FOR UPDATE SKIP LOCKED)) \
         INSERT INTO vector_tools.batches (source, rows, seconds) \
         VALUES ({source}::pg_catalog.oid::pg_catalog.regclass, {rows}, {seconds})"
    ));
    statement
}

fn time_after(seconds: &str) -> String {
    format!(
        "pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) \
         ({seconds} OPERATOR(pg_catalog.*) '1 second'::pg_catalog.interval)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_several_columns_are_given_column_by_column() {
        let statement = enqueue(7, vec![vec!["1".into(), "2".into()], vec!["a".into(), "b".into()]]);
        assert!(statement.text.contains("ARRAY[k.key_0, k.key_1]"), "{}", statement.text);
        assert!(statement.text.ends_with("AS k(key_0, key_1)"), "{}", statement.text);
        assert_eq!(statement.parameters.len(), 3);
    }

    #[test]
    fn messages_are_bound() {
        let message = "x'; DROP TABLE y; --".to_owned();
        let failure =
            Failure { category: Category::Row, is_permanent: true, sqlstate: "22000".into(), message };
        let statement = record_failure(vec![1], 1, &failure, None);
        assert!(!statement.text.contains("DROP"), "{}", statement.text);
        assert!(statement.text.contains("is_dead = true"), "{}", statement.text);
    }
}
