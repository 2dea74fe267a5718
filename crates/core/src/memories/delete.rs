//! Forgetting: one memory, or a whole domain.

use crate::sql::identifier::QualifiedName;
use crate::sql::{Parameter, Statement};

/// The statement that deletes a memory.
pub fn delete(table: &QualifiedName, id: &str) -> Statement {
    let mut statement = Statement::default();
    let id = statement.bind(Parameter::Text(id.to_owned()));
    statement.push(format_args!("DELETE FROM {table} AS t WHERE t.id OPERATOR(pg_catalog.=) {id}"));
    statement
}

/// The SQL that drops a domain's table, unless something depends on it.
pub fn drop_sql(table: &QualifiedName) -> String {
    format!("DROP TABLE {table}")
}
