//! How a text is cut, and how large its chunks are.

use crate::error::{Error, Result};

/// The tokens of a chunk unless asked otherwise, where the model reads so many.
pub const DEFAULT_MAX_TOKENS: usize = 512;
/// The least tokens of its text that a chunk has room for.
const LEAST_ROOM: usize = 8;

/// Where a text may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Between paragraphs, else lines, sentences, words.
    Semantic,
    /// Between words, chunks as large as they may be.
    Fixed,
    /// Like fixed; each chunk begins with the last sentences of the one before.
    Sliding,
    /// Semantic in two sizes: parents, and children inside of them.
    Hierarchical,
    /// Between the headings and blocks of Markdown.
    Markdown,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 5] =
        [Strategy::Semantic, Strategy::Fixed, Strategy::Sliding, Strategy::Hierarchical, Strategy::Markdown];

    /// The strategy of that name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn from_name(name: &str) -> Result<Strategy> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name).ok_or_else(|| Error::InvalidArgument {
            argument: "strategy",
            expected: format!("one of {}", Self::ALL.map(Strategy::name).join(", ")),
            found: format!("'{name}'"),
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Semantic => "semantic",
            Strategy::Fixed => "fixed",
            Strategy::Sliding => "sliding",
            Strategy::Hierarchical => "hierarchical",
            Strategy::Markdown => "markdown",
        }
    }

    /// The overlap of chunks of so many tokens unless asked otherwise: 64 and 128 tokens of 512.
    fn usual_overlap(self, max_tokens: usize) -> usize {
        match self {
            Strategy::Semantic | Strategy::Hierarchical | Strategy::Markdown => 0,
            Strategy::Fixed => max_tokens / 8,
            Strategy::Sliding => max_tokens / 4,
        }
    }
}

/// How a text shall be cut, as the caller said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub strategy: Strategy,
    /// The most tokens of a chunk, special tokens and prefix included.
    pub max_tokens: Option<i32>,
    /// The most tokens that a chunk has in common with the one before.
    pub overlap: Option<i32>,
}

/// The sizes of chunks in tokens, for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Special tokens and those of the prefix, which every chunk has.
    pub overhead: usize,
    /// The most tokens of a chunk beside these.
    pub room: usize,
    /// The same for the children of a hierarchy.
    pub child_room: usize,
    /// The most tokens that a chunk, of a hierarchy a child, has in common with the one before.
    pub overlap: usize,
}

impl Sizes {
    /// The sizes that `options` ask for of a model that reads `limit` tokens, of which `overhead`
    /// are not the passage's own.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (22023).
    pub fn new(options: &Options, limit: usize, overhead: usize) -> Result<Sizes> {
        let least = overhead + LEAST_ROOM;
        if limit < least {
            return Err(Error::InvalidArgument {
                argument: "model",
                expected: format!("one that reads at least {least} tokens with its prefix"),
                found: format!("one that reads {limit}"),
            });
        }
        let asked =
            match options.max_tokens {
                None => DEFAULT_MAX_TOKENS.max(least),
                Some(tokens) => usize::try_from(tokens).ok().filter(|tokens| *tokens >= least).ok_or_else(
                    || Error::InvalidArgument {
                        argument: "max_tokens",
                        expected: format!(
                            "at least {least}, of which {overhead} are special tokens and the model's prefix"
                        ),
                        found: tokens.to_string(),
                    },
                )?,
            };
        let max_tokens = asked.min(limit);
        let room = max_tokens - overhead;
        let child_room = (room / 4).max(LEAST_ROOM);
        let most = if options.strategy == Strategy::Hierarchical { child_room } else { room } / 2;
        let overlap = match options.overlap {
            None => options.strategy.usual_overlap(max_tokens).min(most),
            Some(tokens) => {
                usize::try_from(tokens).ok().filter(|tokens| *tokens <= most).ok_or_else(|| {
                    Error::InvalidArgument {
                        argument: "overlap",
                        expected: format!("from 0 to {most}, half of what the chunks have room for"),
                        found: tokens.to_string(),
                    }
                })?
            }
        };
        Ok(Sizes { overhead, room, child_room, overlap })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(
        strategy: Strategy,
        max_tokens: Option<i32>,
        overlap: Option<i32>,
        limit: usize,
    ) -> Result<Sizes> {
        Sizes::new(&Options { strategy, max_tokens, overlap }, limit, 2)
    }

    #[test]
    fn defaults_are_those_of_the_regulation_store() {
        let overlaps = [(Strategy::Semantic, 0), (Strategy::Fixed, 64), (Strategy::Sliding, 128)];
        for (strategy, overlap) in overlaps {
            let sizes = sizes(strategy, None, None, 8192).expect("valid");
            assert_eq!((sizes.room + sizes.overhead, sizes.overlap), (512, overlap));
        }
    }

    #[test]
    fn a_model_that_reads_less_makes_smaller_chunks() {
        let sizes = sizes(Strategy::Sliding, Some(512), None, 256).expect("valid");
        assert_eq!((sizes.room, sizes.overlap), (254, 64));
    }

    #[test]
    fn sizes_out_of_range_say_which_are_right() {
        let text = |result: Result<Sizes>| result.expect_err("out of range").to_string();
        assert_eq!(
            text(sizes(Strategy::Semantic, Some(3), None, 256)),
            "max_tokens must be at least 10, of which 2 are special tokens and the model's prefix, not 3"
        );
        assert_eq!(
            text(sizes(Strategy::Fixed, Some(102), Some(51), 256)),
            "overlap must be from 0 to 50, half of what the chunks have room for, not 51"
        );
        assert!(sizes(Strategy::Hierarchical, Some(102), Some(12), 256).is_ok());
        assert!(sizes(Strategy::Hierarchical, Some(102), Some(13), 256).is_err());
        for wrong in [i32::MIN, -1, 0] {
            assert!(sizes(Strategy::Semantic, Some(wrong), None, 256).is_err());
        }
        assert!(sizes(Strategy::Semantic, None, Some(-1), 256).is_err());
        assert!(sizes(Strategy::Semantic, None, None, 9).is_err());
    }

    #[test]
    fn strategies_are_known_by_their_names() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::from_name(strategy.name()), Ok(strategy));
        }
        let error = Strategy::from_name("paragraphs").expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "strategy must be one of semantic, fixed, sliding, hierarchical, markdown, not 'paragraphs'"
        );
    }
}
