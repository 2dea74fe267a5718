//! Writing documents and embeddings, and deleting them.

use std::collections::HashMap;

use crate::embedding::{Embedder, Purpose};
use crate::error::{Error, Result};
use crate::pg::embedders::{check_interrupts, with_embedder};
use crate::pg::vector::Vector;
use crate::pg::vector_store::{self as catalog, OpenStore};
use crate::pg::{session, spi};
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

/// One call of `upsert_document`.
pub struct DocumentCall {
    pub schema: String,
    pub source_type: String,
    pub source_id: String,
    pub chunks: Vec<Chunk>,
    pub given: Given,
}

impl DocumentCall {
    pub fn run(&self) -> Result<DocumentPlan> {
        session::forbid_when_read_only(c"upsert_document");
        check_metadata(&self.given.metadata)?;
        let OpenStore { store, .. } = catalog::open(&self.schema)?;
        let (namespace, collection) = self.given.place(&store)?;
        let document = DocumentKey {
            source_type: &self.source_type,
            source_id: &self.source_id,
            namespace: Some(&namespace),
        };
        let description = Description { metadata: &self.given.metadata, collection: collection.as_deref() };
        // Another call for the same document goes first, or waits.
        spi::change(&statements::lock(store.namespace_lock(&namespace), true));
        spi::change(&statements::lock(store.document_lock(&self.source_type, &self.source_id), false));
        let stored = spi::query_latest(&statements::read_document(&store, &document, &description), |row| {
            Some(StoredChunk { chunk_index: row.get(1)?, hash: row.get(2)?, is_described_so: row.get(3)? })
        });
        let stored: Vec<StoredChunk> = stored.into_iter().flatten().collect();
        let plan = DocumentPlan::new(&self.chunks, &stored);
        let rows = self.rows(&store, &document, &namespace, &plan)?;
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
        plan: &DocumentPlan,
    ) -> Result<Vec<NewRow>> {
        let new: Vec<&str> = plan
            .written
            .iter()
            .filter(|(_, origin)| *origin == Origin::Model)
            .map(|(place, _)| self.chunks[*place].content.as_str())
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
                chunk: self.chunks[*place].clone(),
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
    with_embedder(&store.model, |embedder| {
        let embeddings = embedder.embed(texts, Purpose::Passage, &mut check_interrupts)?;
        let vectors: Vec<Vec<f32>> = embeddings.iter().map(<[f32]>::to_vec).collect();
        check_vector(&vectors[0], store, || format!("what model \"{}\" gives", store.model))?;
        Ok(vectors)
    })
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
    let OpenStore { store, .. } = catalog::open(schema)?;
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
        spi::change(&statements::lock(store.namespace_lock(namespace), true));
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
    let OpenStore { store, .. } = catalog::open(schema)?;
    let document = DocumentKey { source_type, source_id, namespace };
    let namespaces: Vec<Option<String>> =
        spi::query_latest(&statements::read_namespaces(&store, &document), |row| row.get(1));
    let mut namespaces: Vec<String> = namespaces.into_iter().flatten().collect();
    namespaces.sort_unstable();
    for namespace in namespaces {
        spi::change(&statements::lock(store.namespace_lock(&namespace), true));
    }
    spi::change(&statements::lock(store.document_lock(source_type, source_id), false));
    spi::query_latest(&statements::lock_rows(&store, &document, None), |_| ());
    Ok(spi::change(&statements::delete_rows(&store, &document, None)) as i64)
}

pub fn clear_namespace(schema: &str, namespace: &str) -> Result<i64> {
    session::forbid_when_read_only(c"clear_namespace");
    let OpenStore { store, .. } = catalog::open(schema)?;
    // Nobody else writes into it meanwhile, so rows need no order.
    spi::change(&statements::lock(store.namespace_lock(namespace), false));
    Ok(spi::change(&statements::clear_namespace(&store, namespace)) as i64)
}
