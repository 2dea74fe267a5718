//! Advisory locks, by which calls of several sessions wait for each other.

use crate::search::{Parameter, Statement};

/// The statement that waits for other writers; `is_shared` lets several in.
pub fn lock(key: i64, is_shared: bool) -> Statement {
    let mut statement = Statement::default();
    let key = statement.bind(Parameter::Integer(key));
    let shared = if is_shared { "_shared" } else { "" };
    statement.push(format_args!("SELECT pg_catalog.pg_advisory_xact_lock{shared}({key})"));
    statement
}

/// The statement that takes the same lock where nobody has it, and tells whether it has (one column).
pub fn try_lock(key: i64, is_shared: bool) -> Statement {
    let mut statement = Statement::default();
    let key = statement.bind(Parameter::Integer(key));
    let shared = if is_shared { "_shared" } else { "" };
    statement.push(format_args!("SELECT pg_catalog.pg_try_advisory_xact_lock{shared}({key})"));
    statement
}

/// A number for an advisory lock; each part goes in with its length, so that none can look like two.
pub fn lock_key(parts: &[&str]) -> i64 {
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let digest = crate::model::fingerprint::sha256_hex(format!("vector_tools {text}").as_bytes());
    // Sixteen hexadecimal digits always are a number of 64 bits.
    u64::from_str_radix(&digest[..16], 16).unwrap_or(0) as i64
}

/// The statement that lets one call at a time change what a table, by its number in the catalogue, is
/// governed by. Two that have opened it could not both alter it.
pub fn definition_lock(table: u32) -> Statement {
    lock(lock_key(&["definition", &table.to_string()]), false)
}
