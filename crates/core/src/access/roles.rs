//! The roles that a database with a vector store knows: each includes the one before it.

use crate::error::Result;
use crate::sql::identifier::{Identifier, Literal};
use crate::sql::template::fill_template;

/// The roles, and what is said of them.
pub const ROLES: [(&str, &str); 3] = [
    ("vector_reader", "searches: give it tables by grant_vector_access(…, 'reader', …)"),
    ("vector_writer", "writes and searches: give it tables by grant_vector_access(…, 'writer', …)"),
    ("vector_admin", "manages, writes and searches: give it tables by grant_vector_access(…, 'admin', …)"),
];

/// The SQL that creates a role which may not log in.
///
/// # Errors
/// [`crate::error::Error::InvalidName`] (42602).
pub fn creation_sql(role: &str, comment: &str) -> Result<String> {
    let replacements =
        [("{role}", Identifier::new(role)?.to_string()), ("{comment}", Literal(comment).to_string())];
    Ok(fill_template(include_str!("../../../../sql/templates/create_role.sql"), &replacements))
}

/// The SQL that makes `member` a member of `role`.
///
/// # Errors
/// [`crate::error::Error::InvalidName`] (42602).
pub fn membership_sql(role: &str, member: &str) -> Result<String> {
    let replacements =
        [("{role}", Identifier::new(role)?.to_string()), ("{member}", Identifier::new(member)?.to_string())];
    Ok(fill_template(include_str!("../../../../sql/templates/grant_role.sql"), &replacements))
}
