//! The SQL function that cuts texts. Its declaration is in sql/chunking.sql.

use pgrx::prelude::*;

use crate::embed::embedders::passage_tokenizer;
use crate::kit::report::OrReport;
use crate::kit::waiting::checkpoint;
use crate::settings::default_model;
use vector_tools_core::chunking::{Chunk, Options, PassageTokens, Strategy, chunk};
use vector_tools_core::error::{Error, Result};

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn chunk_text(
    content: Option<String>,
    strategy: Option<&str>,
    max_tokens: Option<i64>,
    overlap: Option<i64>,
    model: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(chunk_index, i32),
        name!(content, String),
        name!(start_offset, i32),
        name!(end_offset, i32),
        name!(token_count, i32),
        name!(parent_index, Option<i32>),
    ),
> {
    let content = content.unwrap_or_default();
    let model = model.map_or_else(default_model, str::to_owned);
    let cut = || chunks(&content, &read_options(strategy, max_tokens, overlap)?, &model);
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let chunks = cut().or_report();
    TableIterator::new(chunks.into_iter().enumerate().map(move |(place, chunk)| {
        (
            number(place),
            content[chunk.bytes].to_owned(),
            number(chunk.characters.start),
            number(chunk.characters.end),
            number(chunk.tokens),
            chunk.parent.map(number),
        )
    }))
}

/// How a text shall be cut; NULL stands for the default.
///
/// # Errors
/// Those of [`Strategy::from_name`], and [`Error::InvalidArgument`] (22023) for a number beyond all texts.
pub fn read_options(
    strategy: Option<&str>,
    max_tokens: Option<i64>,
    overlap: Option<i64>,
) -> Result<Options> {
    let strategy = strategy.map_or(Ok(Strategy::Semantic), Strategy::from_name)?;
    let size = |argument: &'static str, size: Option<i64>| {
        size.map(|size| {
            i32::try_from(size).map_err(|_| Error::InvalidArgument {
                argument,
                expected: format!("between 0 and {}", i32::MAX),
                found: size.to_string(),
            })
        })
        .transpose()
    };
    let (max_tokens, overlap) = (size("max_tokens", max_tokens)?, size("overlap", overlap)?);
    Ok(Options { strategy, max_tokens, overlap })
}

/// The chunks of a text for a registered model. Can be cancelled.
///
/// # Errors
/// Those of [`passage_tokenizer`] and of [`chunk`].
pub fn chunks(content: &str, options: &Options, model: &str) -> Result<Vec<Chunk>> {
    let (tokenizer, prefix) = passage_tokenizer(model)?;
    let tokens = PassageTokens { tokenizer: &tokenizer, prefix: &prefix };
    chunk(content, options, &tokens, &mut checkpoint)
}
