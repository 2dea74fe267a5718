//! Auditing: the log of a schema, the triggers that write it, and the statements they run.

pub mod change;

use crate::error::Result;
use crate::sql::identifier::{Identifier, Literal, QualifiedName};
use crate::sql::template::fill_template;
use crate::sql::{Parameter, Statement};

const LOG_TEMPLATE: &str = include_str!("../../../../sql/templates/audit_log.sql");
const GUARD_TEMPLATE: &str = include_str!("../../../../sql/templates/audit_guard.sql");
const ROWS_TEMPLATE: &str = include_str!("../../../../sql/templates/audit_rows.sql");
const TRUNCATE_TEMPLATE: &str = include_str!("../../../../sql/templates/audit_truncate.sql");

/// Longer keys are not in the index of a log, as its template says.
const INDEXED_CHARACTERS: usize = 600;

/// The third argument of an audit trigger.
const EMBEDDINGS: [&str; 2] = ["without embeddings", "with embeddings"];

/// What the arguments of an audit trigger say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// Where changes are written.
    pub log: QualifiedName,
    /// Whether vectors, lexemes and bit strings are written too.
    pub include_embeddings: bool,
}

impl AuditOptions {
    /// Reads the arguments of a trigger; `None` when they are not those of an audit trigger.
    pub fn from_arguments(arguments: &[String]) -> Option<AuditOptions> {
        let [schema, log, embeddings] = arguments else {
            return None;
        };
        let include_embeddings = EMBEDDINGS.iter().position(|known| known == embeddings)? == 1;
        let log = QualifiedName { schema: Identifier::new(schema).ok()?, name: Identifier::new(log).ok()? };
        Some(AuditOptions { log, include_embeddings })
    }

    /// The SQL that makes the trigger for rows, or changes the one there is.
    pub fn rows_trigger_sql(&self, table: &QualifiedName) -> String {
        self.fill(ROWS_TEMPLATE, table)
    }

    /// The SQL that makes the trigger for TRUNCATE, or changes the one there is.
    pub fn truncate_trigger_sql(&self, table: &QualifiedName) -> String {
        self.fill(TRUNCATE_TEMPLATE, table)
    }

    fn fill(&self, template: &str, table: &QualifiedName) -> String {
        let literal = |text: &str| Literal(text).to_string();
        let replacements = [
            ("{table}", table.to_string()),
            ("{log_schema}", literal(self.log.schema.as_str())),
            ("{log_name}", literal(self.log.name.as_str())),
            ("{embeddings}", literal(EMBEDDINGS[usize::from(self.include_embeddings)])),
        ];
        fill_template(template, &replacements)
    }

