//! Filling chunks with whole words one after another, for the strategies `fixed` and `sliding`.

use std::ops::Range;

use crate::chunking::boundaries::{characters, graphemes, sentences, trimmed, words};
use crate::chunking::table::TokenTable;

/// What a chunk that overlaps the one before begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// A word.
    Word,
    /// A sentence where one begins in the overlap, else a word.
    Sentence,
}

/// The pieces that the table's text falls into when each is filled with as many whole words as have
/// `room`, and begins with the last `overlap` tokens, or as many as whole words or sentences are,
/// of the one before. Only a word that is larger than a piece is cut.
pub fn fill(table: &TokenTable, room: usize, overlap: usize, beginning: Beginning) -> Vec<Range<usize>> {
    let text = table.text();
    let words = words(text);
    let sentences = if beginning == Beginning::Sentence { sentences(text) } else { vec![] };
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    loop {
        start = trimmed(text, start..text.len()).start;
        if start == text.len() {
            return pieces;
        }
        let end = furthest(table, &words, start, room);
        let previous = pieces.last().map_or(0, |piece| piece.end);
        let piece = trimmed(text, start..end);
        if piece.end <= previous {
            // The next word does not fit behind the overlap.
            start = previous;
            continue;
        }
        pieces.push(piece.clone());
        start = match overlap {
            0 => end,
            _ if trimmed(text, end..text.len()).is_empty() => text.len(),
            _ => {
                let first = |places: &[usize]| first_fitting(table, places, &piece, overlap);
                first(&sentences).or_else(|| first(&words)).unwrap_or(end)
            }
        };
    }
}

/// The last of `places` up to which a piece from `start` fits, or a place inside of the word that
/// does not.
fn furthest(table: &TokenTable, places: &[usize], start: usize, room: usize) -> usize {
    let after = &places[places.partition_point(|place| *place <= start)..];
    let fitting = after.partition_point(|end| table.size(&(start..*end)) <= room);
    if fitting > 0 {
        return after[fitting - 1];
    }
    let word_end = after.first().copied().unwrap_or(table.text().len());
    let word = &table.text()[start..word_end];
    let fits = |end: &usize| table.size(&(start..*end)) <= room;
    let last = |places: &mut dyn Iterator<Item = usize>| {
        places.map(|place| start + place).skip(1).take_while(fits).last()
    };
    let first_character = || start + word.chars().next().map_or(word.len(), char::len_utf8);
    last(&mut graphemes(word)).or_else(|| last(&mut characters(word))).unwrap_or_else(first_character)
}

/// The first of `places` inside of `piece` from which the rest of it has at most `overlap` tokens.
fn first_fitting(
    table: &TokenTable,
    places: &[usize],
    piece: &Range<usize>,
    overlap: usize,
) -> Option<usize> {
    let after = &places[places.partition_point(|place| *place <= piece.start)..];
    let first =
        after.partition_point(|start| *start < piece.end && table.size(&(*start..piece.end)) > overlap);
    after.get(first).copied().filter(|start| *start < piece.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table in which each word is a token.
    fn table(text: &str) -> TokenTable<'_> {
        let places = words(text);
        let words = places.windows(2).map(|pair| trimmed(text, pair[0]..pair[1]));
        let tokens: Vec<Range<usize>> = words.filter(|word| !word.is_empty()).collect();
        TokenTable::new(text, &tokens)
    }

    fn pieces(text: &str, room: usize, overlap: usize, beginning: Beginning) -> Vec<&str> {
        fill(&table(text), room, overlap, beginning).into_iter().map(|piece| &text[piece]).collect()
    }

    #[test]
    fn chunks_are_full_and_overlap() {
        let text = " one two three four five six seven ";
        assert_eq!(pieces(text, 3, 0, Beginning::Word), ["one two three", "four five six", "seven"]);
        assert_eq!(
            pieces(text, 3, 1, Beginning::Word),
            ["one two three", "three four five", "five six seven"]
        );
    }

    #[test]
    fn a_sliding_chunk_begins_with_a_sentence() {
        let text = "One two three four. Five six. Seven eight nine. Ten.";
        assert_eq!(
            pieces(text, 7, 3, Beginning::Sentence),
            ["One two three four. Five six. Seven", "Five six. Seven eight nine. Ten."]
        );
        // No sentence begins in the last two tokens.
        assert_eq!(pieces("a b c d e f", 4, 2, Beginning::Sentence), ["a b c d", "c d e f"]);
    }

    #[test]
    fn a_word_that_is_too_large_is_cut() {
        let word = "x".repeat(1000);
        let found = pieces(&word, 8, 0, Beginning::Word);
        assert_eq!(found.concat(), word);
        assert_eq!(found[0].len(), 256);
    }

    #[test]
    fn a_large_word_behind_an_overlap_begins_anew() {
        let text = format!("a b c {}", "y".repeat(256));
        assert_eq!(pieces(&text, 8, 4, Beginning::Word), ["a b c", &text[6..]]);
    }

    #[test]
    fn blank_text_has_no_chunks() {
        assert!(pieces(" \n\t ", 4, 1, Beginning::Sentence).is_empty());
        assert!(pieces("", 4, 0, Beginning::Word).is_empty());
    }
}
