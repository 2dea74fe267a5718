//! The statements of the queue. They run with the rights of its owner, since nobody else may read it.

use std::time::Duration;

use crate::pipeline::failure::{DIED, OVERDUE, SHUT_DOWN};
use crate::pipeline::requeue::{Remainder, State};
use crate::pipeline::{Category, RetryDecision};
use crate::sql::{Parameter, Statement};

/// The tables that have entries: one look into the index for each.
const LISTED: &str = "WITH RECURSIVE listed AS ( \
         (SELECT q.source FROM vector_tools.queue AS q WHERE NOT q.gave_up ORDER BY q.source LIMIT 1) \
         UNION ALL \
         SELECT (SELECT q.source FROM vector_tools.queue AS q WHERE NOT q.gave_up \
                 AND q.source OPERATOR(pg_catalog.>) l.source ORDER BY q.source LIMIT 1) \
         FROM listed AS l WHERE l.source IS NOT NULL)";

/// When the first entry of each of them is due, and the last: what can wait is behind what was put off.
const FIRST: &str = "FROM listed AS l CROSS JOIN LATERAL ( \
         SELECT q.next_try FROM vector_tools.queue AS q \
         WHERE q.source OPERATOR(pg_catalog.=) l.source AND NOT q.gave_up \
         ORDER BY q.next_try LIMIT 1) AS first CROSS JOIN LATERAL ( \
         SELECT q.next_try FROM vector_tools.queue AS q \
         WHERE q.source OPERATOR(pg_catalog.=) l.source AND NOT q.gave_up \
         ORDER BY q.next_try DESC LIMIT 1) AS last";

/// The condition that the entry `q` is due. A subquery, since a volatile function is called for each row.
const IS_DUE: &str = "(q.next_try OPERATOR(pg_catalog.<=) (SELECT pg_catalog.clock_timestamp()) \
    OR q.next_try OPERATOR(pg_catalog.=) 'infinity')";

/// How soon rows are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// In the order in which they were queued.
    Usual,
    /// When nothing else of their table is due.
    WhenIdle,
}

/// Adds an entry for rows of a table. What can wait until nothing else is due is due at infinity: the
/// index has it last.
pub fn enqueue(source: u32, keys: &[Vec<String>], urgency: Urgency) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    let keys = statement.bind(Parameter::TextLines(keys.to_vec()));
    let next_try = match urgency {
        Urgency::Usual => "pg_catalog.now()",
        Urgency::WhenIdle => "'infinity'",
    };
    statement.push(format_args!(
        "INSERT INTO vector_tools.queue (source, keys, next_try) \
         VALUES ({source}::pg_catalog.regclass, {keys}, {next_try})"
    ));
    statement
}

/// Removes the entries of a table that can wait until nothing else is due, and that nobody has leased:
/// who waited for a batch could have what it waits for.
pub fn remove_waiting(source: u32) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queue AS d WHERE d.id OPERATOR(pg_catalog.=) ANY (ARRAY( \
             SELECT q.id FROM vector_tools.queue AS q WHERE q.source OPERATOR(pg_catalog.=) {source} \
             AND NOT q.gave_up AND q.next_try OPERATOR(pg_catalog.=) 'infinity' FOR UPDATE SKIP LOCKED))"
    ));
    statement
}

/// Reads the tables that have entries to be tried now, with columns (oid), those first whose entry is
/// due longest. One look into the index for each table.
pub fn due_sources() -> Statement {
    let text = format!(
        "{LISTED} SELECT l.source::pg_catalog.oid {FIRST} \
         WHERE first.next_try OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() \
         OR last.next_try OPERATOR(pg_catalog.=) 'infinity' ORDER BY first.next_try, l.source"
    );
    Statement { text, ..Statement::default() }
}

/// Reads the tables that have entries, with columns (oid, seconds until the first of them is due), as
/// [`due_sources`] does.
pub fn upcoming_sources() -> Statement {
    let text = format!(
        "{LISTED} SELECT l.source::pg_catalog.oid, \
             CASE WHEN last.next_try OPERATOR(pg_catalog.<) 'infinity' \
                  THEN pg_catalog.date_part('epoch', \
                      first.next_try OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()) \
                  ELSE 0 END {FIRST}"
    );
    Statement { text, ..Statement::default() }
}

