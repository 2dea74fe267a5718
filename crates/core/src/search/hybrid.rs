//! Hybrid search: both legs, their fusion, and the rows that won.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use crate::embed::Checkpoint;
use crate::error::Result;
use crate::search::bm25_index::Bm25Index;
use crate::search::candidate::{Candidate, Location, RankedRow};
use crate::search::diversity::{Embeddings, diversify};
use crate::search::fusion::{fuse, merge};
use crate::search::keyword_leg::{
    KeywordQuestion, SimilarityFloor, best_rows, indexed_keyword_leg, keyword_leg,
};
use crate::search::leg::push_word_condition;
use crate::search::measure::{Highlight, Measures, fetch_embeddings, fetch_rows, measure_rows, order_rows};
use crate::search::request::{ChunkChoice, MOST_DEPTH};
use crate::search::steps::Steps;
use crate::search::trace::{Trace, passes_json};
use crate::search::vector_leg::{Scan, VectorQuestion, vector_leg};
use crate::search::vector_space::VectorSpace;
use crate::search::{Filter, SearchRequest, SearchSource};
use crate::sql::Statement;

/// A row as [`measure_rows`] reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredRow {
    /// Where the row is.
    pub location: Location,
    /// The distance to the query's embedding, where the row has one.
    pub distance: Option<f64>,
    /// The BM25 score, where the query has any words.
    pub text_score: Option<f64>,
}

/// A row as [`fetch_rows`] reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedRow {
    /// Its place and measures.
    pub measured: MeasuredRow,
    /// The content column.
    pub content: Option<String>,
    /// The whole row as JSON, without its vectors and tsvectors.
    pub document: String,
    /// The content with matched words marked, where that was asked for.
    pub highlight: Option<String>,
}

/// One row of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// Its place and score.
    pub ranked: RankedRow,
    /// Its similarity to the query's embedding.
    pub similarity: Option<f64>,
    /// Its content and measures.
    pub fetched: FetchedRow,
}

/// What the planner expects of a statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Rows.
    pub rows: f64,
    /// Total cost, in the planner's unit.
    pub cost: f64,
    /// The rows of the partitions that it reads, where the table is partitioned and they are known.
    pub partition_rows: Option<f64>,
}

/// Runs the statements of a search. All of them see one snapshot, so that a [`Location`] read by
/// one is good in the next.
pub trait Database {
    /// Runs a leg; `scanned` is how many rows an index should give it at least.
    ///
    /// # Errors
    /// Whatever the database reports.
    fn candidates(&mut self, statement: &Statement, scan: IndexScan) -> Result<Vec<Candidate>>;

    /// Runs [`measure_rows`].
    ///
    /// # Errors
    /// Whatever the database reports.
    fn measures(&mut self, statement: &Statement) -> Result<Vec<MeasuredRow>>;

    /// Runs [`fetch_embeddings`].
    ///
    /// # Errors
    /// Whatever the database reports.
    fn embeddings(&mut self, statement: &Statement) -> Result<Embeddings>;

    /// Runs [`fetch_rows`].
    ///
    /// # Errors
    /// Whatever the database reports.
    fn rows(&mut self, statement: &Statement) -> Result<Vec<FetchedRow>>;

    /// What the planner expects of a statement.
    ///
    /// # Errors
    /// Whatever the database reports.
    fn estimate(&mut self, statement: &Statement) -> Result<Estimate>;

    /// Rows whose BM25 score was computed since the last call.
    fn take_scored(&mut self) -> u64;

    /// Called between pieces of long work; an error ends the search.
    ///
    /// # Errors
    /// Whatever the session was told meanwhile: to cancel, or that time is up.
    fn checkpoint(&mut self) -> Result<()>;
}

/// How an index is scanned for a leg.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IndexScan {
    /// Not by distance.
    Plain,
    /// By distance, until so many rows have passed.
    Nearest {
        /// Rows wanted.
        wanted: usize,
        /// The share of rows that pass.
        selectivity: f64,
    },
}

