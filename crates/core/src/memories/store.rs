//! Storing a memory.

use crate::memories::metadata::{Described, EPOCH};
use crate::sql::identifier::QualifiedName;
use crate::sql::{Parameter, Statement};

/// The statement that stores a memory under `id`. What `metadata` says of the generated keys wins
/// over them, so that memories of another store keep their times.
pub fn store(table: &QualifiedName, id: &str, content: &str, described: &Described) -> Statement {
    let mut statement = Statement::default();
    let id = statement.bind(Parameter::Text(id.to_owned()));
    let content = statement.bind(Parameter::Text(content.to_owned()));
    let metadata = described.metadata.clone().unwrap_or_else(|| "{}".to_owned());
    let metadata = statement.bind(Parameter::Text(metadata));
    let named = statement.bind(Parameter::Text(described.named_keys()));
    statement.push(format_args!(
        "INSERT INTO {table} (id, content, metadata) VALUES ({id}, {content}, \
         pg_catalog.jsonb_build_object('chunk_index', 0, 'created_at', {EPOCH}, 'updated_at', {EPOCH}) \
         OPERATOR(pg_catalog.||) {metadata}::pg_catalog.jsonb OPERATOR(pg_catalog.||) {named}::pg_catalog.jsonb)"
    ));
    statement
}

/// The statement that makes an id by an SQL expression.
pub fn make_id(new_id: &'static str) -> Statement {
    Statement { text: format!("SELECT {new_id}"), ..Statement::default() }
}
