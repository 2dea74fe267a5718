//! The tokens of a text, found once, so that the size of any piece of it is a look-up.

use std::ops::Range;

/// A piece of so many bytes counts as a token at least. Without it white space, and what a
/// tokenizer has but one token for, such as a word of a thousand characters, would weigh nothing
/// and make chunks without bound. No script comes near to it with a tokenizer that knows it.
const BYTES_PER_TOKEN: usize = 32;

/// Where the tokens of a text are.
pub struct TokenTable<'a> {
    text: &'a str,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl<'a> TokenTable<'a> {
    /// The table of `text` from the bytes that its tokens come from.
    pub fn new(text: &'a str, tokens: &[Range<usize>]) -> TokenTable<'a> {
        // Tokenizers may report tokens out of order, where a normaliser reorders characters.
        let (mut start, mut end) = (0, 0);
        let mut table = TokenTable {
            text,
            starts: Vec::with_capacity(tokens.len()),
            ends: Vec::with_capacity(tokens.len()),
        };
        for token in tokens {
            start = start.max(token.start);
            end = end.max(token.end).max(start);
            table.starts.push(start);
            table.ends.push(end);
        }
        table
    }

    /// The text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// How many tokens come, all or in part, from these bytes.
    pub fn count(&self, bytes: &Range<usize>) -> usize {
        let begun = self.starts.partition_point(|start| *start < bytes.end);
        begun.saturating_sub(self.ends.partition_point(|end| *end <= bytes.start))
    }

    /// How much of a chunk these bytes take, in tokens.
    pub fn size(&self, bytes: &Range<usize>) -> usize {
        self.count(bytes).max(bytes.len().div_ceil(BYTES_PER_TOKEN))
    }
}

/// Where `part` is in `text`, of which it is a slice.
pub fn place_in(text: &str, part: &str) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_the_tokens_that_touch_them() {
        let table = TokenTable::new("one two three", &[0..3, 4..7, 8..10, 10..13]);
        assert_eq!(table.count(&(0..13)), 4);
        assert_eq!(table.count(&(3..8)), 1);
        assert_eq!(table.count(&(5..9)), 2);
        assert_eq!(table.count(&(7..8)), 0);
        assert_eq!(place_in(table.text(), &table.text()[8..]), Some(8..13));
    }

    #[test]
    fn what_has_no_tokens_is_not_free() {
        let spaces = " ".repeat(10 * BYTES_PER_TOKEN);
        assert_eq!(TokenTable::new(&spaces, &[]).size(&(0..spaces.len())), 10);
    }

    #[test]
    fn tokens_out_of_order_are_counted() {
        let table = TokenTable::new("abcdef", &[2..4, 0..2, 4..4, 4..6]);
        assert_eq!(table.count(&(0..6)), 4);
    }
}
