//! Writing documents and embeddings, and deleting them.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::chunking::{self, Options, Strategy};
use crate::error::{Error, Result};
use crate::pg::embedding_cache::embed_passages;
use crate::pg::vector::Vector;
use crate::pg::vector_store::{self as catalog, OpenStore};
use crate::pg::{session, spi};
use crate::tables::lock::lock;
use crate::tables::store::document::{Chunk, DocumentPlan, Origin, StoredChunk};
use crate::tables::store::embeddings::{
    NewRow, ROWS_IN_A_STATEMENT, check_vector, checked_and_ordered, namespaces_of,
};
use crate::tables::store::question::check_metadata;
use crate::tables::store::statements::{self, Description, DocumentKey};
use crate::tables::store::{DEFAULT_NAMESPACE, Store, check_namespace};

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
        if options.strategy != Strategy::Hierarchical {
            return Ok(Content::Text(text, options));
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
                let chunks = chunking::sql::chunks(text, options, &store.model)?;
                Ok(chunks.into_iter().map(|chunk| Chunk::new(text[chunk.bytes].to_owned())).collect())
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
        let OpenStore { store, .. } = catalog::open_to_write(&self.schema)?;
        let (namespace, collection) = self.given.place(&store)?;
        let document = DocumentKey {
            source_type: &self.source_type,
            source_id: &self.source_id,
            namespace: Some(&namespace),
        };
        let chunks = self.content.chunks(&store)?;
        let description = Description { metadata: &self.given.metadata, collection: collection.as_deref() };
        // Another call for the same document goes first, or waits.
        spi::wait(&lock(store.namespace_lock(&namespace), true));
        spi::wait(&lock(store.document_lock(&self.source_type, &self.source_id), false));
        let stored = spi::query_latest(&statements::read_document(&store, &document, &description), |row| {
            Some(StoredChunk { chunk_index: row.get(1)?, hash: row.get(2)?, is_described_so: row.get(3)? })
        });
        let stored: Vec<StoredChunk> = stored.into_iter().flatten().collect();
        let plan = DocumentPlan::new(&chunks, &stored);
        let rows = self.rows(&store, &document, &namespace, &chunks, &plan)?;
        write(&store, rows, collection.as_deref());
        if !plan.described.is_empty() {
            spi::change(&statements::describe_rows(&store, &document, &plan.described, &description));
        }
        if !plan.deleted.is_empty() {
            spi::query_latest(&statements::lock_rows(&store, &document, Some(&plan.deleted)), |_| ());
            spi::change(&statements::delete_rows(&store, &document, Some(&plan.deleted)));
        }
        Ok(plan)
    }

    /// The rows to be written, with the embeddings of their texts.
    fn rows(
        &self,
        store: &Store,
        document: &DocumentKey,
        namespace: &str,
        chunks: &[Chunk],
        plan: &DocumentPlan,
    ) -> Result<Vec<NewRow>> {
        let new: Vec<&str> = plan
            .written
            .iter()
            .filter(|(_, origin)| *origin == Origin::Model)
            .map(|(place, _)| chunks[*place].content.as_str())
            .collect();
        let known: Vec<i64> = plan
            .written
            .iter()
            .filter_map(|(_, origin)| match origin {
                Origin::Stored(index) => Some(*index),
                Origin::Model => None,
            })
            .collect();
        let mut computed = embed(store, &new)?.into_iter();
        let known = stored_embeddings(store, document, &known);
        let mut rows = Vec::with_capacity(plan.written.len());
        for (place, origin) in &plan.written {
            let embedding = match origin {
                Origin::Model => computed.next(),
                Origin::Stored(index) => known.get(index).cloned(),
            };
            rows.push(NewRow {
                source_type: self.source_type.clone(),
                source_id: self.source_id.clone(),
                chunk_index: i32::try_from(*place).unwrap_or(i32::MAX),
                chunk: chunks[*place].clone(),
                embedding: embedding.unwrap_or_default(),
                namespace: namespace.to_owned(),
                metadata: self.given.metadata.clone(),
            });
        }
        Ok(rows)
    }
}

impl Given {
    /// The namespace and the id of the collection. A collection says which namespace it is in.
    fn place(&self, store: &Store) -> Result<(String, Option<String>)> {
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

fn embed(store: &Store, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    if texts.is_empty() {
        return Ok(vec![]);
    }
    let vectors = embed_passages(&store.model, texts)?;
    check_vector(&vectors[0], store, || format!("what model \"{}\" gives", store.model))?;
    Ok(vectors)
}

fn stored_embeddings(store: &Store, document: &DocumentKey, places: &[i64]) -> HashMap<i64, Vec<f32>> {
    if places.is_empty() {
        return HashMap::new();
    }
    let found = spi::query_latest(&statements::read_embeddings(store, document, places), |row| {
        Some((row.get::<i64>(1)?, row.get::<Vector>(2)?.0))
    });
    found.into_iter().flatten().collect()
}

/// Writes rows, whose memory is given back part by part.
fn write(store: &Store, rows: Vec<NewRow>, collection: Option<&str>) -> u64 {
    let (mut rows, mut changed) = (rows.into_iter(), 0);
    while rows.len() > 0 {
        let part = rows.by_ref().take(ROWS_IN_A_STATEMENT);
        changed += spi::change(&statements::write_rows(store, part, collection));
    }
    changed
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
        spi::wait(&lock(store.namespace_lock(namespace), true));
    }
    Ok(write(&store, rows, collection.as_deref()) as i64)
}

pub fn delete_document(
    schema: &str,
    source_type: &str,
    source_id: &str,
    namespace: Option<&str>,
) -> Result<i64> {
    session::forbid_when_read_only(c"delete_document");
    let OpenStore { store, .. } = catalog::open_to_write(schema)?;
    let document = DocumentKey { source_type, source_id, namespace };
    for namespace in namespaces_to_lock(&store, &document) {
        spi::wait(&lock(store.namespace_lock(&namespace), true));
    }
    spi::wait(&lock(store.document_lock(source_type, source_id), false));
    spi::query_latest(&statements::lock_rows(&store, &document, None), |_| ());
    Ok(spi::change(&statements::delete_rows(&store, &document, None)) as i64)
}

/// The namespaces of a document. They are read from every partition where none is named, so none must be
/// made meanwhile: who makes it would wait for this reader, and this reader for the namespace.
fn namespaces_to_lock(store: &Store, document: &DocumentKey) -> Vec<String> {
    if let Some(namespace) = document.namespace {
        return vec![namespace.to_owned()];
    }
    spi::wait(&lock(store.partitions_lock(), true));
    let namespaces: Vec<Option<String>> =
        spi::query_latest(&statements::read_namespaces(store, document), |row| row.get(1));
    let mut namespaces: Vec<String> = namespaces.into_iter().flatten().collect();
    namespaces.sort_unstable();
    namespaces
}

pub fn clear_namespace(schema: &str, namespace: &str) -> Result<i64> {
    session::forbid_when_read_only(c"clear_namespace");
    let OpenStore { store, .. } = catalog::open_to_write(schema)?;
    // Nobody else writes into it meanwhile, so rows need no order.
    spi::wait(&lock(store.namespace_lock(namespace), false));
    Ok(spi::change(&statements::clear_namespace(&store, namespace)) as i64)
}
