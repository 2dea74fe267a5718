//! Writing documents and embeddings, and deleting them.

use crate::kit::cluster_lock::acquire_lock;
use std::borrow::Cow;

use crate::kit::catalog::has_hidden_rows;
use crate::kit::waiting::checkpoint;
use crate::kit::{session, spi};
use crate::store::queued_documents::{may_write, overtake};
use crate::store::store_document::{StoreDocument, embed_chunks, write_rows};
use crate::store::vector_store as catalog;
use crate::store::vector_store::OpenStore;
use vector_tools_core::chunking;
use vector_tools_core::chunking::{Options, Strategy};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::sql::lock::lock;
use vector_tools_core::store::document::{Chunk, DocumentPlan, check_chunks};
use vector_tools_core::store::embeddings::{NewRow, checked_and_ordered, namespaces_of};
use vector_tools_core::store::question::check_metadata;
use vector_tools_core::store::queued::Overtaken;
use vector_tools_core::store::statements;
use vector_tools_core::store::statements::{Description, DocumentKey};
use vector_tools_core::store::{DEFAULT_NAMESPACE, Store, check_namespace};

/// Where rows go, as the caller said.
pub struct Given {
    pub namespace: Option<String>,
    pub metadata: String,
    pub collection: Option<String>,
}

/// What a document is made of.
pub enum Content {
    /// Ready chunks.
    Chunks(Vec<Chunk>),
    /// A text to be cut in the tokens of the store's model.
    Text(String, Options),
}

impl Content {
    /// A text to be cut.
    pub fn to_cut(text: String, options: Options) -> Result<Content> {
        Content::check_options(options)?;
        Ok(Content::Text(text, options))
    }

    /// Checks that a store can keep what is cut so.
    pub fn check_options(options: Options) -> Result<()> {
        if options.strategy != Strategy::Hierarchical {
            return Ok(());
        }
        Err(Error::InvalidArgument {
            argument: "strategy",
            expected: "semantic, fixed, sliding or markdown, since a store keeps no parents".to_owned(),
            found: format!("'{}'", options.strategy.name()),
        })
    }

    fn chunks(&self, store: &Store) -> Result<Cow<'_, [Chunk]>> {
        match self {
            Content::Chunks(chunks) => Ok(Cow::Borrowed(chunks)),
            Content::Text(text, options) => {
                let chunks = crate::chunking::functions::chunks(text, options, &store.model)?;
                check_chunks(chunks.len())?;
                let hashed = |chunk: chunking::Chunk| {
                    checkpoint()?;
                    Ok(Chunk::new(text[chunk.bytes].to_owned()))
                };
                chunks.into_iter().map(hashed).collect()
            }
        }
    }
}

/// One call of `upsert_document`.
pub struct DocumentCall {
    pub schema: String,
    pub source_type: String,
    pub source_id: String,
    pub content: Content,
    pub given: Given,
}

impl DocumentCall {
    pub fn run(&self) -> Result<DocumentPlan> {
        session::forbid_when_read_only(c"upsert_document");
        check_metadata(&self.given.metadata)?;
        let open = catalog::open_to_write(&self.schema)?;
        let store = &open.store;
        let (namespace, collection) = self.given.place(store)?;
        let document = StoreDocument {
            store,
            source_type: &self.source_type,
            source_id: &self.source_id,
            namespace: &namespace,
            description: Description { metadata: &self.given.metadata, collection: collection.as_deref() },
            chunks: &self.content.chunks(store)?,
        };
        // Another call for the same document goes first, or waits.
        document.lock();
        let plan = document.plan();
        let texts: Vec<&str> =
            document.to_embed(&plan).into_iter().map(|chunk| chunk.content.as_str()).collect();
        document.write(&plan, embed_chunks(store, &texts)?.into_iter());
        let is_touched = plan.unchanged + plan.updated() + plan.inserted + plan.deleted.len() > 0;
        if may_write(&open) {
            overtake(&open, Overtaken::Document(&document.key()), is_touched)?;
        }
        Ok(plan)
    }
}

