//! The vector store: embeddings of documents in one table, partitioned by namespace, with the
//! collections, jobs and logs beside it.

pub mod creation;
pub mod document;
pub mod embeddings;
pub mod hits;
pub mod index;
pub mod partition;
pub mod question;
pub mod queued;
pub mod statements;

use crate::error::{Error, Result};
use crate::sql::identifier::{Identifier, QualifiedName};
use crate::sql::lock::lock_key;

/// The namespace of rows that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The most characters of a namespace.
pub const MAX_NAMESPACE_CHARACTERS: usize = 100;

/// The most characters of a collection's name.
pub const MAX_COLLECTION_CHARACTERS: usize = 200;

/// Where the tables of a store are: one store in a schema.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreTables {
    /// The schema.
    pub schema: Identifier,
}

impl StoreTables {
    /// Those in a schema.
    ///
    /// # Errors
    /// [`Error::InvalidName`] (42602).
    pub fn new(schema: &str) -> Result<StoreTables> {
        Ok(StoreTables { schema: Identifier::new(schema)? })
    }

    /// A table of the store.
    ///
    /// # Errors
    /// Never in practice: the names are short.
    fn named(&self, name: &str) -> Result<QualifiedName> {
        Ok(QualifiedName { schema: self.schema.clone(), name: Identifier::new(name)? })
    }

    /// The embeddings.
    ///
    /// # Errors
    /// Never in practice.
    pub fn embeddings(&self) -> Result<QualifiedName> {
        self.named("vector_embeddings")
    }

    /// The partition for namespaces that have none of their own.
    ///
    /// # Errors
    /// Never in practice.
    pub fn default_partition(&self) -> Result<QualifiedName> {
        self.named("vector_embeddings_default")
    }

    /// The collections.
    ///
    /// # Errors
    /// Never in practice.
    pub fn collections(&self) -> Result<QualifiedName> {
        self.named("embedding_collections")
    }

    /// The jobs.
    ///
    /// # Errors
    /// Never in practice.
    pub fn jobs(&self) -> Result<QualifiedName> {
        self.named(queued::JOBS)
    }

    /// The log of searches.
    ///
    /// # Errors
    /// Never in practice.
    pub fn search_logs(&self) -> Result<QualifiedName> {
        self.named("vector_search_logs")
    }

    /// The log of changes.
    ///
    /// # Errors
    /// Never in practice.
    pub fn audit_log(&self) -> Result<QualifiedName> {
        self.named("vector_audit_log")
    }
}

/// A store as it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// Its tables.
    pub tables: StoreTables,
    /// The number of the table of embeddings in the catalogue, by which writers wait for each other.
    pub table_oid: u32,
    /// The table of embeddings.
    pub embeddings: QualifiedName,
    /// The model that embeds its documents.
    pub model: String,
    /// The dimensions of its vectors.
    pub dimensions: usize,
    /// The type of its vectors, qualified.
    pub vector_type: String,
    /// The schema of pgvector.
    pub pgvector_schema: Identifier,
}

impl Store {
    /// The name to say in messages.
    pub fn display(&self) -> String {
        self.embeddings.to_string()
    }

    /// The key of the lock under which a document is written.
    pub fn document_lock(&self, source_type: &str, source_id: &str) -> i64 {
        lock_key(&["document", &self.table_oid.to_string(), source_type, source_id])
    }

    /// The key of the lock that a new partition takes alone, and that whoever reads all partitions
    /// before a namespace's lock shares.
    pub fn partitions_lock(&self) -> i64 {
        lock_key(&["partitions", &self.table_oid.to_string()])
    }

    /// The key of the lock that writers of a namespace share and that clearing it takes alone.
    pub fn namespace_lock(&self, namespace: &str) -> i64 {
        lock_key(&["namespace", &self.table_oid.to_string(), namespace])
    }
}

/// The key of the lock under which the store of a schema is made.
pub fn creation_lock(schema: &Identifier) -> i64 {
    lock_key(&["store", schema.as_str()])
}

/// Checks that a namespace can be stored.
///
/// # Errors
/// [`Error::InvalidName`] (42602) when it is empty or too long.
pub fn check_namespace(namespace: &str) -> Result<()> {
    check_length(namespace, "a namespace", MAX_NAMESPACE_CHARACTERS)
}

/// Checks that a collection can have a name.
///
/// # Errors
/// [`Error::InvalidName`] (42602) when it is empty or too long.
pub fn check_collection(name: &str) -> Result<()> {
    check_length(name, "the name of a collection", MAX_COLLECTION_CHARACTERS)
}

fn check_length(name: &str, what: &str, most: usize) -> Result<()> {
    let found = name.chars().count();
    if (1..=most).contains(&found) {
        return Ok(());
    }
    let reason = format!("{what} has 1 to {most} characters, not {found}");
    Err(Error::InvalidName { name: name.chars().take(most).collect(), reason })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identifier(name: &str) -> Identifier {
        Identifier::new(name).expect("a valid name")
    }

    pub(crate) fn store() -> Store {
        let tables = StoreTables::new("regulation").expect("a valid name");
        Store {
            embeddings: tables.embeddings().expect("a valid name"),
            tables,
            table_oid: 7,
            model: "m".to_owned(),
            dimensions: 3,
            vector_type: "public.vector".to_owned(),
            pgvector_schema: identifier("public"),
        }
    }

    #[test]
    fn locks_differ_by_their_parts() {
        let store = store();
        let keys = [
            store.document_lock("a", "bc"),
            store.document_lock("ab", "c"),
            store.namespace_lock("abc"),
            creation_lock(&identifier("abc")),
        ];
        let mut unique = keys.to_vec();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), keys.len());
        assert_eq!(keys[0], store.document_lock("a", "bc"));
    }

    #[test]
    fn namespaces_and_collections_have_a_length() {
        assert!(check_namespace("").is_err());
        assert!(check_namespace(&"ü".repeat(100)).is_ok());
        assert!(check_namespace(&"x".repeat(101)).is_err());
        assert!(check_collection(&"x".repeat(200)).is_ok());
        assert!(check_collection(&"x".repeat(201)).is_err());
    }
}
