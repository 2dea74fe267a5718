//! The keyword leg: the rows with the highest BM25 scores, exactly, from an ordinary GIN index.
//!
//! 1. Guess a threshold that a few rows more than are wanted should reach.
//! 2. Run the statement whose `tsquery` rules out what cannot reach it (see `threshold`), and what
//!    was scored before, with the scores of what is left.
//! 3. Where the worst row of a full list reaches the threshold, no other row can displace it: done.
//!    Else that row's score is the next threshold. Where that would leave many rows, or the list
//!    was not full, the same is done once more with a few rows more, for a better one.

use std::collections::{HashMap, HashSet};

use crate::embed::Checkpoint;
use crate::error::Result;
use crate::search::bm25::{Bm25, Collection, QueryWord};
use crate::search::bm25_index::Bm25Index;
use crate::search::candidate::{Candidate, Location};
use crate::search::hybrid::{Database, IndexScan};
use crate::search::leg::{RowColumns, push_word_condition};
use crate::search::lexemes::MOST_TSQUERY_BYTES;
use crate::search::source::Column;
use crate::search::steps::{Steps, sorted};
use crate::search::threshold::{Expectation, Formula, share_looked_at};
use crate::search::vector_space::VectorSpace;
use crate::search::{Filter, SearchSource};
use crate::sql::{Parameter, Statement};

/// What the keyword leg looks for.
#[derive(Debug, Clone, PartialEq)]
pub struct KeywordQuestion {
    /// The words that score, the greatest weight first.
    pub words: Vec<QueryWord>,
    /// For each word, the share of documents that have it.
    pub shares: Vec<f64>,
    /// The collection that the weights are from.
    pub collection: Collection,
    /// The parameters of the scores.
    pub bm25: Bm25,
    /// How many of the words a row must have, at least 1.
    pub minimum: usize,
    /// A `tsquery` that rows must match.
    pub condition: Option<String>,
    /// The words as they were typed, for an index that reads text.
    pub text: String,
}

/// The least similarity of a row, for the statements of the keyword leg.
#[derive(Debug, Clone, Copy)]
pub struct SimilarityFloor<'a> {
    /// The column that is compared.
    pub space: &'a VectorSpace,
    /// The query's embedding.
    pub embedding: &'a [f32],
    /// The least similarity.
    pub least: f64,
}

/// One run of the statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// The threshold.
    pub theta: f64,
    /// The `tsquery`.
    pub formula: String,
    /// The rows that were scored.
    pub scored: u64,
    /// The rows in its list.
    pub rows: usize,
}

/// Rows that the first pass may score for each row wanted: few, to learn a threshold cheaply.
const FIRST_ROWS: f64 = 2.0;

/// Where the threshold that was learnt leaves more rows than this for each row wanted, another pass
/// of a few rows first looks for a better one.
const MANY_ROWS: f64 = 100.0;

/// How many times more rows a pass may score than the one before.
const GROWTH: f64 = 5.0;

/// So few rows are scored at once rather than after a guess.
const FEW_ROWS: f64 = 1000.0;

impl KeywordQuestion {
    /// Upper bounds of the words, the greatest first.
    fn bounds(&self) -> Vec<f64> {
        self.words.iter().map(|word| self.bm25.upper_bound(word)).collect()
    }

    /// True of the rows that can reach `theta` and have enough of the words, where `selectivity` is
    /// the share of rows that the filter keeps.
    fn formula(&self, theta: f64, selectivity: f64) -> Formula {
        let documents = (self.collection.documents, self.collection.documents * selectivity);
        let reaching = Formula::worth_reaching(&self.bounds(), &self.shares, documents, theta);
        let formula = match self.minimum {
            0 | 1 => reaching,
            minimum => Formula::All(vec![Formula::at_least(minimum, self.words.len()), reaching]),
        };
        // A formula may have a word several times, and words of two kilobytes are words, too.
        let is_small = formula.bytes(&self.lexemes()) <= MOST_TSQUERY_BYTES;
        if is_small { formula } else { Formula::any_of(self.words.len()) }
    }

    fn lexemes(&self) -> Vec<&str> {
        self.words.iter().map(|word| word.lexeme.as_str()).collect()
    }

    fn to_tsquery(&self, formula: &Formula) -> String {
        formula.to_tsquery(&self.lexemes()).unwrap_or_default()
    }
}

/// Milliseconds that an index spends, in all passes, on each row that has a word without which no
/// others are enough. Measured on a million documents, where single questions took a third of it to
/// three times as long.
const POSTING_MILLISECONDS: f64 = 0.0004;

/// Milliseconds for each document, whatever the words.
const DOCUMENT_MILLISECONDS: f64 = 0.00001;

