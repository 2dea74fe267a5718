//! Namespaces kept apart by row-level security: by a setting of the session, or by role.

use crate::access::grants::AUDIT_LOG;
use crate::error::Result;
use crate::sql::identifier::{Identifier, Literal, QualifiedName};
use crate::sql::template::fill_template;

/// The policy of a table whose sessions say which namespace is theirs.
pub const SETTING_POLICY: &str = "namespace_of_session";

/// What is said of each policy, by which it is known as one of these.
pub const COMMENT: &str = "made by isolate_namespaces";

/// A policy of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Identifier,
    /// The roles that it is for, by their numbers: a name may be another role's one day.
    pub roles: Vec<u32>,
    /// Whether `isolate_namespaces` made it.
    pub is_own: bool,
}

impl Policy {
    /// Whether it is the one that goes by the setting of the session.
    pub fn is_by_setting(&self) -> bool {
        // As the catalogue writes PUBLIC.
        self.is_own && self.roles == [0]
    }

    /// Whether it is that of a role.
    pub fn is_of_role(&self, role: u32) -> bool {
        self.is_own && self.roles == [role]
    }
}

/// A name for the policy of a role that no policy of the table has.
///
/// # Errors
/// Never in practice: the name is short.
pub fn free_policy_name(role: u32, taken: &[Policy]) -> Result<Identifier> {
    // A dump has the name and gives the role another number, which somebody else's policy may have here.
    let mut name = Identifier::new(format!("namespaces_of_role_{role}"))?;
    while taken.iter().any(|policy| policy.name == name) {
        name = name.with_suffix("_")?;
    }
    Ok(name)
}

/// The SQL that shows each session the rows of `vector_tools.namespace` only.
///
/// # Errors
/// [`crate::error::Error::InvalidName`] (42602).
pub fn by_setting_sql(table: &QualifiedName) -> Result<String> {
    let replacements = [
        ("{table}", table.to_string()),
        ("{policy}", Identifier::new(SETTING_POLICY)?.to_string()),
        ("{condition}", condition(table, "pg_catalog.current_setting('vector_tools.namespace', true)")),
        ("{comment}", Literal(COMMENT).to_string()),
    ];
    Ok(fill_template(include_str!("../../../../sql/templates/isolate_by_setting.sql"), &replacements))
}

/// The SQL that shows a role the rows of its namespaces only, by a policy of that name.
pub fn by_role_sql(
    table: &QualifiedName,
    policy: &Identifier,
    grantee: &Identifier,
    namespaces: &[String],
) -> String {
    let namespaces: Vec<String> = namespaces.iter().map(|name| Literal(name).to_string()).collect();
    let any = format!("ANY (ARRAY[{}]::pg_catalog.text[])", namespaces.join(", "));
    let replacements = [
        ("{table}", table.to_string()),
        ("{policy}", policy.to_string()),
        ("{grantee}", grantee.to_string()),
        ("{condition}", condition(table, &any)),
        ("{comment}", Literal(COMMENT).to_string()),
    ];
    fill_template(include_str!("../../../../sql/templates/isolate_by_role.sql"), &replacements)
}

/// The condition that a row is of a wanted namespace.
fn condition(table: &QualifiedName, wanted: &str) -> String {
    if table.name.as_str() != AUDIT_LOG {
        return format!("namespace OPERATOR(pg_catalog.=) {wanted}");
    }
    // A row that changes its namespace is seen by who may see both; one that came or went has one.
    let is_wanted = |first: &str, second: &str| {
        format!(
            "coalesce({first}, {second}) OPERATOR(pg_catalog.->>) 'namespace' OPERATOR(pg_catalog.=) {wanted}"
        )
    };
    format!("{} AND {}", is_wanted("old_data", "new_data"), is_wanted("new_data", "old_data"))
}

/// The SQL that gives a table of a store the column by which its rows are told apart.
pub fn add_namespace_sql(table: &QualifiedName) -> String {
    let replacements = [("{table}", table.to_string())];
    fill_template(include_str!("../../../../sql/templates/add_namespace.sql"), &replacements)
}

/// The SQL that drops policies.
pub fn drop_policies_sql<'a>(
    table: &QualifiedName,
    policies: impl IntoIterator<Item = &'a Policy>,
) -> String {
    let drop = |policy: &Policy| {
        let replacements = [("{table}", table.to_string()), ("{policy}", policy.name.to_string())];
        fill_template(include_str!("../../../../sql/templates/drop_policy.sql"), &replacements)
    };
    policies.into_iter().map(drop).collect()
}

/// The SQL that shows all rows to everyone who may read the table.
pub fn share_sql(table: &QualifiedName) -> String {
    let replacements = [("{table}", table.to_string())];
    fill_template(include_str!("../../../../sql/templates/share_namespaces.sql"), &replacements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(name: &str) -> Identifier {
        Identifier::new(name).expect("a valid name")
    }

    fn table(name: &str) -> QualifiedName {
        QualifiedName { schema: identifier("s"), name: identifier(name) }
    }

    #[test]
    fn hostile_namespaces_stay_values() {
        let namespaces = ["a', 'b".to_owned(), "{table}".to_owned(), "\\".to_owned()];
        for name in ["t", AUDIT_LOG] {
            let sql = by_role_sql(&table(name), &identifier("p\"; x"), &identifier("r\"; DROP"), &namespaces);
            assert!(sql.contains("ARRAY['a'', ''b', '{table}',  E'\\\\']"), "{sql}");
            assert!(sql.contains("POLICY \"p\"\"; x\" ON"), "{sql}");
            assert!(sql.contains("TO \"r\"\"; DROP\""), "{sql}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_not_used() {
        let policy = |name: &str| Policy { name: identifier(name), roles: vec![9], is_own: false };
        let name = |taken: &[Policy]| free_policy_name(7, taken).expect("valid").as_str().to_owned();
        assert_eq!(name(&[policy("namespaces_of_role_9")]), "namespaces_of_role_7");
        assert_eq!(
            name(&[policy("namespaces_of_role_7"), policy("namespaces_of_role_7_")]),
            "namespaces_of_role_7__"
        );
    }

    #[test]
    fn only_own_policies_are_taken_for_such() {
        let policy = |roles: &[u32], is_own| Policy { name: identifier("p"), roles: roles.to_vec(), is_own };
        assert!(policy(&[0], true).is_by_setting() && !policy(&[0], false).is_by_setting());
        assert!(policy(&[7], true).is_of_role(7) && !policy(&[7], false).is_of_role(7));
        assert!(!policy(&[7, 8], true).is_of_role(7) && !policy(&[8], true).is_of_role(7));
    }
}
