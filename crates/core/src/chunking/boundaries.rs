//! Where Unicode lets a text be cut: between words as they stand on a line, sentences, and what a
//! reader takes for one character.

use std::ops::Range;
use std::sync::LazyLock;

use icu_segmenter::options::{LineBreakOptions, SentenceBreakInvariantOptions};
use icu_segmenter::{
    GraphemeClusterSegmenter, LineSegmenter, LineSegmenterBorrowed, SentenceSegmenter,
    SentenceSegmenterBorrowed,
};

// Dictionaries find the words of scripts that write none apart: Thai, Lao, Khmer, Burmese.
static LINES: LazyLock<LineSegmenterBorrowed<'static>> =
    LazyLock::new(|| LineSegmenter::new_dictionary(LineBreakOptions::default()));
static SENTENCES: LazyLock<SentenceSegmenterBorrowed<'static>> =
    LazyLock::new(|| SentenceSegmenter::new(SentenceBreakInvariantOptions::default()));

/// The places where a line could be broken, both ends of the text included: between words, but not
/// before the punctuation behind one.
pub fn words(text: &str) -> Vec<usize> {
    LINES.segment_str(text).collect()
}

/// The places where sentences begin, and the end of the text. A line break ends a sentence.
pub fn sentences(text: &str) -> Vec<usize> {
    SENTENCES.segment_str(text).collect()
}

/// The places between what a reader takes for one character, both ends of the text included.
pub fn graphemes(text: &str) -> impl Iterator<Item = usize> {
    GraphemeClusterSegmenter::new().segment_str(text)
}

/// The places between characters, both ends of the text included.
pub fn characters(text: &str) -> impl Iterator<Item = usize> {
    text.char_indices().map(|(place, _)| place).chain(std::iter::once(text.len()))
}

/// These bytes of `text` without white space at both ends.
pub fn trimmed(text: &str, bytes: Range<usize>) -> Range<usize> {
    let part = &text[bytes.clone()];
    let start = bytes.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}

/// Where to cut a text in two, as near to its middle as a boundary allows; nowhere when it is one
/// character.
pub fn middle(text: &str) -> Option<usize> {
    let half = text.len() / 2;
    let is_inside = |place: &usize| (1..text.len()).contains(place);
    let nearest = |places: &mut dyn Iterator<Item = usize>| {
        places.filter(is_inside).min_by_key(|place| place.abs_diff(half))
    };
    nearest(&mut words(text).into_iter())
        .or_else(|| nearest(&mut graphemes(text)))
        .or_else(|| nearest(&mut characters(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_scripts_without_spaces_are_found() {
        assert_eq!(words("two words, (or) 3."), [0, 4, 11, 16, 18]);
        assert_eq!(words("中国。"), [0, 3, 9]);
        // Thai for "hello, people".
        let thai = "สวัสดีชาวโลก";
        assert!(words(thai).len() > 2, "{:?}", words(thai));
    }

    #[test]
    fn a_text_is_cut_near_its_middle() {
        assert_eq!(middle("one two"), Some(4));
        assert_eq!(middle("abcd"), Some(2));
        // A family of four is one grapheme of several characters.
        let family = "👨‍👩‍👧‍👦";
        assert_eq!(middle(&format!("{family}{family}")), Some(family.len()));
        assert!(middle(family).is_some_and(|place| family.is_char_boundary(place)));
        assert_eq!(middle("a"), None);
    }

    #[test]
    fn white_space_at_the_ends_is_left_out() {
        assert_eq!(trimmed("a b c ", 1..6), 2..5);
        assert_eq!(trimmed("a  ", 1..3), 3..3);
    }
}
