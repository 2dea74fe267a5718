//! Rows of the table of embeddings on their way into it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::store::document::{Chunk, check_size};
use crate::store::{DEFAULT_NAMESPACE, Store, check_namespace};

/// Rows that one statement writes: enough that its cost does not count, few enough to stay near the
/// processor.
pub const ROWS_IN_A_STATEMENT: usize = 250;

/// The most rows of one call: more of them are written by several.
pub const MOST_ROWS: usize = 100_000;

/// Checks that one call has not too many rows.
///
/// # Errors
/// [`Error::TooMany`] (54000) beyond [`MOST_ROWS`].
pub fn check_rows(found: usize) -> Result<()> {
    if found <= MOST_ROWS {
        return Ok(());
    }
    Err(Error::TooMany { subject: "the call", found, unit: "rows", most: MOST_ROWS })
}

/// A row to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRow {
    /// What kind of source it is from.
    pub source_type: String,
    /// The source, a UUID as text.
    pub source_id: String,
    /// Its place in the source.
    pub chunk_index: i32,
    /// The text and its hash.
    pub chunk: Chunk,
    /// The embedding.
    pub embedding: Vec<f32>,
    /// The namespace.
    pub namespace: String,
    /// The metadata, a JSON object as text.
    pub metadata: String,
}

/// Arrays of equal length, each with an element for every row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    /// What kind of source.
    pub source_types: Vec<Option<String>>,
    /// UUIDs as text.
    pub source_ids: Vec<Option<String>>,
    /// Places in the source.
    pub chunk_indexes: Vec<Option<i32>>,
    /// Texts.
    pub contents: Vec<Option<String>>,
    /// Embeddings.
    pub embeddings: Vec<Option<Vec<f32>>>,
    /// Namespaces; where there is none, the default.
    pub namespaces: Option<Vec<Option<String>>>,
    /// JSON objects as text; where there is none, an empty one.
    pub metadata: Option<Vec<Option<String>>>,
}

impl Columns {
    /// The rows.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023) for arrays of different length, [`Error::NullElement`]
    /// (22004), [`Error::TooMany`] (54000).
    pub fn into_rows(self) -> Result<Vec<NewRow>> {
        let count = self.source_types.len();
        let lengths = [
            ("source_ids", self.source_ids.len()),
            ("chunk_indexes", self.chunk_indexes.len()),
            ("contents", self.contents.len()),
            ("embeddings", self.embeddings.len()),
            ("namespaces", self.namespaces.as_ref().map_or(count, Vec::len)),
            ("metadata", self.metadata.as_ref().map_or(count, Vec::len)),
        ];
        if let Some((argument, found)) = lengths.into_iter().find(|(_, length)| *length != count) {
            let expected = format!("an array of {count} elements, as source_types is");
            return Err(Error::InvalidArgument { argument, expected, found: format!("one of {found}") });
        }
        check_rows(count)?;
        let mut namespaces = self.namespaces.unwrap_or_else(|| vec![None; count]).into_iter();
        let mut metadata = self.metadata.unwrap_or_else(|| vec![None; count]).into_iter();
        let texts = self.source_types.into_iter().zip(self.source_ids);
        let rest = self.chunk_indexes.into_iter().zip(self.contents).zip(self.embeddings);
        let mut rows = Vec::with_capacity(count);
        for (number, ((source_type, source_id), ((chunk_index, content), embedding))) in
            texts.zip(rest).enumerate()
        {
            let null = |argument| Error::NullElement { argument, place: number + 1 };
            rows.push(NewRow {
                source_type: source_type.ok_or_else(|| null("source_types"))?,
                source_id: source_id.ok_or_else(|| null("source_ids"))?,
                chunk_index: chunk_index.ok_or_else(|| null("chunk_indexes"))?,
                chunk: Chunk::new(content.ok_or_else(|| null("contents"))?),
                embedding: embedding.ok_or_else(|| null("embeddings"))?,
                namespace: namespaces.next().flatten().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
                metadata: metadata.next().flatten().unwrap_or_else(|| "{}".to_owned()),
            });
        }
        Ok(rows)
    }
}

/// A row as `upsert_embeddings(schema, rows jsonb)` takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow<'a> {
    source_type: String,
    source_id: String,
    #[serde(default)]
    chunk_index: i32,
    content: String,
    // As 64-bit numbers, so that one too large for a vector is seen as such.
    embedding: Vec<f64>,
    namespace: Option<String>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// The rows of a JSON array of objects.
