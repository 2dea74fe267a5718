//! What a level of access means for a table, and for the tables of a vector store around it.

use crate::error::{Error, Result};
use crate::sql::identifier::{Identifier, QualifiedName};
use crate::sql::template::fill_template;
use crate::sql::{Parameter, Statement};

/// The table of a vector store that holds the vectors.
pub const EMBEDDINGS: &str = "vector_embeddings";

/// The table of a vector store that lists its changes.
pub const AUDIT_LOG: &str = "vector_audit_log";

/// What a role may do with a table. Each level includes the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessLevel {
    /// Search and read.
    Reader,
    /// Insert, update and delete rows, too.
    Writer,
    /// Empty tables and make new ones, too. What only owners may, such as new namespaces, stays theirs.
    Admin,
}

const NAMES: [(&str, AccessLevel); 3] =
    [("reader", AccessLevel::Reader), ("writer", AccessLevel::Writer), ("admin", AccessLevel::Admin)];

impl AccessLevel {
    /// The level of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) when there is none.
    pub fn named(name: &str) -> Result<AccessLevel> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, level)| *level).ok_or_else(|| Error::InvalidArgument {
            argument: "level",
            expected: "'reader', 'writer' or 'admin'".to_owned(),
            found: format!("'{name}'"),
        })
    }

    fn of_schema(self) -> &'static str {
        if self == AccessLevel::Admin { "USAGE, CREATE" } else { "USAGE" }
    }

    fn of_table(self) -> &'static str {
        match self {
            AccessLevel::Reader => "SELECT",
            // An upsert deletes what a document does not have any more.
            AccessLevel::Writer => "SELECT, INSERT, UPDATE, DELETE",
            AccessLevel::Admin => "SELECT, INSERT, UPDATE, DELETE, TRUNCATE",
        }
    }

    fn of_collections(self) -> &'static str {
        match self {
            AccessLevel::Reader => "SELECT",
            AccessLevel::Writer => "SELECT, INSERT, UPDATE",
            AccessLevel::Admin => "SELECT, INSERT, UPDATE, DELETE",
        }
    }

    /// A writer queues and cancels; what a job says of its documents is the extension's to write.
    fn of_jobs(self) -> &'static str {
        match self {
            AccessLevel::Reader => "SELECT",
            AccessLevel::Writer => "SELECT, INSERT, UPDATE (status)",
            AccessLevel::Admin => "SELECT, INSERT, UPDATE, DELETE",
        }
    }

    /// Searches are logged with the rights of the log's owner, so that nobody needs any for it. An application
    /// that logs its own is a writer; the questions of others are not for everybody.
    fn of_search_log(self) -> Option<&'static str> {
        match self {
            AccessLevel::Reader => None,
            AccessLevel::Writer => Some("INSERT"),
            AccessLevel::Admin => Some("SELECT, INSERT, DELETE"),
        }
    }
}

/// A table of a vector store beside its embeddings, and what each level may do with it.
type Companion = (&'static str, fn(AccessLevel) -> Option<&'static str>);

/// The tables beside [`EMBEDDINGS`].
pub const COMPANIONS: [Companion; 4] = [
    ("embedding_collections", |level| Some(level.of_collections())),
    ("embedding_jobs", |level| Some(level.of_jobs())),
    ("vector_search_logs", AccessLevel::of_search_log),
    (AUDIT_LOG, |level| (level == AccessLevel::Admin).then_some("SELECT")),
];

/// What a level means for a table and its companions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants<'a> {
    schema: &'a Identifier,
    of_schema: Option<&'static str>,
    /// The privileges on each table, as GRANT takes them.
    of_tables: Vec<(&'a QualifiedName, &'static str)>,
}

impl<'a> Grants<'a> {
    /// What lets a role use `table` at a level, and the companions that are there.
    pub fn new(table: &'a QualifiedName, companions: &'a [QualifiedName], level: AccessLevel) -> Grants<'a> {
        let of_companion = |companion: &'a QualifiedName| {
            let (_, privileges) = COMPANIONS.iter().find(|(name, _)| *name == companion.name.as_str())?;
            Some((companion, privileges(level)?))
        };
        let of_tables = std::iter::once((table, level.of_table()));
        Grants {
            schema: &table.schema,
            of_schema: Some(level.of_schema()),
            of_tables: of_tables.chain(companions.iter().filter_map(of_companion)).collect(),
        }
    }

    /// What whoever takes all rights on `table` and its companions away must be able to grant himself.
    pub fn to_revoke(table: &'a QualifiedName, companions: &'a [QualifiedName]) -> Grants<'a> {
        let of_tables = std::iter::once(table).chain(companions).map(|table| (table, "SELECT")).collect();
        Grants { schema: &table.schema, of_schema: None, of_tables }
    }

    /// The statement that finds what the caller may not grant of it, with columns (whether it is the schema,
    /// its name). PostgreSQL itself says so in a WARNING, and goes on.
    pub fn not_grantable(&self) -> Statement {
        let mut statement = Statement::default();
        let of_schema = wanted(&mut statement, self.of_schema.unwrap_or_default());
        let schema = statement.bind(Parameter::Text(self.schema.as_str().to_owned()));
        statement.push(format_args!(
            "SELECT true AS is_schema, n.nspname::pg_catalog.text AS name FROM pg_catalog.pg_namespace AS n \
             WHERE n.nspname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name \
             AND EXISTS (SELECT FROM {of_schema} WHERE NOT pg_catalog.has_schema_privilege(n.oid, w.privilege))"
        ));
        for (table, privileges) in &self.of_tables {
            let of_table = wanted(&mut statement, privileges);
            let name = statement.bind(Parameter::Text(table.name.as_str().to_owned()));
            statement.push(format_args!(
                " UNION ALL SELECT false, c.relname::pg_catalog.text FROM pg_catalog.pg_class AS c \
                 JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
                 WHERE n.nspname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name \
                 AND c.relname OPERATOR(pg_catalog.=) {name}::pg_catalog.name \
                 AND EXISTS (SELECT FROM {of_table} WHERE NOT pg_catalog.has_table_privilege(c.oid, w.privilege))"
            ));
        }
        statement
    }

    /// The SQL that grants it.
    pub fn sql(&self, grantee: &Identifier) -> String {
        let mut sql = String::new();
        if let Some(privileges) = self.of_schema {
            let replacements = [
                ("{privileges}", privileges.to_owned()),
                ("{schema}", self.schema.to_string()),
                ("{grantee}", grantee.to_string()),
            ];
            sql += &fill_template(include_str!("../../../../sql/templates/grant_schema.sql"), &replacements);
        }
        for (table, privileges) in &self.of_tables {
            let replacements = [
                ("{privileges}", (*privileges).to_owned()),
                ("{relation}", table.to_string()),
                ("{grantee}", grantee.to_string()),
            ];
            sql += &fill_template(include_str!("../../../../sql/templates/grant_access.sql"), &replacements);
        }
        sql
    }
}

