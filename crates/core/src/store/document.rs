//! What must be written so that the rows of a document become its chunks.

use std::collections::{HashMap, HashSet};

use crate::embed::Checkpoint;
use crate::error::{Error, Result};
use crate::hash::sha256_hex;

/// The most bytes of a chunk. PostgreSQL keeps the words of a text only up to this size, and models
/// read far less.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// The most chunks of a document: a text of a hundred megabytes has as many.
pub const MOST_CHUNKS: usize = 100_000;

/// A chunk of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The text.
    pub content: String,
    /// Its sha256 in hexadecimal.
    pub hash: String,
}

impl Chunk {
    /// A chunk of that text.
    pub fn new(content: String) -> Chunk {
        Chunk { hash: sha256_hex(content.as_bytes()), content }
    }
}

/// The chunks of a document.
///
/// # Errors
/// [`Error::NullElement`] (22004) for a NULL, [`Error::TooLong`] (54000) for a chunk that is too
/// long to be searched, [`Error::TooMany`] (54000) beyond [`MOST_CHUNKS`], and those of `checkpoint`.
pub fn read_chunks(texts: Vec<Option<String>>, checkpoint: Checkpoint) -> Result<Vec<Chunk>> {
    check_chunks(texts.len())?;
    let chunk = |(place, text): (usize, Option<String>)| {
        checkpoint()?;
        let text = text.ok_or(Error::NullElement { argument: "chunks", place: place + 1 })?;
        check_size(&text, || format!("chunk {}", place + 1))?;
        Ok(Chunk::new(text))
    };
    texts.into_iter().enumerate().map(chunk).collect()
}

/// Checks that a document has not too many chunks.
///
/// # Errors
/// [`Error::TooMany`] (54000).
pub fn check_chunks(found: usize) -> Result<()> {
    if found <= MOST_CHUNKS {
        return Ok(());
    }
    Err(Error::TooMany { subject: "the document", found, unit: "chunks", most: MOST_CHUNKS })
}

/// Checks that a text is not too long to be searched by its words.
///
/// # Errors
/// [`Error::TooLong`] (54000).
pub fn check_size(text: &str, subject: impl FnOnce() -> String) -> Result<()> {
    if text.len() <= MAX_CHUNK_BYTES {
        return Ok(());
    }
    Err(Error::TooLong { subject: subject(), bytes: text.len(), most: MAX_CHUNK_BYTES })
}

/// A chunk as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its place in the document.
    pub chunk_index: i64,
    /// The sha256 of its text.
    pub hash: String,
    /// Whether it has the metadata and the collection that the document shall have.
    pub is_described_so: bool,
}

/// Where the embedding of a chunk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The model.
    Model,
    /// The row of the same document that has had this text so far.
    Stored(i64),
}

/// The changes that make the stored rows the document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentPlan {
    /// Chunks to be written, by their place.
    pub written: Vec<(usize, Origin)>,
    /// How many of them are new rows.
    pub inserted: usize,
    /// Places whose text stays and whose metadata or collection changes.
    pub described: Vec<i64>,
    /// How many rows stay as they are.
    pub unchanged: usize,
    /// Places of rows that are gone.
    pub deleted: Vec<i64>,
}

impl DocumentPlan {
    /// Compares the chunks of a document with its rows. A text that has moved inside the document
    /// keeps its embedding.
    pub fn new(chunks: &[Chunk], stored: &[StoredChunk]) -> DocumentPlan {
        let by_index: HashMap<i64, &StoredChunk> = stored.iter().map(|row| (row.chunk_index, row)).collect();
        let by_hash: HashMap<&str, i64> =
            stored.iter().map(|row| (row.hash.as_str(), row.chunk_index)).collect();
        let mut plan = DocumentPlan::default();
        for (place, chunk) in chunks.iter().enumerate() {
            match by_index.get(&(place as i64)) {
                Some(row) if row.hash == chunk.hash && row.is_described_so => plan.unchanged += 1,
                Some(row) if row.hash == chunk.hash => plan.described.push(row.chunk_index),
                row => {
                    plan.inserted += usize::from(row.is_none());
                    let known = by_hash.get(chunk.hash.as_str());
                    plan.written.push((place, known.map_or(Origin::Model, |index| Origin::Stored(*index))));
                }
            }
        }
        let kept: HashSet<i64> = (0..chunks.len() as i64).collect();
        plan.deleted =
            stored.iter().map(|row| row.chunk_index).filter(|index| !kept.contains(index)).collect();
        plan
    }

