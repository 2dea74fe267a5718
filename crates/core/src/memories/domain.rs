//! Which table a domain has: `{domain}_memories`, found through the search_path.

use crate::error::{Error, Result};
use crate::search::TableFacts;
use crate::search::source::ColumnKind;
use crate::sql::Statement;
use crate::sql::identifier::{Identifier, MAX_IDENTIFIER_BYTES};

/// What follows the domain in the name of its table.
pub const SUFFIX: &str = "_memories";
/// The longest domain that a table can be created for: the names of its indexes are longer still.
const CREATED_DOMAIN_BYTES: usize = MAX_IDENTIFIER_BYTES - "_memories_embedding_idx".len();
/// How many names an error lists.
const NEAREST: usize = 3;

/// The name of a domain's table. A table that was renamed may have a longer domain than one that
/// can be created.
///
/// # Errors
/// [`Error::InvalidName`] (42602) when no table can have it.
pub fn table_name(domain: &str) -> Result<Identifier> {
    Identifier::new(domain)?;
    Identifier::new(format!("{domain}{SUFFIX}")).map_err(|_| Error::InvalidName {
        name: domain.to_owned(),
        reason: format!("a domain has at most {CREATED_DOMAIN_BYTES} bytes"),
    })
}

/// Checks that a table for `domain` can be created.
///
/// # Errors
/// [`Error::InvalidName`] (42602) when it is empty or too long for the names made from it.
pub fn check_new_domain(domain: &str) -> Result<()> {
    Identifier::new(domain)?;
    if domain.len() > CREATED_DOMAIN_BYTES {
        let reason = format!("a domain has at most {CREATED_DOMAIN_BYTES} bytes");
        return Err(Error::InvalidName { name: domain.to_owned(), reason });
    }
    Ok(())
}

/// Checks that a table has what a domain is made of.
///
/// # Errors
/// [`Error::NotMemories`] (42809), with what is missing.
pub fn check_shape(table: &TableFacts) -> Result<()> {
    let wanted = [
        ("id", None),
        ("content", Some(ColumnKind::Text)),
        ("embedding", Some(ColumnKind::Vector)),
        ("metadata", Some(ColumnKind::Json)),
        ("created_at", None),
        ("updated_at", None),
    ];
    let is_missing = |(name, kind): &(&str, Option<ColumnKind>)| {
        table.find(name).is_none_or(|column| kind.is_some_and(|kind| kind != column.kind))
    };
    let missing: Vec<&str> = wanted.into_iter().filter(is_missing).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::NotMemories { table: table.display.clone(), missing: missing.join(", ") })
}

/// The statement that lists the domains of the search_path that the caller may use.
pub fn visible_domains() -> Statement {
    let text = "SELECT d.domain FROM vector_tools.domains AS d \
         JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) d.source \
         JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.=) ANY (pg_catalog.current_schemas(false)) \
         AND (pg_catalog.has_any_column_privilege(c.oid, 'SELECT') \
              OR pg_catalog.has_any_column_privilege(c.oid, 'INSERT'))";
    Statement { text: text.to_owned(), ..Statement::default() }
}

/// The error for a domain that has no table, with the nearest of the known ones by edit distance.
pub fn unknown_domain(domain: &str, mut known: Vec<String>) -> Error {
    // The hint would otherwise tell to create what cannot be created.
    if let Err(error) = check_new_domain(domain) {
        return error;
    }
    known.sort_by_cached_key(|name| (strsim::osa_distance(domain, name), name.clone()));
    known.dedup();
    known.truncate(NEAREST);
    Error::UnknownDomain { domain: domain.to_owned(), nearest: known }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::search::source::tests::facts_with;

    /// A memories table without triggers, for 384 dimensions.
    pub(crate) fn memories_facts() -> TableFacts {
        use ColumnKind::{Json, Lexemes, Other, Text, Vector};
        let mut facts = facts_with(&[
            ("id", Text),
            ("content", Text),
            ("embedding", Vector),
            ("metadata", Json),
            ("created_at", Other),
            ("updated_at", Other),
            ("lexemes", Lexemes),
        ]);
        facts.columns[2].dimensions = Some(384);
        facts
    }

    #[test]
    fn names_that_no_table_can_have_are_refused() {
        assert_eq!(table_name("startup").map(|name| name.to_string()), Ok("\"startup_memories\"".into()));
        assert!(table_name(&"x".repeat(54)).is_ok());
        for domain in ["", "a\0b", &"x".repeat(55), &"ü".repeat(28)] {
            assert_eq!(table_name(domain).map_err(|error| error.facts().sqlstate), Err("42602"));
        }
    }

    #[test]
    fn what_is_missing_is_listed() {
        let mut facts = memories_facts();
        assert_eq!(check_shape(&facts), Ok(()));
        facts.columns.retain(|column| column.name.as_str() != "updated_at");
        facts.columns[3].kind = ColumnKind::Other;
        let error = check_shape(&facts).expect_err("two columns are missing");
        assert_eq!(error.facts().sqlstate, "42809");
        assert!(format!("{:?}", error.facts()).contains("metadata, updated_at"), "{error:?}");
    }

    #[test]
    fn the_nearest_domains_are_listed() {
        let known = ["health", "startup", "default", "start", "stratup"].map(str::to_owned).to_vec();
        let Error::UnknownDomain { nearest, .. } = unknown_domain("startp", known) else {
            panic!("expected an unknown domain");
        };
        assert_eq!(nearest, ["start", "startup", "stratup"]);
        assert!(matches!(unknown_domain(&"x".repeat(50), vec![]), Error::InvalidName { .. }));
    }

    #[test]
    fn the_hint_quotes_a_hostile_domain() {
        let facts = unknown_domain("x'); DROP TABLE y; --", vec![]).facts();
        let hint = facts.hint.unwrap_or_default();
        assert!(hint.contains("('x''); DROP TABLE y; --')"), "{hint}");
    }
}
