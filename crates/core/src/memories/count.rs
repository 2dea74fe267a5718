//! Counting what a domain holds.

use crate::sql::Statement;
use crate::sql::identifier::QualifiedName;

/// The statement that counts the memories of a table, or those that have an embedding.
pub fn count(table: &QualifiedName, is_embedded: bool) -> Statement {
    let counted = if is_embedded { "t.embedding" } else { "*" };
    reading(format!("SELECT pg_catalog.count({counted}) FROM {table} AS t"))
}

/// The statement that reads the time of the last change of any memory.
pub fn last_update(table: &QualifiedName) -> Statement {
    reading(format!("SELECT pg_catalog.max(t.updated_at) FROM {table} AS t"))
}

fn reading(text: String) -> Statement {
    Statement { text, ..Statement::default() }
}
