//! The SQL functions that search. Their declarations are in sql/search.sql.

use crate::search::call;
use pgrx::JsonB;
use pgrx::prelude::*;

use crate::kit::arguments::arguments;
use crate::kit::jsonb::{FilterText, JsonbText};
use crate::kit::report::OrReport;
use crate::kit::session;
use crate::search::call::SearchCall;
use crate::search::statistics::{KeywordColumn, refresh};
use crate::types::text_vector::{ScoreCall, Scorer, TsVector};
use crate::types::vector::Vector;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::search::bm25::Bm25;
use vector_tools_core::search::fusion::rrf_score as score_of_rank;
use vector_tools_core::search::request::{check_rrf_k, check_weight};
use vector_tools_core::search::trace::Trace;

arguments! {
    /// What is asked of a search, and of its explanation.
    pub(crate) struct HybridSearch for hybrid_search, explain_search {
        source: Option<pg_sys::Oid>,
        query: Option<String>,
        k: i64 = 10,
        filter: Option<FilterText> = None,
        vector_weight: f64 = 1.0,
        text_weight: f64 = 1.0,
        rrf_k: i64 = 60,
        model: Option<String> = None,
        text_configuration: Option<String> = None,
        vector_column: Option<String> = None,
        text_column: Option<String> = None,
        content_column: Option<String> = None,
        fusion: String = "rrf",
        skip: i64 = 0,
        depth: Option<i64> = None,
        min_similarity: Option<f64> = None,
        diversity: f64 = 0.0,
        r#match: String = "any",
        query_embedding: Option<Vector> = None,
        require_vector: bool = false,
        highlight: bool = false,
        k1: f64 = 1.2,
        b: f64 = 0.75,
        chunks: String = "best",
    }
}

arguments! {
    /// What the BM25 score of a `tsvector` of a table depends on.
    struct Bm25Rank for bm25_rank {
        #[expect(dead_code, reason = "read by ScoreCall, for each row")]
        document: Option<TsVector>,
        query: Option<String>,
        source: Option<pg_sys::Oid>,
        k1: f64 = 1.2,
        b: f64 = 0.75,
        text_column: Option<String> = None,
        text_configuration: Option<String> = None,
    }
}

arguments! {
    /// What the score behind every keyword leg depends on.
    pub(crate) struct Bm25Score for bm25_score {
        #[expect(dead_code, reason = "read by ScoreCall, for each row")]
        document: Option<TsVector>,
        lexemes: Option<Vec<Option<String>>>,
        weights: Option<Vec<Option<f64>>>,
        average_length: Option<f64>,
        k1: Option<f64>,
        b: Option<f64>,
        minimum: Option<i64>,
    }
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of the result")]
fn hybrid_search(
    fcinfo: pg_sys::FunctionCallInfo,
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
        name!(highlight, Option<String>),
    ),
> {
    // Nothing answers no question.
    let hits = match HybridSearch::read(fcinfo).and_then(SearchCall::new).or_report() {
        Some(call) => call.run(&mut Trace::default()).or_report(),
        None => vec![],
    };
    let rank = |rank: Option<usize>| rank.map(|rank| rank as i32);
    TableIterator::new(hits.into_iter().map(move |hit| {
        (
            hit.ranked.key,
            hit.ranked.score,
            rank(hit.ranked.vector_rank),
            rank(hit.ranked.text_rank),
            hit.similarity,
            hit.fetched.measured.text_score,
            hit.fetched.content,
            JsonbText(hit.fetched.document),
            hit.fetched.highlight,
        )
    }))
}

#[pg_extern(sql = false)]
fn explain_search(fcinfo: pg_sys::FunctionCallInfo) -> Option<JsonB> {
    let call = HybridSearch::read(fcinfo).and_then(SearchCall::new).or_report()?;
    let mut trace = Trace::wanted();
    let hits = trace.time("total", |trace| call.run(trace)).or_report();
    trace.note("rows", || hits.len().into());
    Some(JsonB(trace.into_json()))
}

#[pg_extern(sql = false)]
fn refresh_search_stats(source: Option<pg_sys::Oid>, text_column: Option<&str>) -> Option<i64> {
    session::forbid_when_read_only(c"refresh_search_stats");
    Some(call::with_searched_column(source?, text_column, |column| refresh(&column)).or_report())
}

/// The BM25 score of a `tsvector` of a table, for the words of a query.
#[pg_extern(sql = false)]
fn bm25_rank(fcinfo: pg_sys::FunctionCallInfo) -> Option<f64> {
    let scorer = || -> Result<Option<Scorer>> {
        let arguments = Bm25Rank::read(fcinfo)?;
        let (Some(query), Some(source)) = (arguments.query, arguments.source) else {
            return Ok(None);
        };
        let bm25 = Bm25::new(arguments.k1, arguments.b)?;
        let configuration = arguments.text_configuration.as_deref();
        let scorer = |column: KeywordColumn| call::scorer(&column, &query, configuration, bm25);
        call::with_searched_column(source, arguments.text_column.as_deref(), scorer).map(Some)
    };
    ScoreCall(fcinfo).score(scorer).or_report()
}

/// The score behind every keyword leg.
#[pg_extern(sql = false)]
fn bm25_score(fcinfo: pg_sys::FunctionCallInfo) -> Option<f64> {
    ScoreCall(fcinfo).score(|| Bm25Score::read(fcinfo).and_then(call::given_scorer)).or_report()
}

#[pg_extern(sql = false)]
fn rrf_score(rank: i64, k: i64, weight: f64) -> f64 {
    let score = || -> Result<f64> {
        check_rrf_k("k", k)?;
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

const _: () = assert!(vector_tools_core::search::fusion::DEFAULT_RRF_K == 60, "the SQL defaults say 60");
