//! The domain-memories table: one table of memories for each domain of an assistant's life.

use super::template::fill_template;
use crate::error::{Error, Result};
use crate::identifier::{Identifier, Literal, QualifiedName};

const TEMPLATE: &str = include_str!("../../sql/templates/domain_memories.sql");
/// The longest ending of the names made from a domain.
const LONGEST_SUFFIX: &str = "_memories_embedding_idx";

/// A domain-memories table to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoriesTable {
    /// Where the table goes, `{domain}_memories`.
    pub table: QualifiedName,
    domain: String,
}

impl MemoriesTable {
    /// The table for `domain` in `schema`.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602) when the domain is empty or too long for the names made
    /// from it (40 bytes).
    pub fn new(schema: Identifier, domain: &str) -> Result<MemoriesTable> {
        Identifier::new(domain)?;
        Identifier::new(format!("{domain}{LONGEST_SUFFIX}")).map_err(|_| Error::InvalidName {
            name: domain.to_owned(),
            reason: format!("a domain has at most {} bytes", 63 - LONGEST_SUFFIX.len()),
        })?;
        let name = Identifier::new(format!("{domain}_memories"))?;
        Ok(MemoriesTable { table: QualifiedName { schema, name }, domain: domain.to_owned() })
    }

    /// The SQL that creates the table, its indexes and its triggers.
    ///
    /// `new_id` is the SQL expression for ids, `text_configuration` a quoted, qualified text
    /// search configuration.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602).
    pub fn creation_sql(
        &self,
        model: &str,
        dimensions: usize,
        pgvector_schema: &Identifier,
        text_configuration: &QualifiedName,
        new_id: &str,
    ) -> Result<String> {
        let table = &self.table.name;
        let comment = format!("memories of the domain {}, embedded with {model}", self.domain);
        let replacements = [
            ("{table}", self.table.to_string()),
            ("{embedding_index}", table.with_suffix("_embedding_idx")?.to_string()),
            ("{metadata_index}", table.with_suffix("_metadata_idx")?.to_string()),
            ("{updated_index}", table.with_suffix("_updated_idx")?.to_string()),
            ("{content_index}", table.with_suffix("_content_idx")?.to_string()),
            ("{lexemes_index}", table.with_suffix("_lexemes_idx")?.to_string()),
            ("{vector}", pgvector_schema.to_string()),
            ("{dimensions}", dimensions.to_string()),
            ("{configuration}", Literal(&text_configuration.to_string()).to_string()),
            ("{model}", Literal(model).to_string()),
            ("{comment}", Literal(&comment).to_string()),
            ("{new_id}", new_id.to_owned()),
        ];
        Ok(fill_template(TEMPLATE, &replacements))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(name: &str) -> Identifier {
        Identifier::new(name).expect("a valid name")
    }

    fn sql_for(domain: &str) -> String {
        let configuration = QualifiedName { schema: identifier("pg_catalog"), name: identifier("english") };
        MemoriesTable::new(identifier("public"), domain)
            .and_then(|table| table.creation_sql("m", 384, &identifier("public"), &configuration, "new_id()"))
            .expect("valid")
    }

    #[test]
    fn no_placeholder_is_left() {
        let sql = sql_for("startup");
        assert!(sql.contains(r#"CREATE TABLE "public"."startup_memories""#), "{sql}");
        assert!(sql.contains(r#""public".vector(384)"#), "{sql}");
        assert!(!sql.contains('{') || sql.contains("'{}'"), "{sql}");
    }

    #[test]
    fn hostile_domains_stay_names() {
        let sql = sql_for("x\"; DROP TABLE y; --");
        assert!(sql.contains(r#""x""; DROP TABLE y; --_memories""#), "{sql}");
        let sql = sql_for("{model}");
        assert!(sql.contains(r#""{model}_memories""#), "{sql}");
    }

    #[test]
    fn long_and_empty_domains_are_refused() {
        for domain in ["", &"d".repeat(41)] {
            assert!(MemoriesTable::new(identifier("public"), domain).is_err());
        }
        assert!(MemoriesTable::new(identifier("public"), &"d".repeat(40)).is_ok());
    }
}
