//! Hybrid search: both legs, their fusion, and the rows that won.

use std::collections::HashMap;

use super::candidate::{Candidate, Location, RankedRow};
use super::fetch::fetch_rows;
use super::fusion::fuse_by_rank;
use super::keyword_leg::{any_word_query, keyword_leg};
use super::vector_leg::{Scan, vector_leg};
use super::{Filter, SearchRequest, SearchSource, Statement};
use crate::error::Result;

/// A row as [`fetch_rows`] reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedRow {
    /// Where the row is.
    pub location: Location,
    /// 1 − cosine distance to the query, where the row has an embedding.
    pub similarity: Option<f64>,
    /// The row's `ts_rank`, where the query has any words.
    pub text_score: Option<f64>,
    /// The content column.
    pub content: Option<String>,
    /// The whole row as JSON, without its vector and tsvector.
    pub document: String,
}

/// One row of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// Its place and score.
    pub ranked: RankedRow,
    /// Its content and measures.
    pub fetched: FetchedRow,
}

/// Runs the statements of a search. All of them see one snapshot, so that a [`Location`] read by
/// one is good in the next.
pub trait Database {
    /// Runs a leg.
    ///
    /// # Errors
    /// Whatever the database reports.
    fn candidates(&mut self, statement: &Statement) -> Result<Vec<Candidate>>;

    /// Runs a fetch.
    ///
    /// # Errors
    /// Whatever the database reports.
    fn rows(&mut self, statement: &Statement) -> Result<Vec<FetchedRow>>;
}

/// A question, in both forms that the legs need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// Its embedding; `None` leaves the vector leg out.
    pub embedding: Option<Vec<f32>>,
    /// Its lexemes; none leave the keyword leg out.
    pub lexemes: Vec<String>,
}

/// Answers `question` from the rows of `source` that pass `filter`: at most `request.k` hits,
/// best first, in a total order.
///
/// # Errors
/// Whatever `database` reports.
pub fn hybrid_search(
    database: &mut dyn Database,
    source: &SearchSource,
    request: &SearchRequest,
    filter: &Filter,
    question: &Question,
) -> Result<Vec<SearchHit>> {
    let depth = request.depth();
    let embedding = question.embedding.as_deref();
    let keywords = any_word_query(&question.lexemes);
    let nearest = match embedding {
        Some(embedding) => {
            nearest_rows(database, request, |scan| vector_leg(source, filter, embedding, depth, scan))?
        }
        None => vec![],
    };
    let matching = match &keywords {
        Some(keywords) if request.text_weight > 0.0 => {
            database.candidates(&keyword_leg(source, filter, keywords, depth))?
        }
        _ => vec![],
    };
    let mut ranked =
        fuse_by_rank(nearest, matching, request.rrf_k, request.vector_weight, request.text_weight);
    ranked.truncate(request.k);
    // Without any row too: the statement is where the right to read the table is checked.
    let rows = database.rows(&fetch_rows(source, &ranked, embedding, keywords.as_deref()))?;
    let mut rows: HashMap<Location, FetchedRow> =
        rows.into_iter().map(|row| (row.location.clone(), row)).collect();
    Ok(ranked
        .into_iter()
        .filter_map(|ranked| {
            let fetched = rows.remove(&ranked.location)?;
            Some(SearchHit { ranked, fetched })
        })
        .collect())
}

/// Runs the vector leg; where an index scan ended with fewer rows than were asked for, the exact
/// distances give them, if there are so many.
fn nearest_rows(
    database: &mut dyn Database,
    request: &SearchRequest,
    leg: impl Fn(Scan) -> Statement,
) -> Result<Vec<Candidate>> {
    let nearest = database.candidates(&leg(Scan::Planned))?;
    if nearest.len() < request.k { database.candidates(&leg(Scan::Exact)) } else { Ok(nearest) }
}