/// A question, in the forms that the legs need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// Its embedding; `None` leaves the vector leg out.
    pub embedding: Option<Vec<f32>>,
    /// Its words; `None` leaves the keyword leg out.
    pub keywords: Option<KeywordQuestion>,
    /// A `tsquery` that rows of either leg must match.
    pub condition: Option<String>,
}

/// One search, all of its parts checked.
#[derive(Debug)]
pub struct Search<'a> {
    /// The table.
    pub source: &'a SearchSource,
    /// What is asked for.
    pub request: &'a SearchRequest,
    /// Which rows count.
    pub filter: &'a Filter,
    /// The question.
    pub question: &'a Question,
    /// The index of pg_textsearch that serves the keyword leg.
    pub bm25_index: Option<&'a Bm25Index>,
    /// Whether rows are hidden from the caller by policies.
    pub has_hidden_rows: bool,
    /// The number of rows of the table, as far as it is known.
    pub documents: f64,
    /// How matched words are shown, if they are.
    pub highlight: Option<Highlight<'a>>,
    /// What the filter says of the columns by which the table is partitioned.
    pub partitions: Option<&'a Filter>,
}

impl Search<'_> {
    /// Answers the question: at most `request.k` hits, best first, in a total order.
    ///
    /// # Errors
    /// Whatever `database` reports.
    pub fn run(&self, database: &mut dyn Database, trace: &mut Trace) -> Result<Vec<SearchHit>> {
        let matching = trace.time("estimate", |trace| self.estimate_matching(database, trace))?;
        let mut depth = self.request.depth;
        loop {
            let nearest =
                trace.time("vector_leg", |trace| self.find_nearest(database, matching, depth, trace))?;
            let worded =
                trace.time("keyword_leg", |trace| self.find_worded(database, matching, depth, trace))?;
            let is_all = nearest.len() < depth && worded.len() < self.keyword_depth(depth);
            let mut rows = merge(nearest, worded, &mut || database.checkpoint())?;
            if self.has_both_legs() && self.request.fusion.needs_scores() {
                trace.time("completion", |trace| self.complete(database, &mut rows, trace))?;
            }
            let rows = trace.time("fusion", |_| self.rank(database, rows))?;
            // Many chunks of few rows: the legs have to look further for the others.
            if rows.len() < self.request.k && self.joins_chunks() && !is_all && depth < MOST_DEPTH {
                depth = (depth * 4).min(MOST_DEPTH);
                continue;
            }
            return trace.time("fetch", |trace| self.fetch(database, rows, trace));
        }
    }

    /// Whether one row stands for several candidates.
    fn joins_chunks(&self) -> bool {
        self.source.origin.as_ref().is_some_and(|origin| origin.chunks != ChunkChoice::All)
    }

    fn keyword_depth(&self, depth: usize) -> usize {
        if depth == self.request.depth { self.request.keyword_depth() } else { depth }
    }

    fn has_both_legs(&self) -> bool {
        let weights = self.request.weights;
        let is_there = [weights.vector > 0.0, weights.text > 0.0];
        is_there == [true; 2] && self.question.embedding.is_some() && self.question.keywords.is_some()
    }

    fn measures(&self) -> Measures<'_> {
        Measures {
            embedding: self.question.embedding.as_deref(),
            keywords: self.question.keywords.as_ref(),
            index: self.bm25_index,
            partitions: self.partitions,
        }
    }

    /// What the planner expects of the rows that pass the filter, `None` where all rows do.
    fn estimate_matching(&self, database: &mut dyn Database, trace: &mut Trace) -> Result<Option<Estimate>> {
        if self.filter.is_empty() && self.question.condition.is_none() && !self.has_hidden_rows {
            return Ok(None);
        }
        let mut statement = Statement::default();
        statement.push(format_args!("SELECT FROM {} AS t WHERE true", self.source.facts.table));
        self.source.push_filter(self.filter, &mut statement);
        push_word_condition(&mut statement, self.source, self.question.condition.as_deref());
        let estimate = database.estimate(&statement)?;
        trace.note("matching_rows_expected", || json!(estimate.rows));
        Ok(Some(estimate))
    }

    fn selectivity(&self, matching: Option<Estimate>) -> f64 {
        share_of(matching, self.documents)
    }

    fn find_nearest(
        &self,
        database: &mut dyn Database,
        matching: Option<Estimate>,
        depth: usize,
        trace: &mut Trace,
    ) -> Result<Vec<Candidate>> {
        let (Some(embedding), Some(space)) = (&self.question.embedding, &self.source.vectors) else {
            return Ok(vec![]);
        };
        if self.request.weights.vector == 0.0 {
            return Ok(vec![]);
        }
        let least_rows = if depth == self.request.depth { self.request.last_row() } else { depth };
        let question = VectorQuestion { embedding, condition: self.question.condition.as_deref() };
        // An index scan walks the partitions that the filter leaves.
        let walked = matching.and_then(|matching| matching.partition_rows).unwrap_or(self.documents);
        let selectivity = share_of(matching, walked);
        let mut scan = choose_scan(space, depth, matching, selectivity);
        loop {
            let statement = vector_leg(self.source, space, self.filter, &question, depth, scan);
            let index_scan = match scan {
                Scan::Index => IndexScan::Nearest { wanted: space.rows_to_scan(depth), selectivity },
                Scan::Exact => IndexScan::Plain,
            };
            let mut rows = database.candidates(&statement, index_scan)?;
            // An index scan may end early; the exact distances find what it missed.
            if scan == Scan::Index && rows.len() < least_rows {
                scan = Scan::Exact;
                continue;
            }
            database.checkpoint()?;
            for row in &mut rows {
                row.score = space.metric.similarity(row.score);
            }
            if let Some(least) = self.request.min_similarity {
                rows.retain(|row| row.score >= least);
            }
            trace.note("vector_leg", || {
                json!({
                    "sql": statement.text,
                    "scan": if scan == Scan::Index { "index" } else { "exact" },
                    "exact": scan == Scan::Exact,
                    "metric": space.metric.operator(),
                    "rows": rows.len(),
                })
            });
            return Ok(rows);
        }
    }

    fn find_worded(
        &self,
        database: &mut dyn Database,
        matching: Option<Estimate>,
        depth: usize,
        trace: &mut Trace,
    ) -> Result<Vec<Candidate>> {
        let Some(question) = &self.question.keywords else {
            return Ok(vec![]);
        };
        let depth = self.keyword_depth(depth);
        let floor = self.similarity_floor();
        if let Some(index) = self.bm25_index {
            let statement = indexed_keyword_leg(self.source, index, self.filter, question, floor, depth);
            let rows = database.candidates(&statement, IndexScan::Plain)?;
            // Such a scan ends early, too, where few of its rows pass.
            if rows.len() >= self.request.last_row() || matching.is_none() {
                trace.note("keyword_leg", || {
                    json!({ "sql": statement.text, "method": "pg_textsearch", "exact": true, "rows": rows.len() })
                });
                return Ok(rows);
            }
        }
        let Some(lexemes) = &self.source.lexemes else {
            return Ok(vec![]);
        };
        database.take_scored();
        // Where few rows pass, scoring all of them costs less than finding those with the words.
        let selectivity = self.selectivity(matching);
        let by_index = question.index_milliseconds(depth, selectivity);
        if matching.is_some_and(|matching| matching.milliseconds(SCORE_MILLISECONDS) < by_index) {
            let statement = keyword_leg(self.source, lexemes, self.filter, question, None, floor, depth);
            let rows = database.candidates(&statement, IndexScan::Plain)?;
            let scored = database.take_scored();
            trace.note("keyword_leg", || {
                json!({
                    "sql": statement.text,
                    "method": "filter",
                    "exact": true,
                    "theta": 0,
                    "scored": scored,
                    "rows": rows.len(),
                })
            });
            return Ok(rows);
        }
        let leg = |formula: &str| {
            keyword_leg(self.source, lexemes, self.filter, question, Some(formula), floor, depth)
        };
        let (rows, passes) = best_rows(
            question,
            depth,
            selectivity,
            leg,
            |rows| order_rows(self.source, rows, self.partitions),
            database,
        )?;
        trace.note("keyword_leg", || {
            json!({
                "sql": leg("").text,
                "method": "gin",
                "exact": true,
                "theta": passes.last().map(|pass| pass.theta),
                "passes": passes_json(&passes),
                "scored": passes.iter().map(|pass| pass.scored).sum::<u64>(),
                "rows": rows.len(),
            })
        });
        Ok(rows)
    }

    fn similarity_floor(&self) -> Option<SimilarityFloor<'_>> {
        Some(SimilarityFloor {
            space: self.source.vectors.as_ref()?,
            embedding: self.question.embedding.as_deref()?,
            least: self.request.min_similarity?,
        })
    }

    /// Has every row scored by the leg that did not find it.
    fn complete(&self, database: &mut dyn Database, rows: &mut [RankedRow], trace: &mut Trace) -> Result<()> {
        let missing: Vec<Location> =
            rows.iter().filter(|row| !row.is_complete()).map(|row| row.location).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let statement = measure_rows(self.source, &missing, &self.measures());
        let measured = database.measures(&statement)?;
        database.checkpoint()?;
        let measured: HashMap<Location, MeasuredRow> =
            measured.into_iter().map(|row| (row.location, row)).collect();
        let mut checkpoint = || database.checkpoint();
        let mut steps = Steps::new(&mut checkpoint);
        for row in rows {
            steps.step()?;
            if let Some(found) = measured.get(&row.location) {
                row.similarity = row.similarity.or_else(|| self.similarity(found.distance));
                row.text_score = row.text_score.or(found.text_score);
            }
        }
        trace.note("completion", || json!({ "sql": statement.text, "rows": missing.len() }));
        Ok(())
    }

    fn similarity(&self, distance: Option<f64>) -> Option<f64> {
        let metric = self.source.vectors.as_ref()?.metric;
        distance.filter(|distance| !distance.is_nan()).map(|distance| metric.similarity(distance))
    }

    /// Fuses the rows and cuts out those that are asked for.
    fn rank(&self, database: &mut dyn Database, rows: Vec<RankedRow>) -> Result<Vec<RankedRow>> {
        let request = self.request;
        let dimensions = self.question.embedding.as_ref().map_or(0, Vec::len);
        let (fusion, rrf_k, weights) = (request.fusion, request.rrf_k, request.weights);
        let mut rows = fuse(rows, fusion, rrf_k, weights, dimensions, &mut || database.checkpoint())?;
        if self.joins_chunks() {
            rows = best_of_each_row(rows, &mut || database.checkpoint())?;
        }
        if request.diversity > 0.0 {
            rows.truncate(request.depth.max(request.last_row()));
            let embeddings = self.fetch_embeddings(database, &rows)?;
            database.checkpoint()?;
            let (diversity, last) = (request.diversity, request.last_row());
            rows = diversify(rows, embeddings, diversity, last, &mut || database.checkpoint())?;
        }
        Ok(rows.into_iter().skip(request.skip).take(request.k).collect())
    }

    /// The embeddings of rows; the statement, which names each of them, is gone when they are compared.
    fn fetch_embeddings(&self, database: &mut dyn Database, rows: &[RankedRow]) -> Result<Embeddings> {
        let places: Vec<Location> = rows.iter().map(|row| row.location).collect();
        let statement = fetch_embeddings(self.source, &places, self.partitions);
        drop(places);
        database.embeddings(&statement)
    }

    fn fetch(
        &self,
        database: &mut dyn Database,
        ranked: Vec<RankedRow>,
        trace: &mut Trace,
    ) -> Result<Vec<SearchHit>> {
        let places: Vec<Location> = ranked.iter().map(|row| row.location).collect();
        // Without any row too: the statement is where the right to read the table is checked.
        let statement = fetch_rows(self.source, &places, &self.measures(), self.highlight);
        let rows = database.rows(&statement)?;
        trace.note("fetch", || json!({ "sql": statement.text, "rows": rows.len() }));
        let mut rows: HashMap<Location, FetchedRow> =
            rows.into_iter().map(|row| (row.measured.location, row)).collect();
        let hit = |ranked: RankedRow| {
            let fetched = rows.remove(&ranked.location)?;
            let similarity = self.similarity(fetched.measured.distance);
            Some(SearchHit { ranked, similarity, fetched })
        };
        Ok(ranked.into_iter().filter_map(hit).collect())
    }
}

