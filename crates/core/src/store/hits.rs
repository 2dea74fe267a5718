//! The rows that a search of a store gives.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// Characters of a preview.
pub const PREVIEW_CHARACTERS: usize = 500;

/// A found row, as the store's columns have it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreHit {
    /// Its id, a UUID.
    pub id: [u8; 16],
    /// What kind of source it is from.
    pub source_type: String,
    /// The source, a UUID.
    pub source_id: [u8; 16],
    /// Its place in the source.
    pub chunk_index: i32,
    /// Its first characters.
    pub content_preview: Option<String>,
    /// Its metadata as JSON text.
    pub metadata: String,
    /// Its namespace.
    pub namespace: String,
}

#[derive(Deserialize)]
struct Document<'a> {
    id: String,
    source_type: String,
    source_id: String,
    chunk_index: i32,
    content_preview: Option<String>,
    #[serde(borrow)]
    metadata: &'a RawValue,
    namespace: String,
}

/// Reads the row that a search returned as JSON text.
///
/// # Errors
/// [`Error::NotAStore`] (42809) when it has not the columns of a store.
pub fn read_hit(document: &str, content: Option<&str>, store: &str) -> Result<StoreHit> {
    let row: Document = serde_json::from_str(document)
        .map_err(|error| Error::NotAStore { table: store.to_owned(), reason: error.to_string() })?;
    let not_uuid = || Error::NotAStore { table: store.to_owned(), reason: "its ids are no UUIDs".to_owned() };
    let preview = || content.map(|text| text.chars().take(PREVIEW_CHARACTERS).collect());
    Ok(StoreHit {
        id: uuid_bytes(&row.id).ok_or_else(not_uuid)?,
        source_type: row.source_type,
        source_id: uuid_bytes(&row.source_id).ok_or_else(not_uuid)?,
        chunk_index: row.chunk_index,
        content_preview: row.content_preview.or_else(preview),
        metadata: row.metadata.get().to_owned(),
        namespace: row.namespace,
    })
}

/// The bytes of a UUID in text form.
pub fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits = text.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_preview_gets_one() {
        let row = r#"{"id": "00000000-0000-0000-0000-0000000000ff", "source_type": "document",
            "source_id": "00000000-0000-0000-0000-000000000001", "chunk_index": 2,
            "content_preview": null, "metadata": {"n": 1.10}, "namespace": "default", "more": 1}"#;
        let content = "ü".repeat(600);
        let hit = read_hit(row, Some(&content), "s").expect("a row of a store");
        assert_eq!(hit.content_preview.map(|text| text.chars().count()), Some(500));
        assert_eq!((hit.id[15], hit.source_id[15]), (255, 1));
        assert_eq!(hit.metadata, r#"{"n": 1.10}"#);
        assert!(matches!(read_hit("{}", None, "s"), Err(Error::NotAStore { .. })));
    }
}
