//! Making a store, and mending one that has lost its triggers.

use crate::audit::{guard_sql, log_sql};
use crate::error::Result;
use crate::sql::identifier::{Identifier, Literal, QualifiedName};
use crate::sql::template::fill_template;
use crate::sql::{Parameter, Statement};
use crate::store::StoreTables;
use crate::store::index::Storage;

const TEMPLATE: &str = include_str!("../../../../sql/templates/vector_store.sql");
const TOUCH_TEMPLATE: &str = include_str!("../../../../sql/templates/touch_trigger.sql");

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
        let made = fill_template(TEMPLATE, &replacements);
        let touched = touch_sql(&tables.embeddings()?) + &touch_sql(&tables.collections()?);
        Ok(format!("{made}\n{touched}\n{}", log_sql(&tables.audit_log()?)))
    }
}

fn touch_sql(table: &QualifiedName) -> String {
    fill_template(TOUCH_TEMPLATE, &[("{table}", table.to_string())])
}

/// The statement that lists the tables of a store which have lost the extension's trigger, as by
/// DROP EXTENSION … CASCADE, and which the caller may mend.
pub fn tables_without_triggers(tables: &StoreTables) -> Statement {
    let mut statement = Statement::default();
    let schema = statement.bind(Parameter::Text(tables.schema.as_str().to_owned()));
    statement.push(format_args!(
        "SELECT w.table_name FROM (VALUES ('vector_embeddings', 'touch_updated_at'), \
         ('embedding_collections', 'touch_updated_at'), ('vector_audit_log', 'vector_tools_guard')) \
         AS w(table_name, trigger_name) \
         JOIN pg_catalog.pg_class AS c ON c.relname OPERATOR(pg_catalog.=) w.table_name::pg_catalog.name \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name \
         AND c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p}}'::pg_catalog.\"char\"[]) \
         AND pg_catalog.pg_has_role(c.relowner, 'USAGE') \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid OPERATOR(pg_catalog.=) c.oid \
                         AND t.tgname OPERATOR(pg_catalog.=) w.trigger_name::pg_catalog.name)"
    ));
    statement
}

/// The SQL that gives these tables of a store their triggers again.
///
/// # Errors
/// Never in practice: the names are short.
pub fn mending_sql(tables: &StoreTables, lost: &[String]) -> Result<String> {
    let mut sql = String::new();
    for table in lost {
        sql += &match table.as_str() {
            "vector_embeddings" => touch_sql(&tables.embeddings()?),
            "embedding_collections" => touch_sql(&tables.collections()?),
            _ => guard_sql(&tables.audit_log()?),
        };
    }
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::identifier;

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
    fn lost_triggers_come_back_where_they_were() {
        let tables = StoreTables::new("x\"y").expect("a valid name");
        let lost = ["embedding_collections", "vector_audit_log"].map(str::to_owned);
        let sql = mending_sql(&tables, &lost).expect("valid");
        assert!(
            sql.contains(
                r#"touch_updated_at
    BEFORE UPDATE ON "x""y"."embedding_collections""#
            ),
            "{sql}"
        );
        assert!(sql.contains(r#"TRUNCATE ON "x""y"."vector_audit_log""#), "{sql}");
        assert!(!sql.contains("vector_embeddings") && !sql.contains('{'), "{sql}");
    }

    #[test]
    fn hostile_schemas_stay_names() {
        let sql = sql_for("x\"; DROP TABLE y; --");
        assert!(sql.contains(r#"CREATE TABLE "x""; DROP TABLE y; --"."vector_embeddings""#), "{sql}");
        assert!(sql_for("{model}").contains(r#""{model}"."embedding_jobs""#));
    }
}