impl KeywordQuestion {
    /// Milliseconds that an index is expected to take for the `depth` best rows, where `selectivity`
    /// is the share of rows that the filter keeps.
    pub fn index_milliseconds(&self, depth: usize, selectivity: f64) -> f64 {
        let documents = self.collection.documents;
        let expected = Expectation::new(&self.bounds(), &self.shares, documents * selectivity);
        let theta = expected.threshold_for(FIRST_ROWS * depth as f64);
        let postings = documents * share_looked_at(&self.bounds(), &self.shares, theta);
        postings * POSTING_MILLISECONDS + documents * DOCUMENT_MILLISECONDS
    }
}

/// Finds the `depth` rows with the highest scores, best first, equal ones by key. The statements have
/// columns (tableoid, ctid, key as text, score): that of `statement` for a `tsquery`, and that of
/// `in_key_order` for rows that are to be put in the order of their keys; `selectivity`
/// is the share of rows that the filter keeps, as far as it is known.
///
/// # Errors
/// Those of `database`.
pub fn best_rows(
    question: &KeywordQuestion,
    depth: usize,
    selectivity: f64,
    statement: impl Fn(&str) -> Statement,
    in_key_order: impl Fn(&[Location]) -> Statement,
    database: &mut dyn Database,
) -> Result<(Vec<Candidate>, Vec<Pass>)> {
    let documents = question.collection.documents * selectivity;
    let expected = Expectation::new(&question.bounds(), &question.shares, documents);
    let mut wanted = FIRST_ROWS * depth as f64;
    let is_little = expected.matching() <= FEW_ROWS.max(wanted);
    let mut theta = if is_little { 0.0 } else { expected.threshold_for(wanted) };
    let mut formula = question.formula(theta, selectivity);
    let mut passes = Vec::new();
    let mut scored = Formula::Never;
    let mut rows = Vec::new();
    loop {
        // Rows of an earlier pass have their score, and those that matter are in the list.
        let beyond = formula.beyond(&scored);
        if beyond != Formula::Never {
            let text = question.to_tsquery(&beyond);
            let found = database.candidates(&statement(&text), IndexScan::Plain)?;
            passes.push(Pass { theta, formula: text, scored: database.take_scored(), rows: found.len() });
            let found = rows_beside(&rows, found, &mut || database.checkpoint())?;
            let tied = rows_that_tie(&rows, &found);
            database.checkpoint()?;
            // Only the database knows the order of keys.
            let order = match tied.is_empty() {
                true => vec![],
                false => database.candidates(&in_key_order(&tied), IndexScan::Plain)?,
            };
            rows = merge_best(rows, found, &order, depth, &mut || database.checkpoint())?;
        }
        scored = formula.clone();
        let least_score = rows.last().filter(|_| rows.len() == depth).map(|row| row.score);
        // No score below this one is among the best.
        let floor = match least_score {
            Some(least) if least >= theta => return Ok((rows, passes)),
            None if theta == 0.0 => return Ok((rows, passes)),
            least => least.unwrap_or(0.0),
        };
        // Thresholds between the same two sums of bounds rule out the same rows.
        let last = question.formula(floor, selectivity);
        if last == formula {
            return Ok((rows, passes));
        }
        wanted *= GROWTH;
        let guess = expected.threshold_for(wanted);
        let is_second = passes.len() == 1 || least_score.is_none();
        let is_worth_it =
            is_second && expected.at(floor) > MANY_ROWS * depth as f64 && (floor..theta).contains(&guess);
        (theta, formula) =
            if is_worth_it { (guess, question.formula(guess, selectivity)) } else { (floor, last) };
    }
}