/// Leases entries of a table until the transaction ends: a crash, a kill or an error gives them back
/// by itself. Columns (id, texts of the keys, texts in each key, attempts, those under suspicion). Only
/// entries that are fetched are leased.
pub fn lease(source: u32, most: usize) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    let most = statement.bind(Parameter::Integer(most as i64));
    let columns = columns_of_lease();
    statement.push(format_args!(
        "SELECT {columns} FROM vector_tools.queue AS q \
         WHERE q.source OPERATOR(pg_catalog.=) {source} AND NOT q.gave_up \
         AND {IS_DUE} ORDER BY q.next_try, q.id LIMIT {most} FOR UPDATE SKIP LOCKED"
    ));
    statement
}

fn columns_of_lease() -> String {
    format!(
        "q.id, q.keys, pg_catalog.array_length(q.keys, 2), q.attempts, \
         CASE WHEN q.sqlstate OPERATOR(pg_catalog.=) ANY ('{{{DIED},{SHUT_DOWN},{OVERDUE}}}') THEN q.attempts ELSE 0 END"
    )
}

/// Says whether a table has entries that are due, leased ones too.
pub fn has_due(source: u32) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    statement.push(format_args!(
        "SELECT EXISTS (SELECT FROM vector_tools.queue AS q \
         WHERE q.source OPERATOR(pg_catalog.=) {source} AND NOT q.gave_up AND {IS_DUE})"
    ));
    statement
}

/// Leases these entries like [`lease`], with its columns.
pub fn lease_these(ids: Vec<i64>) -> Statement {
    let mut statement = Statement::default();
    let ids = statement.bind(Parameter::Integers(ids));
    let columns = columns_of_lease();
    statement.push(format_args!(
        "SELECT {columns} FROM vector_tools.queue AS q \
         WHERE q.id OPERATOR(pg_catalog.=) ANY ({ids}) AND NOT q.gave_up ORDER BY q.id FOR UPDATE SKIP LOCKED"
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

/// Removes the dead entries of rows that are done now; keys as JSON arrays. A dead entry has one row.
pub fn remove_given_up(source: u32, keys: Vec<String>) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    let keys = statement.bind(Parameter::Texts(keys));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queue AS q WHERE q.source OPERATOR(pg_catalog.=) {source} \
         AND q.gave_up AND q.category IS NOT NULL \
         AND (pg_catalog.array_to_json(q.keys) OPERATOR(pg_catalog.->) 0)::pg_catalog.text \
             OPERATOR(pg_catalog.=) ANY ({keys})"
    ));
    statement
}

/// Adds an entry for rows that stay of another one, which it is a copy of but for what has happened to
/// them.
pub fn keep(remainder: &Remainder) -> Statement {
    let mut statement = Statement::default();
    let of = statement.bind(Parameter::Integer(remainder.of));
    let keys = statement.bind(Parameter::TextLines(remainder.keys.clone()));
    let [mut attempts, mut next_try, mut category, mut sqlstate, mut message, mut gave_up] =
        ["attempts", "next_try", "category", "sqlstate", "last_error", "gave_up"]
            .map(|name| format!("q.{name}"));
    match &remainder.state {
        State::Waiting => {}
        State::Postponed(wait) => next_try = time_after(&mut statement, *wait),
        State::Failed { attempts: count, failure, verdict } => {
            attempts = format!("{}::pg_catalog.int4", statement.bind(Parameter::Integer(i64::from(*count))));
            category = statement.bind(Parameter::Text(failure.category.name().to_owned()));
            sqlstate = statement.bind(Parameter::Text(failure.sqlstate.clone()));
            message = statement.bind(Parameter::Text(failure.message.clone()));
            gave_up = (*verdict == RetryDecision::GiveUp).to_string();
            if let RetryDecision::After(wait) = verdict {
                next_try = time_after(&mut statement, *wait);
            }
        }
    }
    statement.push(format_args!(
        "INSERT INTO vector_tools.queue (source, keys, enqueued_at, attempts, next_try, category, sqlstate, \
             last_error, gave_up) \
         SELECT q.source, {keys}, q.enqueued_at, {attempts}, {next_try}, {category}, {sqlstate}, {message}, \
             {gave_up} \
         FROM vector_tools.queue AS q WHERE q.id OPERATOR(pg_catalog.=) {of}"
    ));
    statement
}

