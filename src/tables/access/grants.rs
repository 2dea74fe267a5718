//! What a level of access means for a table, and for the tables of a vector store around it.

use crate::error::{Error, Result};
use crate::identifier::{Identifier, QualifiedName};
use crate::tables::template::fill_template;

/// The table of a vector store that holds the vectors.
pub const EMBEDDINGS: &str = "vector_embeddings";

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

    fn of_management(self) -> &'static str {
        match self {
            AccessLevel::Reader => "SELECT",
            AccessLevel::Writer => "SELECT, INSERT, UPDATE",
            AccessLevel::Admin => "SELECT, INSERT, UPDATE, DELETE",
        }
    }

    /// A search may be logged by whoever makes it; the questions of others are not for everybody.
    fn of_search_log(self) -> &'static str {
        if self == AccessLevel::Admin { "SELECT, INSERT, DELETE" } else { "INSERT" }
    }
}

/// A table of a vector store beside its embeddings, and what each level may do with it.
type Companion = (&'static str, fn(AccessLevel) -> Option<&'static str>);

/// The tables beside [`EMBEDDINGS`].
pub const COMPANIONS: [Companion; 4] = [
    ("embedding_collections", |level| Some(level.of_management())),
    ("embedding_jobs", |level| Some(level.of_management())),
    ("vector_search_logs", |level| Some(level.of_search_log())),
    ("vector_audit_log", |level| (level == AccessLevel::Admin).then_some("SELECT")),
];

/// The SQL that lets `grantee` use `table` at a level, and the companions that are there.
///
/// # Errors
/// [`Error::InvalidName`] (42602).
pub fn grant_sql(
    table: &QualifiedName,
    companions: &[QualifiedName],
    grantee: &Identifier,
    level: AccessLevel,
) -> String {
    let mut sql = fill_template(
        include_str!("../../../sql/templates/grant_schema.sql"),
        &[
            ("{privileges}", level.of_schema().to_owned()),
            ("{schema}", table.schema.to_string()),
            ("{grantee}", grantee.to_string()),
        ],
    );
    let mut push = |relation: &QualifiedName, privileges: &str| {
        let replacements = [
            ("{privileges}", privileges.to_owned()),
            ("{relation}", relation.to_string()),
            ("{grantee}", grantee.to_string()),
        ];
        sql.push_str(&fill_template(include_str!("../../../sql/templates/grant_access.sql"), &replacements));
    };
    push(table, level.of_table());
    for companion in companions {
        let known = COMPANIONS.iter().find(|(name, _)| *name == companion.name.as_str());
        if let Some(privileges) = known.and_then(|(_, privileges)| privileges(level)) {
            push(companion, privileges);
        }
    }
    sql
}

/// The SQL that takes all rights on `table` and its companions from `grantee`.
pub fn revoke_sql(table: &QualifiedName, companions: &[QualifiedName], grantee: &Identifier) -> String {
    let revoke = |relation: &QualifiedName| {
        let replacements = [("{relation}", relation.to_string()), ("{grantee}", grantee.to_string())];
        fill_template(include_str!("../../../sql/templates/revoke_access.sql"), &replacements)
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
        grant_sql(&name(EMBEDDINGS), &companions, &Identifier::new("a\"b").expect("valid"), level)
    }

    #[test]
    fn levels_include_one_another() {
        let lines = |level| granted(level).lines().count();
        assert_eq!(
            [AccessLevel::Reader, AccessLevel::Writer, AccessLevel::Admin].map(lines),
            [5, 5, 6],
            "{}",
            granted(AccessLevel::Reader)
        );
        assert!(!granted(AccessLevel::Reader).contains("UPDATE"));
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