/// The rows of `found` that are not among the known ones.
fn rows_beside(known: &[Candidate], found: Vec<Candidate>, checkpoint: Checkpoint) -> Result<Vec<Candidate>> {
    if known.is_empty() {
        return Ok(found);
    }
    let mut steps = Steps::new(checkpoint);
    let known: HashSet<Location> = known.iter().map(|row| row.location).collect();
    let mut rows = Vec::with_capacity(found.len());
    for row in found {
        steps.step()?;
        if !known.contains(&row.location) {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The rows of both lists whose score a row of the other list has, too.
fn rows_that_tie(known: &[Candidate], found: &[Candidate]) -> Vec<Location> {
    let scores = |rows: &[Candidate]| rows.iter().map(|row| row.score.to_bits()).collect::<HashSet<u64>>();
    let shared: HashSet<u64> = scores(known).intersection(&scores(found)).copied().collect();
    let tied = known.iter().chain(found).filter(|row| shared.contains(&row.score.to_bits()));
    tied.map(|row| row.location).collect()
}

/// The best rows of two lists; equal ones in `order`, where it has them, else as they come.
fn merge_best(
    known: Vec<Candidate>,
    found: Vec<Candidate>,
    order: &[Candidate],
    depth: usize,
    checkpoint: Checkpoint,
) -> Result<Vec<Candidate>> {
    let order: HashMap<Location, usize> =
        order.iter().enumerate().map(|(place, row)| (row.location, place)).collect();
    let best_first = |a: &Candidate, b: &Candidate| {
        b.score.total_cmp(&a.score).then_with(|| order.get(&a.location).cmp(&order.get(&b.location)))
    };
    let mut rows = sorted(known.into_iter().chain(found).collect(), best_first, checkpoint)?;
    rows.truncate(depth);
    Ok(rows)
}

/// The statement that scores the rows which match `formula`, best first; without one, all rows that
/// pass the filter.
pub fn keyword_leg(
    source: &SearchSource,
    lexemes: &Column,
    filter: &Filter,
    question: &KeywordQuestion,
    formula: Option<&str>,
    floor: Option<SimilarityFloor>,
    depth: usize,
) -> Statement {
    let mut statement = Statement::default();
    let score = score_expression(&mut statement, lexemes, question, question.minimum);
    let matching = match formula {
        Some(formula) => {
            let formula = statement.bind(Parameter::Text(formula.to_owned()));
            format!("t.{} OPERATOR(pg_catalog.@@) {formula}::pg_catalog.tsquery", lexemes.name)
        }
        None => format!("t.{} IS NOT NULL", lexemes.name),
    };
    push_leg(&mut statement, source, filter, question, floor, &score, &matching, None, depth);
    statement
}

/// The statement that asks an index of pg_textsearch.
pub fn indexed_keyword_leg(
    source: &SearchSource,
    index: &Bm25Index,
    filter: &Filter,
    question: &KeywordQuestion,
    floor: Option<SimilarityFloor>,
    depth: usize,
) -> Statement {
    let mut statement = Statement::default();
    let query = statement.bind(Parameter::Text(question.text.clone()));
    let matching = format!("t.{} IS NOT NULL", index.column);
    let (score, distance) = (index.score(&query), index.distance(&query));
    push_leg(&mut statement, source, filter, question, floor, &score, &matching, Some(&distance), depth);
    statement
}

#[allow(clippy::too_many_arguments, reason = "the parts of one statement")]
fn push_leg(
    statement: &mut Statement,
    source: &SearchSource,
    filter: &Filter,
    question: &KeywordQuestion,
    floor: Option<SimilarityFloor>,
    score: &str,
    matching: &str,
    index_order: Option<&str>,
    depth: usize,
) {
    let columns = RowColumns::of(source);
    statement.depends_on_values = !filter.is_empty() || question.condition.is_some();
    let limit = statement.bind(Parameter::Integer(depth as i64));
    statement.push(format_args!(
        "SELECT leg.place, leg.row, {key}, leg.score FROM (\
         SELECT {selected}, {score} AS score FROM {table} AS t WHERE {matching}",
        key = columns.outer_key(source),
        selected = columns.selected(),
        table = source.facts.table,
    ));
    source.push_filter(filter, statement);
    push_word_condition(statement, source, question.condition.as_deref());
    if let Some(floor) = floor {
        let query = statement.bind(Parameter::Vector(floor.embedding.to_vec()));
        let distance = floor.space.distance(&floor.space.query(&query));
        let most = floor.space.metric.distance_at(floor.least).unwrap_or(f64::NEG_INFINITY);
        let most = statement.bind(Parameter::Number(most));
        statement.push(format_args!(" AND ({distance}) OPERATOR(pg_catalog.<=) {most}"));
    }
    match index_order {
        Some(distance) => statement.push(format_args!(" ORDER BY {distance} LIMIT {limit}")),
        None => {
            statement.push(format_args!(" ORDER BY score DESC NULLS LAST, {} LIMIT {limit}", columns.order()))
        }
    };
    statement.push(format_args!(
        ") AS leg WHERE leg.score OPERATOR(pg_catalog.>) 0 ORDER BY leg.score DESC, {}",
        columns.outer_order()
    ));
}

/// SQL for the BM25 score of the row `t`; NULL where it has fewer than `minimum` of the words.
pub fn score_expression(
    statement: &mut Statement,
    lexemes: &Column,
    question: &KeywordQuestion,
    minimum: usize,
) -> String {
    let words = question.words.iter().map(|word| word.lexeme.clone()).collect();
    let words = statement.bind(Parameter::Texts(words));
    let weights = question.words.iter().map(|word| word.weight).collect();
    let weights = statement.bind(Parameter::Numbers(weights));
    let average = statement.bind(Parameter::Number(question.collection.average_length));
    let k1 = statement.bind(Parameter::Number(question.bm25.k1));
    let b = statement.bind(Parameter::Number(question.bm25.b));
    let minimum = statement.bind(Parameter::Integer(minimum as i64));
    format!(
        "vector_tools.bm25_score(t.{}, {words}, {weights}, {average}, {k1}, {b}, {minimum})",
        lexemes.name
    )
}
