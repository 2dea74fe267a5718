//! Cutting a text between its paragraphs, sentences and words, or between its Markdown blocks.

use std::cell::RefCell;
use std::ops::Range;

use text_splitter::{ChunkConfig, MarkdownSplitter, TextSplitter, TryChunkSizer};

use crate::chunking::table::{TokenTable, place_in};
use crate::embed::Checkpoint;
use crate::error::{Error, Result};

/// The pieces of at most `room` tokens that these bytes of the table's text fall into: whole
/// paragraphs where they fit, else whole lines, sentences, words or characters. White space at both
/// ends of a piece is left out. Neighbours have at most `overlap` tokens in common.
///
/// # Errors
/// Whatever `checkpoint`, called many times for each piece, gives.
pub fn semantic(
    table: &TokenTable,
    bytes: Range<usize>,
    room: usize,
    overlap: usize,
    checkpoint: Checkpoint,
) -> Result<Vec<Range<usize>>> {
    let splitter = TextSplitter::new(configuration(table, room, overlap, checkpoint)?);
    places(table, splitter.try_chunks(&table.text()[bytes]))
}

/// The same between the headings, blocks and lines of Markdown. A piece of several lines keeps its
/// indentation.
///
/// # Errors
/// Those of [`semantic`].
pub fn markdown(
    table: &TokenTable,
    room: usize,
    overlap: usize,
    checkpoint: Checkpoint,
) -> Result<Vec<Range<usize>>> {
    let splitter = MarkdownSplitter::new(configuration(table, room, overlap, checkpoint)?);
    places(table, splitter.try_chunks(table.text()))
}

/// Sizes the pieces of the table's text, which text-splitter hands over as slices of it.
struct Sizer<'a> {
    table: &'a TokenTable<'a>,
    checkpoint: RefCell<Checkpoint<'a>>,
}

impl TryChunkSizer for Sizer<'_> {
    type Error = Error;

    fn try_size(&self, chunk: &str) -> Result<usize> {
        (self.checkpoint.borrow_mut())()?;
        Ok(place_in(self.table.text(), chunk).map_or(chunk.len(), |bytes| self.table.size(&bytes)))
    }
}

fn configuration<'a>(
    table: &'a TokenTable<'a>,
    room: usize,
    overlap: usize,
    checkpoint: Checkpoint<'a>,
) -> Result<ChunkConfig<Sizer<'a>>> {
    let sizer = Sizer { table, checkpoint: RefCell::new(checkpoint) };
    ChunkConfig::new(room).with_sizer(sizer).with_overlap(overlap).map_err(|_| Error::InvalidArgument {
        argument: "overlap",
        expected: format!("less than {room}"),
        found: overlap.to_string(),
    })
}

fn places<'a>(
    table: &TokenTable,
    chunks: impl Iterator<Item = Result<&'a str>>,
) -> Result<Vec<Range<usize>>> {
    chunks.map(|chunk| Ok(place_in(table.text(), chunk?))).filter_map(Result::transpose).collect()
}
