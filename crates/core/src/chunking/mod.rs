//! From a long text to chunks that a model reads whole, sized in the model's own tokens.
//!
//! Counting the tokens of every piece that might become a chunk would tokenize a text many times
//! over. Here the tokens of a stretch of the text are found once, with the bytes they come from,
//! and the size of any piece is a look-up in that table (`table`). What the table cannot know is
//! how the tokens at the edges change when a piece stands alone: a word cut in two, or a tokenizer
//! that puts a space before every text. So a chunk counts as the model reads it, alone and with the
//! model's prefix, unless white space at its edges and the kind of tokenizer make sure that nothing
//! changes; and where chunks turn out too large, they are cut again with room to spare.

pub mod boundaries;
pub mod characters;
pub mod filling;
pub mod options;
pub mod splitting;
pub mod stretches;
pub mod table;
pub mod tokens;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::chunking::boundaries::{middle, trimmed};
use crate::chunking::characters::Characters;
use crate::chunking::filling::{Beginning, fill};
use crate::chunking::stretches::{
    markdown_end, markdown_stretch_bytes, next_content, plain_end, stretch_bytes,
};
use crate::chunking::table::TokenTable;
use crate::embed::Checkpoint;
use crate::error::Result;

pub use options::{Options, Sizes, Strategy};
pub use tokens::{PassageTokens, Tokens};

/// A part of a text, fit for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its bytes in the text.
    pub bytes: Range<usize>,
    /// Its characters in the text.
    pub characters: Range<usize>,
    /// The tokens the model reads of it, with special tokens and the passage prefix.
    pub tokens: usize,
    /// The place of its parent among the chunks, in a hierarchy.
    pub parent: Option<usize>,
}

/// The chunks of `text`, in the order of their beginnings; parents come before their children.
///
/// Nothing of the text is in no chunk but white space, no chunk is blank, and none has more tokens
/// than asked for or than the model reads, except for a single character that alone has more.
/// `checkpoint` is called several times for every 256 kB.
///
/// # Errors
/// [`crate::error::Error::InvalidArgument`] (22023) for sizes out of range,
/// [`crate::error::Error::InferenceFailed`] (38000), and whatever `checkpoint` gives.
pub fn chunk(
    text: &str,
    options: &Options,
    tokens: &dyn Tokens,
    checkpoint: Checkpoint,
) -> Result<Vec<Chunk>> {
    let overhead = tokens.count(&[""])?.into_iter().sum();
    let sizes = Sizes::new(options, tokens.limit(), overhead)?;
    let stretch_bytes = match options.strategy {
        Strategy::Markdown => markdown_stretch_bytes(sizes.room),
        _ => stretch_bytes(sizes.room),
    };
    Chunker { text, strategy: options.strategy, sizes, tokens, stretch_bytes }.run(checkpoint)
}

/// A piece of a stretch with the tokens the model reads of it.
type Sized = (Range<usize>, usize);

struct Chunker<'a> {
    text: &'a str,
    strategy: Strategy,
    sizes: Sizes,
    tokens: &'a dyn Tokens,
    stretch_bytes: usize,
}