/// Removes all entries of a table that nobody has leased.
pub fn remove_source(source: u32) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    statement.push(format_args!(
        "DELETE FROM vector_tools.queue AS d WHERE d.id OPERATOR(pg_catalog.=) ANY (ARRAY( \
             SELECT q.id FROM vector_tools.queue AS q \
             WHERE q.source OPERATOR(pg_catalog.=) {source} FOR UPDATE SKIP LOCKED))"
    ));
    statement
}

/// Has failed rows of a table tried again at once, those of one category where it is given, and gives
/// how many (one column).
pub fn retry(source: u32, category: Option<Category>) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    let of_category = category.map_or(String::new(), |category| {
        let category = statement.bind(Parameter::Text(category.name().to_owned()));
        format!(" AND q.category OPERATOR(pg_catalog.=) {category}")
    });
    statement.push(format_args!(
        "WITH retried AS (UPDATE vector_tools.queue AS q \
             SET gave_up = false, attempts = 0, next_try = pg_catalog.clock_timestamp() \
             WHERE q.source OPERATOR(pg_catalog.=) {source} AND q.category IS NOT NULL{of_category} \
             RETURNING pg_catalog.array_length(q.keys, 1) AS rows) \
         SELECT coalesce(pg_catalog.sum(r.rows), 0) FROM retried AS r"
    ));
    statement
}

/// Notes how many rows a batch has done and how long it took, for the rate that search_progress shows,
/// and forgets what is too old for it.
pub fn note_batch(source: u32, rows: usize, seconds: f64) -> Statement {
    let mut statement = Statement::default();
    let source = statement.bind(Parameter::Oid(source));
    let rows = statement.bind(Parameter::Integer(rows as i64));
    let seconds = statement.bind(Parameter::Number(seconds));
    // Old lines that another worker is deleting are skipped, so that nobody waits for anybody.
    statement.push(format_args!(
        "WITH old AS (DELETE FROM vector_tools.batches AS b WHERE b.id OPERATOR(pg_catalog.=) ANY (ARRAY( \
             SELECT o.id FROM vector_tools.batches AS o WHERE o.finished_at OPERATOR(pg_catalog.<) \
             (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '5 minutes'::pg_catalog.interval) \
             FOR UPDATE SKIP LOCKED))) \
         INSERT INTO vector_tools.batches (source, rows, seconds) \
         VALUES ({source}::pg_catalog.regclass, {rows}, {seconds})"
    ));
    statement
}

fn time_after(statement: &mut Statement, wait: Duration) -> String {
    let seconds = statement.bind(Parameter::Number(wait.as_secs_f64()));
    format!(
        "pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) \
         ({seconds} OPERATOR(pg_catalog.*) '1 second'::pg_catalog.interval)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Failure;

    fn failed(verdict: RetryDecision) -> Remainder {
        let message = "x'; DROP TABLE y; --".to_owned();
        let failure =
            Failure { category: Category::Row, most_attempts: Some(1), sqlstate: "22000".into(), message };
        let state = State::Failed { attempts: 3, failure, verdict };
        Remainder { of: 7, keys: vec![vec!["x'; DROP".into()]], state }
    }

    #[test]
    fn messages_and_keys_are_bound() {
        let statement = keep(&failed(RetryDecision::GiveUp));
        assert!(!statement.text.contains("DROP"), "{}", statement.text);
        assert!(statement.text.contains("q.next_try, $4, $5, $6, true FROM"), "{}", statement.text);
    }

    #[test]
    fn what_is_tried_again_has_its_time() {
        let statement = keep(&failed(RetryDecision::After(Duration::from_secs(2))));
        assert_eq!(statement.parameters.last(), Some(&Parameter::Number(2.0)));
        assert!(statement.text.contains("$4, $5, $6, false FROM"), "{}", statement.text);
    }
}
