//! The SQL functions that search. Their declarations are in sql/35_search.sql.

pub(crate) mod call;

use pgrx::JsonB;
use pgrx::prelude::*;

use self::call::SearchCall;
use super::bm25::Bm25;
use super::fusion::rrf_score as score_of_rank;
use super::request::{check_rrf_k, check_weight};
use super::trace::Trace;
use crate::error::{Error, Result};
use crate::pg::arguments::Arguments;
use crate::pg::jsonb::JsonbText;
use crate::pg::report::OrReport;
use crate::pg::session;
use crate::pg::statistics::{SearchedColumn, refresh};
use crate::pg::text_vector::{ScoreCall, Scorer};

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
    let hits = match read_search(fcinfo) {
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
    let call = read_search(fcinfo)?;
    let mut trace = Trace::wanted();
    let hits = trace.time("total", |trace| call.run(trace)).or_report();
    trace.note("rows", || hits.len().into());
    Some(JsonB(trace.into_json()))
}

fn read_search(fcinfo: pg_sys::FunctionCallInfo) -> Option<SearchCall> {
    Arguments(fcinfo).checked(24).and_then(SearchCall::read).or_report()
}

#[pg_extern(sql = false)]
fn refresh_search_stats(source: Option<pg_sys::Oid>, text_column: Option<&str>) -> Option<i64> {
    session::forbid_when_read_only(c"refresh_search_stats");
    Some(call::with_searched_column(source?, text_column, |column| refresh(&column)).or_report())
}

/// The BM25 score of a `tsvector` of a table, for the words of a query: (document, query, source,
/// k1, b, text_column, text_configuration).
#[pg_extern(sql = false)]
fn bm25_rank(fcinfo: pg_sys::FunctionCallInfo) -> Option<f64> {
    let arguments = Arguments(fcinfo).checked(7).or_report();
    let scorer = || -> Result<Option<Scorer>> {
        let (Some(query), Some(source)) = (arguments.get::<String>(1), arguments.get::<pg_sys::Oid>(2))
        else {
            return Ok(None);
        };
        let default = Bm25::default();
        let k1 = arguments.get(3).unwrap_or(default.k1);
        let bm25 = Bm25::new(k1, arguments.get(4).unwrap_or(default.b))?;
        let (column, configuration) = (arguments.get::<String>(5), arguments.get::<String>(6));
        let scorer = |column: SearchedColumn| call::scorer(&column, &query, configuration.as_deref(), bm25);
        call::with_searched_column(source, column.as_deref(), scorer).map(Some)
    };
    ScoreCall(fcinfo).score(scorer).or_report()
}

/// The score behind every keyword leg: (document, lexemes, weights, average length, k1, b, minimum
/// of words).
#[pg_extern(sql = false)]
fn bm25_score(fcinfo: pg_sys::FunctionCallInfo) -> Option<f64> {
    let arguments = Arguments(fcinfo).checked(7).or_report();
    ScoreCall(fcinfo).score(|| call::given_scorer(arguments)).or_report()
}

#[pg_extern(sql = false)]
fn rrf_score(rank: i64, k: i32, weight: f64) -> f64 {
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

const _: () = assert!(super::fusion::DEFAULT_RRF_K == 60, "the SQL defaults say 60");