    /// What differs from other options, in words for a NOTICE; `None` when nothing does.
    pub fn difference_from(&self, before: &AuditOptions) -> Option<String> {
        let mut parts = Vec::new();
        if self.log != before.log {
            parts.push(format!("into {} instead of {}", self.log, before.log));
        }
        if self.include_embeddings != before.include_embeddings {
            let [without, with] = EMBEDDINGS;
            parts.push(if self.include_embeddings { with } else { without }.to_owned());
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// The SQL that creates a log.
pub fn log_sql(log: &QualifiedName) -> String {
    fill_template(LOG_TEMPLATE, &[("{log}", log.to_string())]) + "\n" + &guard_sql(log)
}

/// The SQL that gives a log its guard, without which a table is no log.
pub fn guard_sql(log: &QualifiedName) -> String {
    fill_template(GUARD_TEMPLATE, &[("{log}", log.to_string())])
}

/// The SQL that drops the triggers of a table: those for rows with all their copies, and that for
/// TRUNCATE.
pub fn drop_sql(table: &QualifiedName, trigger: &Identifier) -> String {
    format!("DROP TRIGGER {trigger} ON {table}")
}

/// The SQL that takes from a new log what default privileges have given to others.
pub fn revoke_sql(log: &QualifiedName, grantee: Option<&Identifier>) -> String {
    let grantee = grantee.map_or_else(|| "PUBLIC".to_owned(), Identifier::to_string);
    format!("REVOKE ALL ON TABLE {log} FROM {grantee}")
}

/// Writes changes: ($1 schema, $2 table, $3 current user, $4 session user, then as arrays
/// $5 operations, $6 partitions, $7 record ids, $8 old and $9 new data).
pub fn insert_sql(log: &QualifiedName) -> String {
    format!(
        "INSERT INTO {log} (table_schema, table_name, changed_by, session_user_name, operation, partition_name, \
         record_id, old_data, new_data, changed_at, transaction_id) \
         SELECT $1, $2, $3, $4, pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), \
         pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.now(), pg_catalog.pg_current_xact_id()"
    )
}

/// Makes one UPDATE of the DELETE that was written last and the INSERT that follows it, when a
/// row has moved to another partition: ($1 schema, $2 table, $3 partition, $4 record id, $5 new
/// data).
pub fn join_sql(log: &QualifiedName) -> String {
    format!(
        "UPDATE {log} AS l SET operation = 'UPDATE', partition_name = $3, record_id = $4, new_data = $5 \
         WHERE l.id OPERATOR(pg_catalog.=) (SELECT d.id FROM {log} AS d \
         WHERE d.operation OPERATOR(pg_catalog.=) 'DELETE' AND d.table_schema OPERATOR(pg_catalog.=) $1 \
         AND d.table_name OPERATOR(pg_catalog.=) $2 \
         AND d.transaction_id OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id() \
         ORDER BY d.id DESC LIMIT 1)"
    )
}

/// Reads the changes of a table, or of one of its rows, newest first.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::error::Error::InvalidArgument) (22023) for a limit below 0.
pub fn history_statement(
    log: &QualifiedName,
    (schema, table): (&str, &str),
    record_id: Option<&str>,
    limit: i64,
) -> Result<Statement> {
    if limit < 0 {
        return Err(crate::error::Error::InvalidArgument {
            argument: "\"limit\"",
            expected: "0 or greater".to_owned(),
            found: limit.to_string(),
        });
    }
    let mut statement = Statement::default();
    let [schema, table] = [schema, table].map(|name| statement.bind(Parameter::Text(name.to_owned())));
    statement.push(format_args!(
        "SELECT l.id, l.operation, l.record_id, l.partition_name, l.old_data, l.new_data, l.changed_by, \
         l.session_user_name, l.changed_at, l.transaction_id FROM {log} AS l \
         WHERE l.table_schema OPERATOR(pg_catalog.=) {schema} AND l.table_name OPERATOR(pg_catalog.=) {table}"
    ));
    if let Some(record_id) = record_id {
        let bound = statement.bind(Parameter::Text(record_id.to_owned()));
        statement.push(format_args!(" AND l.record_id OPERATOR(pg_catalog.=) {bound}"));
        if record_id.chars().count() <= INDEXED_CHARACTERS {
            statement.push(format_args!(
                " AND pg_catalog.length(l.record_id) OPERATOR(pg_catalog.<=) {INDEXED_CHARACTERS}"
            ));
        }
    }
    let limit = statement.bind(Parameter::Integer(limit));
    statement.push(format_args!(" ORDER BY l.id DESC LIMIT {limit}"));
    // With a record few rows qualify, without one the newest are wanted: two plans.
    statement.depends_on_values = true;
    Ok(statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, name: &str) -> QualifiedName {
        let identifier = |name: &str| Identifier::new(name).expect("a valid name");
        QualifiedName { schema: identifier(schema), name: identifier(name) }
    }

    fn options(log: &str, include_embeddings: bool) -> AuditOptions {
        AuditOptions { log: name("public", log), include_embeddings }
    }

    #[test]
    fn triggers_carry_the_options() {
        let sql = options("log", true).rows_trigger_sql(&name("public", "t"));
        assert!(sql.contains("audit_change('public', 'log', 'with embeddings')"), "{sql}");
        let arguments = ["public", "log", "with embeddings"].map(str::to_owned);
        assert_eq!(AuditOptions::from_arguments(&arguments), Some(options("log", true)));
        assert_eq!(AuditOptions::from_arguments(&arguments[..2]), None);
        assert_eq!(AuditOptions::from_arguments(&["public", "log", "yes"].map(str::to_owned)), None);
    }

    #[test]
    fn hostile_names_stay_names() {
        let hostile = "x\"; DROP TABLE y; --'{table}";
        let sql = options(hostile, false).truncate_trigger_sql(&name("public", hostile));
        assert!(sql.contains(r#"ON "public"."x""; DROP TABLE y; --'{table}""#), "{sql}");
        assert!(sql.contains(r#"'x"; DROP TABLE y; --''{table}'"#), "{sql}");
        for sql in
            [log_sql(&name("s", hostile)), insert_sql(&name("s", hostile)), join_sql(&name("s", hostile))]
        {
            assert!(sql.contains(r#""s"."x""; DROP TABLE y; --'{table}""#), "{sql}");
        }
    }

    #[test]
    fn differences_are_told() {
        let before = options("a", false);
        assert_eq!(options("a", false).difference_from(&before), None);
        let difference = options("b", true).difference_from(&before).unwrap_or_default();
        assert_eq!(difference, r#"into "public"."b" instead of "public"."a", with embeddings"#);
    }

    #[test]
    fn history_binds_its_values() {
        let log = name("public", "log");
        let statement = history_statement(&log, ("public", "t"), Some("7"), 5).expect("valid");
        assert!(statement.text.contains("l.record_id OPERATOR(pg_catalog.=) $3"), "{}", statement.text);
        assert_eq!(statement.parameters.len(), 4);
        assert!(history_statement(&log, ("public", "t"), None, -1).is_err());
    }
}