/// Privileges, as GRANT takes them, in a FROM clause `w(privilege)` as questions for the right to grant each.
fn wanted(statement: &mut Statement, privileges: &str) -> String {
    // Who may grant the whole of a table may grant it for a column.
    let name =
        |privilege: &str| format!("{} WITH GRANT OPTION", privilege.split(" (").next().unwrap_or_default());
    let names = privileges.split(", ").filter(|privilege| !privilege.is_empty()).map(name).collect();
    let names = statement.bind(Parameter::Texts(names));
    format!("pg_catalog.unnest({names}) AS w(privilege)")
}

/// The SQL that takes all rights on `table` and its companions from `grantee`.
pub fn revoke_sql(table: &QualifiedName, companions: &[QualifiedName], grantee: &Identifier) -> String {
    let revoke = |relation: &QualifiedName| {
        let replacements = [("{relation}", relation.to_string()), ("{grantee}", grantee.to_string())];
        fill_template(include_str!("../../../../sql/templates/revoke_access.sql"), &replacements)
    };
    std::iter::once(table).chain(companions).map(revoke).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> QualifiedName {
        let identifier = |name: &str| Identifier::new(name).expect("a valid name");
        QualifiedName { schema: identifier("store"), name: identifier(name) }
    }

    fn granted(level: AccessLevel) -> String {
        let companions: Vec<QualifiedName> = COMPANIONS.iter().map(|(table, _)| name(table)).collect();
        Grants::new(&name(EMBEDDINGS), &companions, level).sql(&Identifier::new("a\"b").expect("valid"))
    }

    #[test]
    fn each_privilege_is_asked_for() {
        let table = name("x'; DROP");
        let jobs = [name("embedding_jobs")];
        let statement = Grants::new(&table, &jobs, AccessLevel::Writer).not_grantable();
        assert!(!statement.text.contains("DROP"), "{}", statement.text);
        let asked = |names: &[&str]| {
            let names = names.iter().map(|name| format!("{name} WITH GRANT OPTION")).collect();
            statement.parameters.contains(&Parameter::Texts(names))
        };
        assert!(asked(&["USAGE"]), "{statement:?}");
        assert!(asked(&["SELECT", "INSERT", "UPDATE", "DELETE"]), "{statement:?}");
        assert!(asked(&["SELECT", "INSERT", "UPDATE"]), "{statement:?}");
    }

    #[test]
    fn levels_include_one_another() {
        let lines = |level| granted(level).lines().count();
        assert_eq!(
            [AccessLevel::Reader, AccessLevel::Writer, AccessLevel::Admin].map(lines),
            [4, 5, 6],
            "{}",
            granted(AccessLevel::Reader)
        );
        assert!(!granted(AccessLevel::Reader).contains("UPDATE"));
        assert!(!granted(AccessLevel::Reader).contains("vector_search_logs"));
        assert!(
            granted(AccessLevel::Writer).contains("UPDATE (status) ON TABLE \"store\".\"embedding_jobs\"")
        );
        assert!(!granted(AccessLevel::Writer).contains("TRUNCATE"));
        assert!(!granted(AccessLevel::Writer).contains("vector_audit_log"));
        assert!(granted(AccessLevel::Admin).contains("\"vector_audit_log\""));
    }

    #[test]
    fn nobody_can_change_the_audit_log() {
        let sql = granted(AccessLevel::Admin);
        assert!(sql.contains("GRANT SELECT ON TABLE \"store\".\"vector_audit_log\" TO \"a\"\"b\";"), "{sql}");
    }

    #[test]
    fn other_levels_are_refused() {
        assert_eq!(AccessLevel::named("writer"), Ok(AccessLevel::Writer));
        assert!(AccessLevel::named("Reader").is_err());
    }
}
