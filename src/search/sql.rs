//! The SQL functions that search.

use pgrx::prelude::*;
use pgrx::{JsonB, PgRelation};

use super::fusion::{DEFAULT_RRF_K, rrf_score as score_of_rank};
use super::hybrid::{Question, SearchHit, hybrid_search as hybrid_search_with};
use super::request::{check_rrf_k, check_weight};
use super::source::ColumnChoice;
use super::{Filter, SearchRequest, SearchSource};
use crate::embedding::Purpose;
use crate::embedding::sql::embed_one;
use crate::error::{Error, Result};
use crate::pg::catalog::{generated_configuration, read_table};
use crate::pg::jsonb::JsonbText;
use crate::pg::report::OrReport;
use crate::pg::search_database::{SessionDatabase, lexemes_of};
use crate::pg::settings::default_model;

#[pg_extern(stable, parallel_restricted, cost = 100000)]
#[allow(clippy::too_many_arguments, reason = "named arguments with defaults are the SQL surface")]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn hybrid_search(
    source: Option<PgRelation>,
    query: Option<&str>,
    k: default!(Option<i32>, 10),
    filter: default!(Option<JsonB>, "NULL"),
    vector_weight: default!(Option<f64>, 1.0),
    text_weight: default!(Option<f64>, 1.0),
    rrf_k: default!(Option<i32>, 60),
    model: default!(Option<&str>, "NULL"),
    text_configuration: default!(Option<&str>, "NULL"),
    vector_column: default!(Option<&str>, "NULL"),
    text_column: default!(Option<&str>, "NULL"),
    content_column: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(score, f64),
        name!(vector_rank, Option<i32>),
        name!(text_rank, Option<i32>),
        name!(similarity, Option<f64>),
        name!(text_score, Option<f64>),
        name!(content, Option<String>),
        name!(doc, JsonbText),
    ),
> {
    // NULL stands for the default of an argument, and nothing answers no question.
    let request = SearchRequest::new(
        k.unwrap_or(10),
        rrf_k.unwrap_or(DEFAULT_RRF_K),
        vector_weight.unwrap_or(1.0),
        text_weight.unwrap_or(1.0),
    );
    let choice = ColumnChoice {
        embedding: vector_column.map(str::to_owned),
        lexemes: text_column.map(str::to_owned),
        content: content_column.map(str::to_owned),
    };
    let filter = filter.map(|filter| filter.0.to_string());
    let hits = match (source, query) {
        (Some(source), Some(query)) => request
            .and_then(|request| {
                search(&source, query, &request, filter.as_deref(), model, text_configuration, &choice)
            })
            .or_report(),
        _ => vec![],
    };
    let rank = |rank: Option<usize>| rank.map(|rank| rank as i32);
    TableIterator::new(hits.into_iter().map(move |hit| {
        (
            hit.ranked.key,
            hit.ranked.score,
            rank(hit.ranked.vector_rank),
            rank(hit.ranked.text_rank),
            hit.fetched.similarity,
            hit.fetched.text_score,
            hit.fetched.content,
            JsonbText(hit.fetched.document),
        )
    }))
}

fn search(
    source: &PgRelation,
    query: &str,
    request: &SearchRequest,
    filter: Option<&str>,
    model: Option<&str>,
    text_configuration: Option<&str>,
    choice: &ColumnChoice,
) -> Result<Vec<SearchHit>> {
    let table = SearchSource::resolve(read_table(source)?, choice)?;
    let filter = filter.map_or(Ok(Filter::default()), |filter| Filter::parse(filter, &table))?;
    let embedding = match request.vector_weight > 0.0 {
        true => Some(embed_question(query, &table, model)?),
        false => None,
    };
    let configuration = match text_configuration {
        Some(name) => Some(name.to_owned()),
        None => generated_configuration(source, &table.lexemes.name),
    };
    let lexemes = lexemes_of(query, configuration.as_deref());
    let mut database = SessionDatabase { depth: request.depth() };
    hybrid_search_with(&mut database, &table, request, &filter, &Question { embedding, lexemes })
}

#[pg_extern(immutable, strict, parallel_safe)]
fn rrf_score(rank: i64, k: default!(i32, 60), weight: default!(f64, 1.0)) -> f64 {
    let score = || -> Result<f64> {
        check_rrf_k(k)?;
        check_weight("weight", weight)?;
        if rank < 1 {
            return Err(Error::InvalidArgument {
                argument: "rank",
                expected: "1 or greater".to_owned(),
                found: rank.to_string(),
            });
        }
        Ok(score_of_rank(rank, k, weight))
    };
    score().or_report()
}

const _: () = assert!(DEFAULT_RRF_K == 60, "the SQL defaults say 60");

/// Embeds a question with the model asked for, else the table's own, else the default one.
fn embed_question(query: &str, table: &SearchSource, model: Option<&str>) -> Result<Vec<f32>> {
    let model = match (model, &table.model) {
        (Some(model), _) => model.to_owned(),
        (None, Some(model)) => model.clone(),
        (None, None) => default_model(),
    };
    let embedding = embed_one(query, &model, Purpose::Query)?.0;
    match table.embedding.dimensions {
        Some(expected) if expected != embedding.len() => Err(Error::WrongDimensions {
            expected,
            found: embedding.len(),
            subject: format!(
                "column {} of {} holds other vectors than model \"{model}\" gives",
                table.embedding.name, table.facts.display
            ),
        }),
        _ => Ok(embedding),
    }
}