///
/// # Errors
/// [`Error::InvalidArgument`] (22023) for another shape.
pub fn rows_from_json(json: &str) -> Result<Vec<NewRow>> {
    let rows: Vec<JsonRow> = serde_json::from_str(json).map_err(|error| Error::InvalidArgument {
        argument: "rows",
        expected: "an array of objects with source_type, source_id, content and embedding, and if wanted \
                   chunk_index, namespace and metadata"
            .to_owned(),
        found: format!("this: {error}"),
    })?;
    check_rows(rows.len())?;
    let row = |row: JsonRow| NewRow {
        source_type: row.source_type,
        source_id: row.source_id,
        chunk_index: row.chunk_index,
        chunk: Chunk::new(row.content),
        embedding: row.embedding.into_iter().map(|number| number as f32).collect(),
        namespace: row.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        metadata: row.metadata.map_or("{}", RawValue::get).to_owned(),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Checks rows and puts them into the order of their keys, in which every call writes, so that no
/// two calls wait for each other.
///
/// # Errors
/// [`Error::WrongDimensions`] (22000), [`Error::InvalidVector`] (22003) with NaN or infinity,
/// [`Error::InvalidName`] (42602) for a namespace, [`Error::TooLong`] (54000),
/// [`Error::DuplicateRow`] (21000) when two rows have one key.
pub fn checked_and_ordered(mut rows: Vec<NewRow>, store: &Store) -> Result<Vec<NewRow>> {
    for (number, row) in rows.iter().enumerate() {
        let subject = || format!("row {}", number + 1);
        check_vector(&row.embedding, store, subject)?;
        check_namespace(&row.namespace)?;
        check_size(&row.chunk.content, subject)?;
    }
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    match rows.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
        Some([row, _]) => Err(Error::DuplicateRow {
            key: format!(
                "chunk {} of {} {} in the namespace {}",
                row.chunk_index, row.source_type, row.source_id, row.namespace
            ),
        }),
        _ => Ok(rows),
    }
}

fn key(row: &NewRow) -> (&str, &str, i32, &str) {
    (&row.source_type, &row.source_id, row.chunk_index, &row.namespace)
}

/// Checks an embedding that somebody gave.
///
/// # Errors
/// [`Error::WrongDimensions`] (22000), [`Error::InvalidVector`] (22003).
pub fn check_vector(embedding: &[f32], store: &Store, subject: impl Fn() -> String) -> Result<()> {
    if embedding.len() != store.dimensions {
        return Err(Error::WrongDimensions {
            expected: store.dimensions,
            found: embedding.len(),
            subject: format!("{} has another embedding than {} holds", subject(), store.display()),
        });
    }
    match embedding.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(Error::InvalidVector { subject: subject(), found: number.to_string() }),
        None => Ok(()),
    }
}

/// The different namespaces of rows, in order.
pub fn namespaces_of(rows: &[NewRow]) -> Vec<&str> {
    let mut namespaces: Vec<&str> = rows.iter().map(|row| row.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    namespaces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    fn columns(count: usize) -> Columns {
        Columns {
            source_types: vec![Some("document".to_owned()); count],
            source_ids: vec![Some("d".to_owned()); count],
            chunk_indexes: (0..count as i32).rev().map(Some).collect(),
            contents: vec![Some("text".to_owned()); count],
            embeddings: vec![Some(vec![1.0, 2.0, 3.0]); count],
            ..Columns::default()
        }
    }

    #[test]
    fn arrays_become_ordered_rows() {
        let rows =
            columns(3).into_rows().and_then(|rows| checked_and_ordered(rows, &store())).expect("valid");
        let places: Vec<i32> = rows.iter().map(|row| row.chunk_index).collect();
        assert_eq!(places, [0, 1, 2]);
        assert_eq!((rows[0].namespace.as_str(), rows[0].metadata.as_str()), ("default", "{}"));
        assert_eq!(namespaces_of(&rows), ["default"]);
    }

    #[test]
    fn arrays_of_other_lengths_and_nulls_are_refused() {
        let mut short = columns(3);
        short.embeddings.pop();
        assert!(matches!(short.into_rows(), Err(Error::InvalidArgument { argument: "embeddings", .. })));
        let mut null = columns(3);
        null.contents[2] = None;
        assert_eq!(null.into_rows(), Err(Error::NullElement { argument: "contents", place: 3 }));
    }

    #[test]
    fn bad_vectors_and_doubled_keys_are_refused() {
        let refusal = |change: fn(&mut NewRow)| {
            let mut rows = columns(2).into_rows().expect("valid");
            change(&mut rows[1]);
            checked_and_ordered(rows, &store()).expect_err("refused").facts().sqlstate
        };
        assert_eq!(refusal(|row| row.embedding.truncate(2)), "22000");
        assert_eq!(refusal(|row| row.embedding[1] = f32::NAN), "22003");
        assert_eq!(refusal(|row| row.embedding[1] = f32::INFINITY), "22003");
        assert_eq!(refusal(|row| row.namespace.clear()), "42602");
        assert_eq!(refusal(|row| row.chunk_index = 1), "21000");
    }

    #[test]
    fn rows_are_read_from_json() {
        let rows = rows_from_json(
            r#"[{"source_type": "document", "source_id": "d", "content": "x", "embedding": [1, 2, 1e300],
                 "metadata": {"n": 1.10}}]"#,
        )
        .expect("valid");
        assert_eq!(rows[0].metadata, r#"{"n": 1.10}"#);
        assert!(rows[0].embedding[2].is_infinite());
        for wrong in ["{}", "[1]", r#"[{"source_type": "document"}]"#, r#"[{"vector": []}]"#] {
            assert!(rows_from_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_of_a_call_are_bounded() {
        assert_eq!([0, 1, MOST_ROWS].map(check_rows), [Ok(()), Ok(()), Ok(())]);
        assert!(matches!(
            check_rows(MOST_ROWS + 1),
            Err(Error::TooMany { found: 100_001, most: 100_000, .. })
        ));
    }
}
