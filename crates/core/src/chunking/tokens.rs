//! What chunking asks of a model: where the tokens of a text are, and how many a passage has.

use std::ops::Range;

use crate::error::Result;
use crate::model::TextTokenizer;

/// The tokens of a model. Few and large calls, so that a tokenizer in another process can answer
/// them.
pub trait Tokens {
    /// The most tokens that the model reads of a passage, with its special tokens and its prefix.
    fn limit(&self) -> usize;

    /// The bytes of `text` that each token comes from, in order, without special tokens and prefix.
    ///
    /// # Errors
    /// [`crate::error::Error::InferenceFailed`] (38000).
    fn locate(&self, text: &str) -> Result<Vec<Range<usize>>>;

    /// How many tokens the model reads of each passage, with its special tokens and its prefix, if
    /// it were read whole.
    ///
    /// # Errors
    /// [`crate::error::Error::InferenceFailed`] (38000).
    fn count(&self, passages: &[&str]) -> Result<Vec<usize>>;

    /// Whether a text cut at white space has just the tokens of its parts, so that what
    /// [`locate`](Self::locate) has found there need not be counted again.
    fn are_apart_at_white_space(&self) -> bool;
}

/// The tokens of passages by a tokenizer in this process.
pub struct PassageTokens<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a TextTokenizer,
    /// Put before every passage.
    pub prefix: &'a str,
}

impl Tokens for PassageTokens<'_> {
    fn limit(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    fn locate(&self, text: &str) -> Result<Vec<Range<usize>>> {
        self.tokenizer.locate(text)
    }

    fn count(&self, passages: &[&str]) -> Result<Vec<usize>> {
        let count = |passage: &&str| {
            if self.prefix.is_empty() {
                return self.tokenizer.count(passage, &mut || Ok(()));
            }
            self.tokenizer.count(&format!("{}{passage}", self.prefix), &mut || Ok(()))
        };
        passages.iter().map(count).collect()
    }

    fn are_apart_at_white_space(&self) -> bool {
        let prefix_is_apart = self.prefix.is_empty() || self.prefix.ends_with(char::is_whitespace);
        prefix_is_apart && self.tokenizer.is_apart_at_white_space()
    }
}