impl Given {
    /// The namespace and the id of the collection. A collection says which namespace it is in.
    pub fn place(&self, store: &Store) -> Result<(String, Option<String>)> {
        let collection =
            self.collection.as_ref().map(|name| catalog::find_collection(store, name)).transpose()?;
        let own = collection.as_ref().map(|collection| collection.namespace.clone());
        if let (Some(wanted), Some(own)) = (&self.namespace, &own)
            && wanted != own
        {
            return Err(Error::InvalidArgument {
                argument: "namespace",
                expected: format!("that of the collection, '{own}'"),
                found: format!("'{wanted}'"),
            });
        }
        let namespace = self.namespace.clone().or(own).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        check_namespace(&namespace)?;
        Ok((namespace, collection.map(|collection| collection.id)))
    }
}

pub fn upsert_rows(schema: &str, rows: Vec<NewRow>, collection: Option<String>) -> Result<i64> {
    session::forbid_when_read_only(c"upsert_embeddings");
    let OpenStore { store, .. } = catalog::open_to_write(schema)?;
    let rows = checked_and_ordered(rows, &store)?;
    let namespaces = namespaces_of(&rows);
    let collection = match collection {
        Some(name) => {
            let found = catalog::find_collection(&store, &name)?;
            if let Some(other) = namespaces.iter().find(|namespace| **namespace != found.namespace) {
                return Err(Error::InvalidArgument {
                    argument: "namespaces",
                    expected: format!("that of the collection, '{}'", found.namespace),
                    found: format!("'{other}'"),
                });
            }
            Some(found.id)
        }
        None => None,
    };
    for namespace in namespaces {
        acquire_lock(lock(store.namespace_lock(namespace), true));
    }
    Ok(write_rows(&store, rows, collection.as_deref()) as i64)
}

pub fn delete_document(
    schema: &str,
    source_type: &str,
    source_id: &str,
    namespace: Option<&str>,
) -> Result<i64> {
    session::forbid_when_read_only(c"delete_document");
    let open = catalog::open_to_write(schema)?;
    let store = &open.store;
    let document = DocumentKey { source_type, source_id, namespace };
    let namespaces = namespaces_to_lock(store, &document);
    for namespace in &namespaces {
        acquire_lock(lock(store.namespace_lock(namespace), true));
    }
    acquire_lock(lock(store.document_lock(source_type, source_id), false));
    spi::query_new_snapshot(&statements::lock_rows(store, &document, None), |_| ());
    if namespace.is_some() || !has_hidden_rows(&open.relation) {
        let deleted = spi::execute(&statements::delete_rows(store, &document, None));
        overtake(&open, Overtaken::Document(&document), deleted > 0)?;
        return Ok(deleted as i64);
    }
    // What waits for a namespace is taken away by who has deleted rows of that one.
    let mut all = 0;
    for namespace in &namespaces {
        let document = DocumentKey { namespace: Some(namespace), ..document };
        let deleted = spi::execute(&statements::delete_rows(store, &document, None));
        overtake(&open, Overtaken::Document(&document), deleted > 0)?;
        all += deleted as i64;
    }
    overtake(&open, Overtaken::Document(&document), false)?;
    Ok(all)
}

/// The namespaces of a document. They are read from every partition where none is named, so none must be
/// made meanwhile: who makes it would wait for this reader, and this reader for the namespace.
fn namespaces_to_lock(store: &Store, document: &DocumentKey) -> Vec<String> {
    if let Some(namespace) = document.namespace {
        return vec![namespace.to_owned()];
    }
    acquire_lock(lock(store.partitions_lock(), true));
    let namespaces: Vec<Option<String>> =
        spi::query_new_snapshot(&statements::read_namespaces(store, document), |row| row.get(1));
    let mut namespaces: Vec<String> = namespaces.into_iter().flatten().collect();
    namespaces.sort_unstable();
    namespaces
}

pub fn clear_namespace(schema: &str, namespace: &str) -> Result<i64> {
    session::forbid_when_read_only(c"clear_namespace");
    let open = catalog::open_to_write(schema)?;
    // Nobody else writes into it meanwhile, so rows need no order.
    acquire_lock(lock(open.store.namespace_lock(namespace), false));
    let deleted = spi::execute(&statements::clear_namespace(&open.store, namespace));
    overtake(&open, Overtaken::Namespace(namespace), deleted > 0)?;
    Ok(deleted as i64)
}