impl Chunker<'_> {
    fn run(&self, checkpoint: Checkpoint) -> Result<Vec<Chunk>> {
        let is_markdown = self.strategy == Strategy::Markdown;
        let mut characters = Characters::new(self.text);
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut fence = None;
        let mut covered = 0;
        let mut start = next_content(self.text, 0, is_markdown);
        while start < self.text.len() {
            checkpoint()?;
            let end = if is_markdown {
                let (end, open) = markdown_end(self.text, start, self.stretch_bytes, fence);
                fence = open;
                end
            } else {
                plain_end(self.text, start, self.stretch_bytes)
            };
            let stretch = &self.text[start..end];
            let table = TokenTable::new(stretch, &self.tokens.locate(stretch)?);
            checkpoint()?;
            let is_complete = end == self.text.len() || is_markdown;
            let mut place = |chunks: &mut Vec<Chunk>, (bytes, tokens): &Sized, parent: Option<usize>| {
                let bytes = start + bytes.start..start + bytes.end;
                let characters = characters.range(&bytes);
                chunks.push(Chunk { bytes, characters, tokens: *tokens, parent });
            };
            let (mut pieces, next) = self.pieces(&table, is_complete, checkpoint)?;
            // What the last stretch ended in the middle of may have looked larger there.
            pieces.retain(|(piece, _)| start + piece.end > covered);
            covered = pieces.last().map_or(covered, |(piece, _)| start + piece.end);
            // An overlap may reach back to where the last chunk begins, which is then held by the next.
            if let Some((first, _)) = pieces.first() {
                while chunks.last().is_some_and(|last| last.bytes.start >= start + first.start) {
                    chunks.pop();
                }
            }
            let mut children = self.children(&table, &pieces, checkpoint)?.into_iter().peekable();
            for piece in &pieces {
                let parent = chunks.len();
                place(&mut chunks, piece, None);
                while let Some(child) = children.next_if(|(child, _)| child.end <= piece.0.end) {
                    place(&mut chunks, &child, Some(parent));
                }
            }
            start = next_content(self.text, start + next, is_markdown);
        }
        Ok(chunks)
    }

    /// The chunks of a stretch that what follows it cannot change, all of them where it is complete,
    /// and where the next stretch begins.
    fn pieces(
        &self,
        table: &TokenTable,
        is_complete: bool,
        checkpoint: Checkpoint,
    ) -> Result<(Vec<Sized>, usize)> {
        let Sizes { room, overlap, .. } = self.sizes;
        let end = table.text().len();
        let mut next = end;
        let pieces = self.fitting(table, room, checkpoint, |room, checkpoint| {
            let mut pieces = match self.strategy {
                Strategy::Semantic => splitting::semantic(table, 0..end, room, overlap, checkpoint),
                Strategy::Hierarchical => splitting::semantic(table, 0..end, room, 0, checkpoint),
                Strategy::Markdown => splitting::markdown(table, room, overlap, checkpoint),
                Strategy::Fixed => Ok(fill(table, room, overlap, Beginning::Word)),
                Strategy::Sliding => Ok(fill(table, room, overlap, Beginning::Sentence)),
            }?;
            next = end;
            if !is_complete {
                let follows_enough = |piece: &Range<usize>| table.size(&(piece.start..end)) > room * 3 / 2;
                let settled = pieces.iter().take_while(|piece| follows_enough(piece)).count();
                // A stretch that holds hardly more than a chunk: all but the last must do.
                let kept = if settled == 0 { pieces.len().saturating_sub(1).max(1) } else { settled };
                next = pieces.get(kept).map_or(end, |piece| piece.start);
                pieces.truncate(kept);
            }
            Ok(pieces)
        })?;
        Ok((pieces, next))
    }

    /// The children of all parents of a stretch, one after another.
    fn children(&self, table: &TokenTable, parents: &[Sized], checkpoint: Checkpoint) -> Result<Vec<Sized>> {
        if self.strategy != Strategy::Hierarchical {
            return Ok(vec![]);
        }
        let Sizes { child_room, overlap, .. } = self.sizes;
        self.fitting(table, child_room, checkpoint, |room, checkpoint| {
            let mut children = vec![];
            for (parent, _) in parents {
                children.extend(splitting::semantic(table, parent.clone(), room, overlap, checkpoint)?);
            }
            Ok(children)
        })
    }

    /// The pieces that `split` makes for chunks of `room` tokens, none larger when read alone.
    fn fitting(
        &self,
        table: &TokenTable,
        room: usize,
        checkpoint: Checkpoint,
        mut split: impl FnMut(usize, Checkpoint) -> Result<Vec<Range<usize>>>,
    ) -> Result<Vec<Sized>> {
        let limit = self.sizes.overhead + room;
        let mut spare = 0;
        loop {
            let pieces = split(room - spare, checkpoint)?;
            checkpoint()?;
            let counts = self.counts(table, &pieces)?;
            let too_large = counts.iter().filter(|count| **count > limit).count();
            // Where many are, the tokenizer is one that finds more tokens in a text than in its
            // place: all get smaller. Where few are, these are cut in two.
            let excess = counts.iter().max().map_or(0, |most| most.saturating_sub(limit));
            if too_large * 8 > pieces.len() && spare + excess <= room / 8 {
                spare = (spare + excess).max(2 * spare).min(room / 8);
                continue;
            }
            let sized: Vec<Sized> = pieces.into_iter().zip(counts).collect();
            return self.halved(table.text(), sized, limit, checkpoint);
        }
    }

    /// The pieces in order, those of more than `limit` tokens cut in two until their parts are small
    /// enough.
    fn halved(
        &self,
        text: &str,
        mut pieces: Vec<Sized>,
        limit: usize,
        checkpoint: Checkpoint,
    ) -> Result<Vec<Sized>> {
        let mut fitting = Vec::with_capacity(pieces.len());
        pieces.reverse();
        while let Some((piece, count)) = pieces.pop() {
            let cut = if count > limit { middle(&text[piece.clone()]) } else { None };
            let Some(middle) = cut.map(|place| piece.start + place) else {
                add(&mut fitting, piece, count);
                continue;
            };
            checkpoint()?;
            for half in [middle..piece.end, piece.start..middle] {
                let half = trimmed(text, half);
                if !half.is_empty() {
                    let count = self.tokens.count(&[&text[half.clone()]])?.into_iter().sum();
                    pieces.push((half, count));
                }
            }
        }
        Ok(fitting)
    }

    /// How many tokens the model reads of each piece.
    fn counts(&self, table: &TokenTable, pieces: &[Range<usize>]) -> Result<Vec<usize>> {
        let text = table.text();
        let is_known = self.tokens.are_apart_at_white_space();
        let mut counts: Vec<Option<usize>> = pieces
            .iter()
            .map(|piece| {
                let is_apart = is_known && stands_apart(text, piece);
                is_apart.then(|| self.sizes.overhead + table.count(piece))
            })
            .collect();
        let unknown = pieces.iter().zip(&counts).filter(|(_, count)| count.is_none());
        let unknown: Vec<&str> = unknown.map(|(piece, _)| &text[piece.clone()]).collect();
        let mut counted = if unknown.is_empty() { vec![] } else { self.tokens.count(&unknown)? }.into_iter();
        Ok(counts.iter_mut().filter_map(|count| count.take().or_else(|| counted.next())).collect())
    }
}

/// Adds a piece so that both ends of all pieces keep their order: with an overlap, a piece may hold
/// the one before it, or be held by it.
fn add(pieces: &mut Vec<Sized>, piece: Range<usize>, count: usize) {
    if pieces.last().is_some_and(|(last, _)| piece.end <= last.end) {
        return;
    }
    while pieces.last().is_some_and(|(last, _)| piece.start <= last.start) {
        pieces.pop();
    }
    pieces.push((piece, count));
}

/// Whether white space, or the end of the text, is at both sides of a piece. Other white space than
/// this is dropped by BERT's tokenizers, so that it does not part words.
fn stands_apart(text: &str, piece: &Range<usize>) -> bool {
    let parts = |character: char| [' ', '\n', '\t', '\r'].contains(&character);
    let before = text[..piece.start].chars().next_back();
    let after = text[piece.end..].chars().next();
    before.is_none_or(parts) && after.is_none_or(parts)
}
