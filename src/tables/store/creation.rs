//! Making a store.

use super::StoreTables;
use super::index::Storage;
use crate::error::Result;
use crate::identifier::{Identifier, Literal, QualifiedName};
use crate::tables::audit::log_sql;
use crate::tables::template::fill_template;

const TEMPLATE: &str = include_str!("../../../sql/templates/vector_store.sql");

/// A store to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewStore<'a> {
    /// Where its tables go.
    pub tables: &'a StoreTables,
    /// The model that embeds its documents.
    pub model: &'a str,
    /// The dimensions of the model's vectors.
    pub dimensions: usize,
    /// The type of the vectors.
    pub storage: Storage,
    /// The schema of pgvector.
    pub pgvector_schema: &'a Identifier,
    /// The text search configuration of the words.
    pub text_configuration: &'a QualifiedName,
    /// The SQL expression for ids.
    pub new_id: &'a str,
}

impl NewStore<'_> {
    /// The SQL that creates the tables, without the vector index.
    ///
    /// # Errors
    /// Never in practice: the names are short.
    pub fn creation_sql(&self) -> Result<String> {
        let tables = self.tables;
        let comment = format!("embeddings of documents by {}, partitioned by namespace", self.model);
        let replacements = [
            ("{table}", tables.embeddings()?.to_string()),
            ("{default_partition}", tables.default_partition()?.to_string()),
            ("{collections}", tables.collections()?.to_string()),
            ("{jobs}", tables.jobs()?.to_string()),
            ("{search_logs}", tables.search_logs()?.to_string()),
            ("{vector}", self.pgvector_schema.to_string()),
            ("{storage}", self.storage.type_name().to_owned()),
            ("{dimensions}", self.dimensions.to_string()),
            ("{configuration}", Literal(&self.text_configuration.to_string()).to_string()),
            ("{model}", Literal(self.model).to_string()),
            ("{comment}", Literal(&comment).to_string()),
            ("{new_id}", self.new_id.to_owned()),
        ];
        Ok(fill_template(TEMPLATE, &replacements) + &log_sql(&tables.audit_log()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::identifier;
    use super::*;

    fn sql_for(schema: &str) -> String {
        let configuration = QualifiedName { schema: identifier("pg_catalog"), name: identifier("english") };
        let new = NewStore {
            tables: &StoreTables::new(schema).expect("a valid name"),
            model: "all-MiniLM-L6-v2",
            dimensions: 384,
            storage: Storage::HalfVector,
            pgvector_schema: &identifier("public"),
            text_configuration: &configuration,
            new_id: "new_id()",
        };
        new.creation_sql().expect("valid")
    }

    #[test]
    fn no_placeholder_is_left() {
        let sql = sql_for("regulation");
        assert!(sql.contains(r#"CREATE TABLE "regulation"."vector_embeddings" ("#), "{sql}");
        assert!(sql.contains(r#""public".halfvec(384) NOT NULL"#), "{sql}");
        assert!(!sql.replace("'{}'", "").contains('{'), "{sql}");
    }

    #[test]
    fn hostile_schemas_stay_names() {
        let sql = sql_for("x\"; DROP TABLE y; --");
        assert!(sql.contains(r#"CREATE TABLE "x""; DROP TABLE y; --"."vector_embeddings""#), "{sql}");
        assert!(sql_for("{model}").contains(r#""{model}"."embedding_jobs""#));
    }
}