/// Of chunks that are best first, the first one of each row.
fn best_of_each_row(chunks: Vec<RankedRow>, checkpoint: Checkpoint) -> Result<Vec<RankedRow>> {
    let mut steps = Steps::new(checkpoint);
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for chunk in chunks {
        steps.step()?;
        if seen.insert(chunk.key.clone()) {
            rows.push(chunk);
        }
    }
    Ok(rows)
}

/// The share of so many rows that pass.
fn share_of(matching: Option<Estimate>, rows: f64) -> f64 {
    matching.map_or(1.0, |matching| (matching.rows / rows.max(1.0)).clamp(1e-9, 1.0))
}

/// Milliseconds that a scan by distance spends on each row that it gives: measured with a million
/// rows of 384 dimensions, of which only the ratio to the others matters.
const INDEX_MILLISECONDS: f64 = 0.028;

/// Milliseconds that a row costs whose vector is read, from outside of the row, and compared.
const DISTANCE_MILLISECONDS: f64 = 0.0035;

/// Milliseconds that a row costs whose words are read and scored.
const SCORE_MILLISECONDS: f64 = 0.0016;

/// Milliseconds for a unit of the planner's cost, where pages are in memory.
const COST_MILLISECONDS: f64 = 0.0004;

impl Estimate {
    /// The time in which all rows are found, and each costs `row` milliseconds more.
    fn milliseconds(&self, row: f64) -> f64 {
        self.rows * row + self.cost * COST_MILLISECONDS
    }
}

