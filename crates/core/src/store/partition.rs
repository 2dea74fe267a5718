//! The partition of a namespace: its name, and the SQL that makes it.

use crate::error::Result;
use crate::hash::sha256_hex;
use crate::sql::identifier::{Identifier, Literal, QualifiedName};
use crate::sql::template::fill_template;
use crate::store::{StoreTables, check_namespace};

const CREATE: &str = include_str!("../../../../sql/templates/vector_store_namespace.sql");
const MOVE: &str = include_str!("../../../../sql/templates/vector_store_move.sql");
const ATTACH: &str = include_str!("../../../../sql/templates/vector_store_attach.sql");

/// What the names of all partitions begin with.
const PREFIX: &str = "vector_embeddings_";

/// Hexadecimal digits of the namespace's sha256 in a name that does not spell it out.
const HASH_DIGITS: usize = 16;

/// A namespace spelled out in a name has at most so many bytes, so that names of constraints and
/// indexes made from it can be told apart, too.
const LONGEST_PLAIN: usize = 30;

/// The partition of a namespace, to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NamespacePartition {
    /// The store's table.
    pub table: QualifiedName,
    /// The partition.
    pub partition: QualifiedName,
    namespace: String,
}

impl NamespacePartition {
    /// The partition of `namespace`. Its name is `vector_embeddings_{namespace}` where that is an
    /// ordinary name, else it ends in a part of the namespace's sha256: no two namespaces share one.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidName`] (42602).
    pub fn new(tables: &StoreTables, namespace: &str) -> Result<NamespacePartition> {
        check_namespace(namespace)?;
        let partition = Identifier::new(partition_name(namespace))?;
        Ok(NamespacePartition {
            table: tables.embeddings()?,
            partition: QualifiedName { schema: tables.schema.clone(), name: partition },
            namespace: namespace.to_owned(),
        })
    }

    /// The SQL that creates it, not yet part of the table.
    pub fn creation_sql(&self) -> String {
        let comment = format!("the rows of the namespace {}", self.namespace);
        let comment = ("{comment}", Literal(&comment).to_string());
        fill_template(CREATE, &[self.replacements(), vec![comment]].concat())
    }

    /// The SQL that moves the rows of the namespace out of the default partition; `columns` are all
    /// but the generated ones.
    pub fn move_sql(&self, default_partition: &QualifiedName, columns: &[Identifier]) -> String {
        let columns: Vec<String> = columns.iter().map(Identifier::to_string).collect();
        let more =
            vec![("{default_partition}", default_partition.to_string()), ("{columns}", columns.join(", "))];
        fill_template(MOVE, &[self.replacements(), more].concat())
    }

    /// The SQL that makes it part of the table.
    pub fn attach_sql(&self) -> String {
        fill_template(ATTACH, &self.replacements())
    }

    fn replacements(&self) -> Vec<(&'static str, String)> {
        vec![
            ("{table}", self.table.to_string()),
            ("{partition}", self.partition.to_string()),
            ("{namespace}", Literal(&self.namespace).to_string()),
        ]
    }
}

fn partition_name(namespace: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let short = namespace.len() <= LONGEST_PLAIN && namespace.chars().all(is_plain);
    if short && namespace != crate::store::DEFAULT_NAMESPACE && !ends_like_a_hash(namespace) {
        return format!("{PREFIX}{namespace}");
    }
    let readable: String = namespace
        .chars()
        .filter_map(|c| match c.to_ascii_lowercase() {
            c if is_plain(c) => Some(c),
            ' ' | '-' | '.' | '/' => Some('_'),
            _ => None,
        })
        .take(LONGEST_PLAIN - HASH_DIGITS - 1)
        .collect();
    let hash = sha256_hex(namespace.as_bytes());
    let separator = if readable.is_empty() { "" } else { "_" };
    format!("{PREFIX}{readable}{separator}{}", &hash[..HASH_DIGITS])
}

/// Whether a namespace looks like the end of a name that has a hash, which it must not share.
fn ends_like_a_hash(namespace: &str) -> bool {
    let end = namespace.rsplit('_').next().unwrap_or(namespace);
    end.len() == HASH_DIGITS && end.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn name_of(namespace: &str) -> String {
        partition_name(namespace)
    }

    #[test]
    fn ordinary_namespaces_are_spelled_out() {
        for namespace in ["csrd", "cbam", "eu_2024", "_"] {
            assert_eq!(name_of(namespace), format!("vector_embeddings_{namespace}"));
        }
    }

    #[test]
    fn others_have_a_hash() {
        assert!(name_of("CSRD").starts_with("vector_embeddings_csrd_"));
        assert!(name_of("default").starts_with("vector_embeddings_default_"));
        assert!(name_of("東京").starts_with("vector_embeddings_"));
        // Nobody takes the name of another namespace's partition.
        let taken = name_of("CSRD");
        let taken = taken.strip_prefix(PREFIX).expect("the prefix");
        assert_ne!(name_of(taken), name_of("CSRD"));
        let bare = &sha256_hex("東京".as_bytes())[..HASH_DIGITS];
        assert_ne!(name_of(bare), name_of("東京"));
    }

    #[test]
    fn hostile_namespaces_are_literals() {
        let tables = StoreTables::new("s").expect("valid");
        let partition = NamespacePartition::new(&tables, "x'; DROP TABLE y; --{table}").expect("valid");
        assert!(partition.attach_sql().contains("IN ('x''; DROP TABLE y; --{table}')"));
        let columns = [Identifier::new("a\"b").expect("valid")];
        let sql = partition.move_sql(&tables.default_partition().expect("valid"), &columns);
        assert!(sql.contains(r#"SELECT "a""b" FROM moved"#), "{sql}");
        assert!(NamespacePartition::new(&tables, "").is_err());
    }

    proptest! {
        #[test]
        fn names_are_safe_short_and_unique(namespaces in prop::collection::hash_set("\\PC{1,100}", 1..40)) {
            let mut seen: HashMap<String, String> = HashMap::new();
            for namespace in namespaces {
                let name = partition_name(&namespace);
                prop_assert!(name.len() <= PREFIX.len() + LONGEST_PLAIN);
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
                prop_assert_ne!(&name, "vector_embeddings_default");
                prop_assert_eq!(seen.insert(name, namespace), None);
            }
        }
    }
}