    /// How many rows change.
    pub fn updated(&self) -> usize {
        self.written.len() - self.inserted + self.described.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks(texts: &[&str]) -> Vec<Chunk> {
        texts.iter().map(|text| Chunk::new((*text).to_owned())).collect()
    }

    fn stored(texts: &[&str]) -> Vec<StoredChunk> {
        let row = |(index, chunk): (usize, Chunk)| StoredChunk {
            chunk_index: index as i64,
            hash: chunk.hash,
            is_described_so: true,
        };
        chunks(texts).into_iter().enumerate().map(row).collect()
    }

    #[test]
    fn an_unchanged_document_needs_nothing() {
        let plan = DocumentPlan::new(&chunks(&["a", "b"]), &stored(&["a", "b"]));
        assert_eq!(plan, DocumentPlan { unchanged: 2, ..DocumentPlan::default() });
    }

    #[test]
    fn only_changed_chunks_are_embedded() {
        let plan = DocumentPlan::new(&chunks(&["a", "x", "c", "d"]), &stored(&["a", "b", "c"]));
        assert_eq!(plan.written, [(1, Origin::Model), (3, Origin::Model)]);
        assert_eq!((plan.inserted, plan.updated(), plan.unchanged), (1, 1, 2));
    }

    #[test]
    fn a_moved_text_keeps_its_embedding() {
        let plan = DocumentPlan::new(&chunks(&["new", "a", "b"]), &stored(&["a", "b"]));
        assert_eq!(plan.written, [(0, Origin::Model), (1, Origin::Stored(0)), (2, Origin::Stored(1))]);
        assert_eq!((plan.inserted, plan.updated()), (1, 2));
    }

    #[test]
    fn rows_that_are_gone_are_deleted() {
        let plan = DocumentPlan::new(&chunks(&["a"]), &stored(&["a", "b", "c"]));
        assert_eq!((plan.deleted, plan.unchanged), (vec![1, 2], 1));
        let plan = DocumentPlan::new(&[], &stored(&["a"]));
        assert_eq!(plan.deleted, [0]);
    }

    #[test]
    fn other_metadata_changes_a_row_without_embedding() {
        let mut rows = stored(&["a", "b"]);
        rows[1].is_described_so = false;
        let plan = DocumentPlan::new(&chunks(&["a", "b"]), &rows);
        assert_eq!((plan.written.len(), plan.described.clone(), plan.updated()), (0, vec![1], 1));
    }

    #[test]
    fn chunks_are_checked() {
        let read_chunks = |texts| read_chunks(texts, &mut || Ok(()));
        assert!(matches!(read_chunks(vec![None]), Err(Error::NullElement { .. })));
        let chunks = |count| read_chunks(vec![Some(String::new()); count]).map(|chunks| chunks.len());
        assert_eq!(chunks(MOST_CHUNKS), Ok(MOST_CHUNKS));
        assert!(matches!(chunks(MOST_CHUNKS + 1), Err(Error::TooMany { found: 100_001, most: 100_000, .. })));
        let long = "x".repeat(MAX_CHUNK_BYTES + 1);
        assert!(matches!(read_chunks(vec![Some(long)]), Err(Error::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn the_plan_accounts_for_every_chunk_and_row(
            new in prop::collection::vec(0u8..6, 0..12),
            old in prop::collection::vec(0u8..6, 0..12),
        ) {
            let text = |numbers: &[u8]| numbers.iter().map(u8::to_string).collect::<Vec<_>>();
            let (new, old) = (text(&new), text(&old));
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            let plan = DocumentPlan::new(&chunks(&new), &stored(&old));
            prop_assert_eq!(plan.unchanged + plan.updated() + plan.inserted, new.len());
            prop_assert_eq!(old.len() + plan.inserted - plan.deleted.len(), new.len());
        }
    }
}
