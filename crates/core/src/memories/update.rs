//! Changing a memory.

use crate::memories::metadata::{Described, EPOCH};
use crate::sql::identifier::QualifiedName;
use crate::sql::{Parameter, Statement};

/// The statement that changes what is given of a memory, and the times of its last change.
pub fn update(table: &QualifiedName, id: &str, content: Option<&str>, described: &Described) -> Statement {
    let mut statement = Statement::default();
    let id = statement.bind(Parameter::Text(id.to_owned()));
    let metadata = described.metadata.clone().unwrap_or_else(|| "{}".to_owned());
    let metadata = statement.bind(Parameter::Text(metadata));
    let named = statement.bind(Parameter::Text(described.named_keys()));
    statement.push(format_args!("UPDATE {table} AS t SET "));
    // A column that is not named needs no right to change it, and does not wake its triggers.
    if let Some(content) = content {
        let content = statement.bind(Parameter::Text(content.to_owned()));
        statement.push(format_args!("content = {content}, "));
    }
    statement.push(format_args!(
        "metadata = t.metadata OPERATOR(pg_catalog.||) {metadata}::pg_catalog.jsonb \
         OPERATOR(pg_catalog.||) {named}::pg_catalog.jsonb \
         OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('updated_at', {EPOCH}), \
         updated_at = pg_catalog.now() WHERE t.id OPERATOR(pg_catalog.=) {id}"
    ));
    statement
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::identifier::Identifier;

    #[test]
    fn content_is_named_only_where_it_changes() {
        let identifier = |name: &str| Identifier::new(name).expect("valid");
        let table = QualifiedName { schema: identifier("s"), name: identifier("t") };
        let without = update(&table, "i", None, &Described::default());
        assert!(!without.text.contains("content"), "{}", without.text);
        assert_eq!(without.parameters.len(), 3);
        let with = update(&table, "i", Some("new"), &Described::default());
        assert!(with.text.contains("content = $4, "), "{}", with.text);
    }
}
