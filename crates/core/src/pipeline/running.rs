//! Batches that have been started and have not ended, in a table.
//!
//! A row that brings its process down takes the transaction along in which it would be counted as an
//! attempt, so it would be tried, and bring the server down, for ever. So a batch is listed, and the list
//! committed, before it runs, and its own transaction takes it off the list. What a process that is gone
//! has left there is what it died over.

use crate::pipeline::Failure;
pub use crate::pipeline::failure::{DIED, OVERDUE, SHUT_DOWN};
use crate::sql::{Parameter, Statement};

/// A batch that a process is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningBatch {
    /// The table whose rows these are.
    pub source: u32,
    /// The entries of the queue that have them.
    pub entries: Vec<i64>,
    /// Their keys.
    pub keys: Vec<Vec<String>>,
}

impl RunningBatch {
    /// What its rows are said to have failed with.
    pub fn failure(&self, sqlstate: &str) -> Failure {
        let is_alone = self.keys.len() == 1;
        match sqlstate {
            OVERDUE => Failure::of_delay(is_alone),
            SHUT_DOWN => Failure::of_shutdown(is_alone),
            _ => Failure::of_death("server", is_alone),
        }
    }
}

/// A process as `pg_stat_activity` tells it from all others, also from later ones of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it began, in microseconds as PostgreSQL counts them.
    pub backend_start: i64,
}

/// A batch whose process is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedBatch {
    /// The process.
    pub process: Process,
    /// What it was at.
    pub batch: RunningBatch,
    /// SQLSTATE of what its rows have failed with.
    pub sqlstate: String,
}

/// Lists a batch of a process, in place of what it has left there.
pub fn list(process: Process, batch: &RunningBatch) -> Statement {
    let mut statement = Statement::default();
    let (pid, start) = bind(&mut statement, process);
    let source = statement.bind(Parameter::Integer(i64::from(batch.source)));
    let entries = statement.bind(Parameter::Integers(batch.entries.clone()));
    let keys = statement.bind(Parameter::TextLines(batch.keys.clone()));
    statement.push(format_args!(
        "INSERT INTO vector_tools.started_batches AS b (pid, backend_start, source, entries, keys) \
         VALUES ({pid}, {start}, {source}::pg_catalog.oid::pg_catalog.regclass, {entries}, {keys}) \
         ON CONFLICT (pid, backend_start) DO UPDATE SET started_at = excluded.started_at, \
             source = excluded.source, entries = excluded.entries, keys = excluded.keys"
    ));
    statement
}

/// Takes the batch of a process off the list, unless somebody is just doing so.
pub fn take_off(process: Process) -> Statement {
    let mut statement = Statement::default();
    let (pid, start) = bind(&mut statement, process);
    statement.push(format_args!(
        "DELETE FROM vector_tools.started_batches AS d WHERE d.ctid OPERATOR(pg_catalog.=) ANY (ARRAY( \
             SELECT b.ctid FROM vector_tools.started_batches AS b \
             WHERE b.pid OPERATOR(pg_catalog.=) {pid} AND b.backend_start OPERATOR(pg_catalog.=) {start} \
             FOR UPDATE SKIP LOCKED))"
    ));
    statement
}

/// Reads the batches whose processes are gone, with columns (pid, start of the process, table, entries, texts of the keys,
/// texts in each key, SQLSTATE). One that began before the server did need not have died by itself.
pub fn abandoned() -> Statement {
    // What is known of processes may be as old as the transaction; one that is hidden from the extension's owner is
    // taken for the one that is meant.
    let text = format!(
        "SELECT b.pid, b.backend_start, b.source::pg_catalog.oid, b.entries, b.keys, \
             pg_catalog.array_length(b.keys, 2), \
             CASE WHEN b.backend_start OPERATOR(pg_catalog.<) pg_catalog.pg_postmaster_start_time() \
                  THEN '{SHUT_DOWN}' ELSE '{DIED}' END \
         FROM vector_tools.started_batches AS b \
         WHERE b.backend_start OPERATOR(pg_catalog.<) pg_catalog.now() AND NOT EXISTS ( \
             SELECT FROM pg_catalog.pg_stat_get_activity(b.pid) AS a \
             JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) a.datid \
             WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
             AND coalesce(a.backend_start OPERATOR(pg_catalog.=) b.backend_start, true)) \
         ORDER BY b.started_at"
    );
    Statement { text, ..Statement::default() }
}

fn bind(statement: &mut Statement, process: Process) -> (String, String) {
    let pid = statement.bind(Parameter::Integer(i64::from(process.pid)));
    let start = statement.bind(Parameter::Timestamp(process.backend_start));
    (format!("{pid}::pg_catalog.int4"), start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(keys: &[&str]) -> RunningBatch {
        let keys = keys.iter().map(|key| vec![(*key).to_owned()]).collect();
        RunningBatch { source: 2, entries: vec![3], keys }
    }

    #[test]
    fn a_row_that_was_alone_is_dead_in_the_end() {
        for sqlstate in [DIED, OVERDUE, SHUT_DOWN] {
            let alone = batch(&["a"]).failure(sqlstate);
            assert_eq!((alone.most_attempts, alone.sqlstate.as_str()), (Some(5), sqlstate));
            let two = batch(&["a", "b"]).failure(sqlstate);
            assert_eq!(two.most_attempts, None, "expected the others not to be blamed");
            assert!(alone.is_suspicion() && two.is_suspicion());
        }
    }

    #[test]
    fn keys_are_bound() {
        let statement = list(Process { pid: 7, backend_start: 8 }, &batch(&["x'; DROP TABLE y; --"]));
        assert!(!statement.text.contains("DROP"), "{}", statement.text);
        assert_eq!(statement.parameters[1], Parameter::Timestamp(8));
    }
}