/// Where few rows pass, computing their distances costs less than walking an index past all the
/// others.
fn choose_scan(space: &VectorSpace, depth: usize, matching: Option<Estimate>, selectivity: f64) -> Scan {
    match (&space.index, matching) {
        (None, _) => Scan::Exact,
        (Some(_), None) => Scan::Index,
        (Some(_), Some(matching)) => {
            let by_index = space.rows_to_scan(depth) as f64 / selectivity * INDEX_MILLISECONDS;
            if matching.milliseconds(DISTANCE_MILLISECONDS) < by_index { Scan::Exact } else { Scan::Index }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::source::ColumnKind;
    use crate::search::source::tests::{facts_with, identifier, resolved};
    use crate::search::vector_space::{IndexedForm, Metric, VectorIndex};

    #[test]
    fn few_rows_are_compared_exactly() {
        let mut facts = facts_with(&[("v", ColumnKind::Vector), ("l", ColumnKind::Lexemes)]);
        let column = identifier("v");
        facts.vector_indexes = vec![VectorIndex {
            column,
            form: IndexedForm::Whole,
            metric: Metric::Cosine,
            is_hnsw: true,
            options: vec![],
        }];
        let space = resolved(facts).vectors.expect("a vector column");
        let scan = |rows: f64| {
            let matching = Estimate { rows, cost: rows, partition_rows: None };
            choose_scan(&space, 100, Some(matching), rows / 1e6)
        };
        assert_eq!(scan(1_000.0), Scan::Exact);
        assert_eq!(scan(900_000.0), Scan::Index);
        assert_eq!(choose_scan(&space, 100, None, 1.0), Scan::Index);
    }
}
