//! Writing one document into a store, by whoever has the embeddings of its chunks.

use crate::kit::cluster_lock::{acquire_lock, try_acquire_lock};
use std::collections::HashMap;

use crate::embed::embedding_cache::embed_passages_in_parts;
use crate::kit::spi;
use crate::types::vector::Vector;
use vector_tools_core::error::Result;
use vector_tools_core::sql::lock::lock;
use vector_tools_core::store::Store;
use vector_tools_core::store::document::{Chunk, DocumentPlan, Origin, StoredChunk};
use vector_tools_core::store::embeddings::{NewRow, ROWS_IN_A_STATEMENT, check_vector};
use vector_tools_core::store::statements;
use vector_tools_core::store::statements::{Description, DocumentKey};

/// A document as it shall be.
#[derive(Debug, Clone, Copy)]
pub struct StoreDocument<'a> {
    /// Where.
    pub store: &'a Store,
    /// What kind of source it is of.
    pub source_type: &'a str,
    /// The source, a UUID as text.
    pub source_id: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// What its rows share.
    pub description: Description<'a>,
    /// Its chunks.
    pub chunks: &'a [Chunk],
}

impl StoreDocument<'_> {
    /// What names it.
    pub fn key(&self) -> DocumentKey<'_> {
        let StoreDocument { source_type, source_id, namespace, .. } = *self;
        DocumentKey { source_type, source_id, namespace: Some(namespace) }
    }

    /// Has others who write the document, or all of its namespace, wait until the transaction ends; those who do
    /// so now go first.
    pub fn lock(&self) {
        acquire_lock(lock(self.store.namespace_lock(self.namespace), true));
        acquire_lock(lock(self.store.document_lock(self.source_type, self.source_id), false));
    }

    /// Like [`StoreDocument::lock`], where nobody writes it now; tells whether that is so.
    pub fn try_lock(&self) -> bool {
        try_acquire_lock(lock(self.store.namespace_lock(self.namespace), true))
            && try_acquire_lock(lock(self.store.document_lock(self.source_type, self.source_id), false))
    }

    /// What has to be changed so that the store has it.
    pub fn plan(&self) -> DocumentPlan {
        let read = statements::read_document(self.store, &self.key(), &self.description);
        let stored = spi::query_new_snapshot(&read, |row| {
            Some(StoredChunk { chunk_index: row.get(1)?, hash: row.get(2)?, is_described_so: row.get(3)? })
        });
        let stored: Vec<StoredChunk> = stored.into_iter().flatten().collect();
        DocumentPlan::new(self.chunks, &stored)
    }

    /// The chunks that the model has to embed.
    pub fn to_embed(&self, plan: &DocumentPlan) -> Vec<&Chunk> {
        let by_model = plan.written.iter().filter(|(_, origin)| *origin == Origin::Model);
        by_model.map(|(place, _)| &self.chunks[*place]).collect()
    }

    /// Changes what has to be changed, with the embeddings of the chunks that the model had to embed, in their order.
    pub fn write(&self, plan: &DocumentPlan, computed: impl Iterator<Item = Vec<f32>>) {
        let (store, key) = (self.store, self.key());
        let rows = self.rows(plan, computed);
        write_rows(store, rows, self.description.collection);
        if !plan.described.is_empty() {
            spi::execute(&statements::describe_rows(store, &key, &plan.described, &self.description));
        }
        if !plan.deleted.is_empty() {
            spi::query_new_snapshot(&statements::lock_rows(store, &key, Some(&plan.deleted)), |_| ());
            spi::execute(&statements::delete_rows(store, &key, Some(&plan.deleted)));
        }
    }

    fn rows(&self, plan: &DocumentPlan, mut computed: impl Iterator<Item = Vec<f32>>) -> Vec<NewRow> {
        let known = self.stored_embeddings(plan);
        let row = |(place, origin): &(usize, Origin)| {
            let embedding = match origin {
                Origin::Model => computed.next(),
                Origin::Stored(index) => known.get(index).cloned(),
            };
            NewRow {
                source_type: self.source_type.to_owned(),
                source_id: self.source_id.to_owned(),
                chunk_index: i32::try_from(*place).unwrap_or(i32::MAX),
                chunk: self.chunks[*place].clone(),
                embedding: embedding.unwrap_or_default(),
                namespace: self.namespace.to_owned(),
                metadata: self.description.metadata.to_owned(),
            }
        };
        plan.written.iter().map(row).collect()
    }

    fn stored_embeddings(&self, plan: &DocumentPlan) -> HashMap<i64, Vec<f32>> {
        let places: Vec<i64> = plan
            .written
            .iter()
            .filter_map(|(_, origin)| match origin {
                Origin::Stored(index) => Some(*index),
                Origin::Model => None,
            })
            .collect();
        if places.is_empty() {
            return HashMap::new();
        }
        let found =
            spi::query_new_snapshot(&statements::read_embeddings(self.store, &self.key(), &places), |row| {
                Some((row.get::<i64>(1)?, row.get::<Vector>(2)?.0))
            });
        found.into_iter().flatten().collect()
    }
}

/// The embeddings of chunks by the model of a store.
///
/// # Errors
/// Those of the model, and [`vector_tools_core::error::Error::WrongDimensions`] (22000) where it gives others than the store
/// keeps.
pub fn embed_chunks(store: &Store, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
    let mut vectors = Vec::with_capacity(texts.len());
    embed_chunks_in_parts(store, texts, &mut |part| vectors.extend(part))?;
    Ok(vectors)
}

/// Hands the embeddings of chunks over, in their order, while those of the chunks behind them are computed.
///
/// # Errors
/// Those of [`embed_chunks`]; nothing is handed over that the store cannot keep.
pub fn embed_chunks_in_parts(
    store: &Store,
    texts: &[&str],
    arrived: &mut dyn FnMut(Vec<Vec<f32>>),
) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    let subject = || format!("what model \"{}\" gives", store.model);
    let mut checked = Ok(());
    embed_passages_in_parts(&store.model, texts, &mut |part| {
        if checked.is_ok() {
            checked = part.iter().try_for_each(|vector| check_vector(vector, store, subject));
        }
        if checked.is_ok() {
            arrived(part);
        }
    })?;
    checked
}

/// Writes rows, whose memory is given back part by part; tells how many are new or changed.
pub fn write_rows(store: &Store, rows: Vec<NewRow>, collection: Option<&str>) -> u64 {
    let (mut rows, mut changed) = (rows.into_iter(), 0);
    while rows.len() > 0 {
        let part = rows.by_ref().take(ROWS_IN_A_STATEMENT);
        changed += spi::execute(&statements::write_rows(store, part, collection));
    }
    changed
}
