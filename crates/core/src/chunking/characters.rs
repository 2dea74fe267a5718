//! From places in bytes to places in characters, which SQL counts in.

use std::ops::Range;

/// Counts the characters of a text up to places that are near to one another.
pub struct Characters<'a> {
    text: &'a str,
    byte: usize,
    character: usize,
}

impl<'a> Characters<'a> {
    /// Begins at the beginning.
    pub fn new(text: &'a str) -> Characters<'a> {
        Characters { text, byte: 0, character: 0 }
    }

    /// The characters at these bytes. What lies between their beginning and that of the last
    /// range is counted.
    pub fn range(&mut self, bytes: &Range<usize>) -> Range<usize> {
        if bytes.start >= self.byte {
            self.character += count(&self.text[self.byte..bytes.start]);
        } else {
            self.character -= count(&self.text[bytes.start..self.byte]);
        }
        self.byte = bytes.start;
        self.character..self.character + count(&self.text[bytes.clone()])
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_both_directions() {
        let text = "äöü東京都x";
        let mut characters = Characters::new(text);
        assert_eq!(characters.range(&(4..9)), 2..4);
        assert_eq!(characters.range(&(15..16)), 6..7);
        assert_eq!(characters.range(&(2..6)), 1..3);
    }
}
