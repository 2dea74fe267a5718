//! Namespaces kept apart by row-level security: by a setting of the session, or by role.

use crate::error::Result;
use crate::identifier::{Identifier, Literal, QualifiedName};
use crate::tables::template::fill_template;

/// The policy of a table whose sessions say which namespace is theirs.
pub const SETTING_POLICY: &str = "namespace_of_session";

/// What is said of each policy, by which it is known as one of these.
pub const COMMENT: &str = "made by isolate_namespaces";

/// The SQL that shows each session the rows of `vector_tools.namespace` only.
///
/// # Errors
/// [`crate::error::Error::InvalidName`] (42602).
pub fn by_setting_sql(table: &QualifiedName) -> Result<String> {
    let replacements = [
        ("{table}", table.to_string()),
        ("{policy}", Identifier::new(SETTING_POLICY)?.to_string()),
        ("{comment}", Literal(COMMENT).to_string()),
    ];
    Ok(fill_template(include_str!("../../../sql/templates/isolate_by_setting.sql"), &replacements))
}

/// The SQL that shows a role the rows of its namespaces only.
pub fn by_role_sql(table: &QualifiedName, grantee: &Identifier, namespaces: &[String]) -> String {
    let namespaces: Vec<String> = namespaces.iter().map(|name| Literal(name).to_string()).collect();
    let replacements = [
        ("{table}", table.to_string()),
        // One policy for each role, under its name.
        ("{policy}", grantee.to_string()),
        ("{grantee}", grantee.to_string()),
        ("{namespaces}", namespaces.join(", ")),
        ("{comment}", Literal(COMMENT).to_string()),
    ];
    fill_template(include_str!("../../../sql/templates/isolate_by_role.sql"), &replacements)
}

/// The SQL that drops policies.
pub fn drop_policies_sql(table: &QualifiedName, policies: &[Identifier]) -> String {
    let drop = |policy: &Identifier| {
        let replacements = [("{table}", table.to_string()), ("{policy}", policy.to_string())];
        fill_template(include_str!("../../../sql/templates/drop_policy.sql"), &replacements)
    };
    policies.iter().map(drop).collect()
}

/// The SQL that shows all rows to everyone who may read the table.
pub fn share_sql(table: &QualifiedName) -> String {
    let replacements = [("{table}", table.to_string())];
    fill_template(include_str!("../../../sql/templates/share_namespaces.sql"), &replacements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_namespaces_stay_values() {
        let identifier = |name: &str| Identifier::new(name).expect("a valid name");
        let table = QualifiedName { schema: identifier("s"), name: identifier("t") };
        let namespaces = ["a', 'b".to_owned(), "{table}".to_owned(), "\\".to_owned()];
        let sql = by_role_sql(&table, &identifier("r\"; DROP"), &namespaces);
        assert!(sql.contains("ARRAY['a'', ''b', '{table}',  E'\\\\']"), "{sql}");
        assert!(sql.contains("TO \"r\"\"; DROP\""), "{sql}");
    }
}
