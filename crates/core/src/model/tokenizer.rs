//! From text to token ids, bounded in memory however long the text is.
//!
//! sentence-transformers tokenizes a whole text and throws all but the first tokens away. Here a
//! growing window from its beginning is tokenized until it holds enough tokens. A window ends at
//! white space, which tokenizers never look across; only text without any white space is cut
//! elsewhere, and then the tokens near the cut are not used.

use std::ops::Range;
use std::path::Path;

use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::error::{Error, Result};
use crate::model::ModelRecord;
use crate::model::fingerprint::read_with_sha256;
use crate::model::manifest::ModelFiles;

/// Bytes of the first window for each token that is wanted.
const WINDOW_BYTES_PER_TOKEN: usize = 8;
/// Windows grow no further: text that has fewer tokens than wanted in one mebibyte is cut there.
pub const LARGEST_WINDOW: usize = 1 << 20;
/// Tokens next to a cut that may differ from those of the whole text: WordPiece gives at most one
/// token a character to words of up to 100 characters, and one token to longer ones.
const UNCERTAIN_TOKENS: usize = 128;
/// Longer texts are counted piece by piece.
const COUNTED_PIECE: usize = 64 << 10;

/// A model's tokenizer with the model's limit.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    before: Vec<u32>,
    after: Vec<u32>,
    max_tokens: usize,
}

impl TextTokenizer {
    /// Loads a tokenizer from the bytes of `tokenizer.json`. Truncation and padding written there
    /// are left aside: `max_tokens` (special tokens included) is the model's limit.
    ///
    /// # Errors
    /// A sentence saying why the bytes are no usable tokenizer.
    pub fn from_json(json: &[u8], max_tokens: usize) -> std::result::Result<TextTokenizer, String> {
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        // The special tokens around a text are learnt from a text of one token.
        let probe = tokenizer.encode("a", true).map_err(|error| error.to_string())?;
        let is_special = |mask: &u32| *mask == 1;
        let mask = probe.get_special_tokens_mask();
        let leading = mask.iter().take_while(|mask| is_special(mask)).count();
        let trailing = mask[leading..].iter().rev().take_while(|mask| is_special(mask)).count();
        let ids = probe.get_ids();
        if leading + trailing >= max_tokens {
            return Err(format!(
                "its {} special tokens leave no room in {max_tokens} tokens",
                leading + trailing
            ));
        }
        Ok(TextTokenizer {
            before: ids[..leading].to_vec(),
            after: ids[ids.len() - trailing..].to_vec(),
            max_tokens,
            tokenizer,
        })
    }

    /// Loads the tokenizer of a registered model alone from `source`, its resolved path, after
    /// checking that it is the registered one.
    ///
    /// # Errors
    /// Those of finding and reading the file, [`Error::FileChanged`] (XX001) and
    /// [`Error::TokenizerCorrupt`] (22P02).
    pub fn load_registered(record: &ModelRecord, source: &Path) -> Result<TextTokenizer> {
        let path = ModelFiles::locate(source, record.file.as_deref())?.tokenizer;
        let (json, sha256) = read_with_sha256(&path, "tokenizer")?;
        record.check_sha256(&path, &record.tokenizer_sha256, &sha256)?;
        TextTokenizer::from_json(&json, record.settings.max_tokens)
            .map_err(|reason| Error::TokenizerCorrupt { path, reason })
    }

    /// The longest sequence [`encode`](Self::encode) returns, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The token ids of `text` with the special tokens around them, truncated at the model's
    /// limit as sentence-transformers does: white space at both ends is dropped first, and the
    /// special tokens are kept.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000) when the tokenizer cannot handle the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let text = text.trim();
        let wanted = self.max_tokens - self.before.len() - self.after.len();
        let mut window = wanted * WINDOW_BYTES_PER_TOKEN;
        loop {
            let part = leading_part(text, window);
            let encoding = self.tokenize(part)?;
            let ids = encoding.get_ids();
            let complete = part.len() == text.len() || window >= LARGEST_WINDOW;
            if complete || ids.len() >= wanted + UNCERTAIN_TOKENS {
                let kept = &ids[..ids.len().min(wanted)];
                return Ok([&self.before, kept, &self.after].concat());
            }
            window = (window * 4).min(LARGEST_WINDOW);
        }
    }

    /// The number of tokens of `text`, special tokens included, before any truncation. A text of
    /// more than 128 kB is counted in pieces that end at white space.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000) when the tokenizer cannot handle the text, and whatever
    /// `checkpoint`, called before each piece, gives.
    pub fn count(&self, text: &str, checkpoint: &mut dyn FnMut() -> Result<()>) -> Result<usize> {
        let mut count = self.special_tokens();
        for piece in pieces(text) {
            checkpoint()?;
            count += self.count_piece(piece)?;
        }
        Ok(count)
    }

    /// The bytes of `text` that each of its tokens comes from, without special tokens.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000) when the tokenizer cannot handle the text.
    pub fn locate(&self, text: &str) -> Result<Vec<Range<usize>>> {
        let encoding = self.tokenizer.encode(text, false).map_err(failed)?;
        Ok(encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect())
    }

    /// The number of tokens of one of the [`pieces`] of a text, special tokens not counted.
    ///
    /// # Errors
    /// [`Error::InferenceFailed`] (38000) when the tokenizer cannot handle the text.
    pub fn count_piece(&self, piece: &str) -> Result<usize> {
        Ok(self.tokenize(piece)?.len())
    }

    /// The number of special tokens around a text.
    pub fn special_tokens(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Whether a text cut at white space has just the tokens of its parts: BERT's tokenizers look
    /// at one word at a time. Others mark white space in the token that follows it.
    pub fn is_apart_at_white_space(&self) -> bool {
        let added = self.tokenizer.get_added_tokens_decoder();
        matches!(self.tokenizer.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)))
            && matches!(self.tokenizer.get_normalizer(), None | Some(NormalizerWrapper::BertNormalizer(_)))
            && !added.values().any(|token| token.content.contains(char::is_whitespace))
    }

    fn tokenize(&self, text: &str) -> Result<tokenizers::Encoding> {
        self.tokenizer.encode_fast(text, false).map_err(failed)
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::InferenceFailed { reason: error.to_string() }
}

/// The pieces in which the tokens of `text` are counted, each ending at white space where it can.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut size = COUNTED_PIECE;
        let mut piece = if rest.len() <= 2 * COUNTED_PIECE { rest } else { leading_part(rest, size) };
        // A run without white space stays whole as long as memory allows.
        while piece.len() < rest.len()
            && size < LARGEST_WINDOW
            && !rest[piece.len()..].starts_with(char::is_whitespace)
        {
            size *= 2;
            piece = leading_part(rest, size);
        }
        rest = &rest[piece.len()..];
        Some(piece)
    })
}

/// The beginning of `text`, at most `bytes` long, cut before white space where there is any.
fn leading_part(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let part = &text[..text.floor_char_boundary(bytes)];
    match part.rfind(char::is_whitespace) {
        Some(end) if end > 0 => &part[..end],
        _ => part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_at_white_space() {
        assert_eq!(leading_part("one two three", 9), "one two");
        assert_eq!(leading_part("short", 9), "short");
    }

    #[test]
    fn text_without_white_space_is_cut_between_characters() {
        assert_eq!(leading_part("東京都", 4), "東");
        assert_eq!(leading_part(" leading", 4), " lea");
    }
}
