//! What BM25 needs to know of a collection: how many documents, how long, and how many of them have
//! a word.
//!
//! A snapshot of it is kept for large tables (`vector_tools.statistics_snapshots` and
//! `document_frequencies`) and renewed when a tenth of the table has changed. Where there is none,
//! a small table is counted, and a large one estimated from what ANALYZE knows and from probes of
//! the index.
//!
//! Scores tell of frequencies, so a snapshot, which counts all rows, serves only callers who may
//! see all rows. For those from whom policies hide some, everything is counted or estimated with
//! their own rights.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::time::{Duration, Instant};

use pgrx::{PgRelation, pg_sys};

use crate::kit::rights;
use crate::kit::rights::with_rights_of_state;
use crate::kit::{catalog, spi};
use crate::search::statistics_worker;
use crate::settings;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::search::TableFacts;
use vector_tools_core::search::bm25::Collection;
use vector_tools_core::search::source::Column;
use vector_tools_core::search::text_vector::TextVector;
use vector_tools_core::search::threshold::quote_lexeme;
use vector_tools_core::sql::{Parameter, Statement};

const SNAPSHOTS: &CStr = c"statistics_snapshots";

/// A table and its tsvector column.
pub struct KeywordColumn<'a> {
    /// The open table.
    pub relation: &'a PgRelation,
    /// What the catalogue says of it.
    pub facts: &'a TableFacts,
    /// The column.
    pub column: &'a Column,
}

/// What a search needs to know, with where it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct WordStatistics {
    /// The collection.
    pub collection: Collection,
    /// For each word, the number of documents that have it.
    pub frequencies: Vec<f64>,
    /// How it was found.
    pub origin: Origin,
}

/// Where statistics are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The snapshot.
    Snapshot,
    /// All documents were read.
    Count,
    /// ANALYZE, probes of the index, and a sample.
    Estimate,
}

impl Origin {
    /// The name in `explain_search`.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Snapshot => "snapshot",
            Origin::Count => "count",
            Origin::Estimate => "estimate",
        }
    }
}

/// Tables of so few pages are counted rather than estimated.
const COUNTED_PAGES: u32 = 256;

/// Documents read to estimate what is not known otherwise.
const SAMPLED_DOCUMENTS: f64 = 1000.0;

/// Rows of an index that are looked at to count a rare word.
const PROBED_ROWS: i64 = 1000;

/// A table without a snapshot gets one from so many documents on.
const SNAPSHOT_DOCUMENTS: f64 = 1000.0;

/// How often a session looks whether a snapshot is outdated, and how long it gives a worker.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const WORKER_INTERVAL: Duration = Duration::from_secs(60);

/// What is stored for a word that only one document has: nothing. Most words of a collection are
/// such words.
const UNSTORED_FREQUENCY: i64 = 1;

thread_local! {
    /// When to look next.
    static NEXT_CHECK: RefCell<HashMap<(pg_sys::Oid, i16), Instant>> = RefCell::default();
}

struct Snapshot {
    collection: Collection,
    changes: i64,
    pages: i64,
}

impl KeywordColumn<'_> {
    fn number(&self) -> i16 {
        let name = self.column.name.as_str();
        let found =
            self.relation.tuple_desc().iter().find(|attribute| attribute.name() == name).map(|a| a.attnum);
        found.unwrap_or(0)
    }

    fn key(&self, statement: &mut Statement) -> (String, String) {
        let table = statement.bind(Parameter::Oid(self.relation.oid().to_u32()));
        let column = statement.bind(Parameter::Integer(i64::from(self.number())));
        (table, format!("{column}::pg_catalog.int2"))
    }
}

/// What a search for `lexemes` needs to know.
///
/// # Errors
/// Whatever reading the table raises for the caller.
pub fn word_statistics(source: &KeywordColumn, lexemes: &[String]) -> Result<WordStatistics> {
    let may_use_snapshot =
        !catalog::has_hidden_rows(source.relation) && rights::may_read(source.relation, source.number());
    let snapshot = if may_use_snapshot { read_snapshot(source) } else { None };
    // A worker cannot read the temporary table of a session.
    if may_use_snapshot && !catalog::is_temporary(source.relation) {
        renew_if_outdated(source, snapshot.as_ref());
    }
    if let Some(snapshot) = snapshot {
        let frequencies = stored_frequencies(source, lexemes);
        return Ok(WordStatistics { collection: snapshot.collection, frequencies, origin: Origin::Snapshot });
    }
    if pages_of(source.relation).is_some_and(|pages| pages <= COUNTED_PAGES) {
        return Ok(count_documents(source, lexemes));
    }
    Ok(estimate_documents(source, lexemes))
}

fn read_snapshot(source: &KeywordColumn) -> Option<Snapshot> {
    let mut statement = Statement::default();
    let (table, column) = source.key(&mut statement);
    statement.push(format_args!(
        "SELECT s.documents::pg_catalog.float8, s.average_length, s.changes, s.pages \
         FROM vector_tools.statistics_snapshots AS s \
         WHERE s.source OPERATOR(pg_catalog.=) {table} AND s.column_number OPERATOR(pg_catalog.=) {column}"
    ));
    let found = with_rights_of_state(SNAPSHOTS, || {
        spi::query(&statement, |row| {
            Some(Snapshot {
                collection: Collection { documents: row.get(1)?, average_length: row.get(2)? },
                changes: row.get(3)?,
                pages: row.get(4)?,
            })
        })
    });
    found.into_iter().flatten().next()
}

fn stored_frequencies(source: &KeywordColumn, lexemes: &[String]) -> Vec<f64> {
    let mut statement = Statement::default();
    let (table, column) = source.key(&mut statement);
    let wanted = statement.bind(Parameter::Texts(lexemes.to_vec()));
    statement.push(format_args!(
        "SELECT f.lexeme, f.documents FROM vector_tools.document_frequencies AS f \
         WHERE f.source OPERATOR(pg_catalog.=) {table} AND f.column_number OPERATOR(pg_catalog.=) {column} \
         AND f.lexeme OPERATOR(pg_catalog.=) ANY ({wanted})"
    ));
    let found: HashMap<String, i64> =
        with_rights_of_state(SNAPSHOTS, || spi::query(&statement, |row| Some((row.get(1)?, row.get(2)?))))
            .into_iter()
            .flatten()
            .collect();
    lexemes.iter().map(|lexeme| *found.get(lexeme).unwrap_or(&UNSTORED_FREQUENCY) as f64).collect()
}

/// The documents of a table: every `tsvector` that is not NULL.
fn documents_of(source: &KeywordColumn) -> Statement {
    let mut statement = Statement::default();
    let (table, column) = (&source.facts.table, &source.column.name);
    statement.push(format_args!("SELECT t.{column} FROM {table} AS t WHERE t.{column} IS NOT NULL"));
    statement
}

fn count_documents(source: &KeywordColumn, lexemes: &[String]) -> WordStatistics {
    let mut counts = Counts::new(lexemes);
    spi::for_each(&documents_of(source), |row| counts.add(row));
    let collection = Collection { documents: counts.documents, average_length: counts.average_length() };
    WordStatistics { collection, frequencies: counts.frequencies, origin: Origin::Count }
}

fn estimate_documents(source: &KeywordColumn, lexemes: &[String]) -> WordStatistics {
    let (documents, ..) = spi::estimate(&documents_of(source));
    let documents = documents.max(1.0);
    let mut sample = Counts::new(lexemes);
    let mut statement = Statement::default();
    let percent = (100.0 * SAMPLED_DOCUMENTS / documents).min(100.0);
    let percent = statement.bind(Parameter::Number(percent));
    let (table, column) = (&source.facts.table, &source.column.name);
    statement.push(format_args!(
        "SELECT t.{column} FROM {table} AS t TABLESAMPLE system ({percent}) REPEATABLE (0) \
         WHERE t.{column} IS NOT NULL"
    ));
    spi::for_each(&statement, |row| sample.add(row));
    let analyzed = analyzed_frequencies(source, lexemes);
    let frequency = |(place, lexeme): (usize, &String)| {
        let sampled = sample.frequencies[place] / sample.documents.max(1.0) * documents;
        analyzed.get(lexeme).map_or_else(
            || probe(source, lexeme).unwrap_or(sampled.max(PROBED_ROWS as f64)),
            |share| share * documents,
        )
    };
    let frequencies = lexemes.iter().enumerate().map(frequency).collect();
    let collection = Collection { documents, average_length: sample.average_length() };
    WordStatistics { collection, frequencies, origin: Origin::Estimate }
}

/// The shares of documents that ANALYZE found to have words, for the most common ones. The view
/// shows the caller only what the caller may read.
fn analyzed_frequencies(source: &KeywordColumn, lexemes: &[String]) -> HashMap<String, f64> {
    let mut statement = Statement::default();
    let schema = statement.bind(Parameter::Text(source.facts.table.schema.as_str().to_owned()));
    let table = statement.bind(Parameter::Text(source.facts.table.name.as_str().to_owned()));
    let column = statement.bind(Parameter::Text(source.column.name.as_str().to_owned()));
    let wanted = statement.bind(Parameter::Texts(lexemes.to_vec()));
    statement.push(format_args!(
        "SELECT common.lexeme, s.most_common_elem_freqs[common.place]::pg_catalog.float8 \
         FROM pg_catalog.pg_stats AS s, \
              pg_catalog.unnest(s.most_common_elems::pg_catalog.text::pg_catalog.text[]) \
                  WITH ORDINALITY AS common(lexeme, place) \
         WHERE s.schemaname OPERATOR(pg_catalog.=) {schema}::pg_catalog.name \
         AND s.tablename OPERATOR(pg_catalog.=) {table}::pg_catalog.name \
         AND s.attname OPERATOR(pg_catalog.=) {column}::pg_catalog.name \
         AND common.lexeme OPERATOR(pg_catalog.=) ANY ({wanted})"
    ));
    spi::query(&statement, |row| Some((row.get(1)?, row.get(2)?))).into_iter().flatten().collect()
}

/// The number of documents that have a word, by the index; `None` when they are many.
fn probe(source: &KeywordColumn, lexeme: &str) -> Option<f64> {
    let mut statement = Statement::default();
    let word = statement.bind(Parameter::Text(quote_lexeme(lexeme)));
    let limit = statement.bind(Parameter::Integer(PROBED_ROWS));
    let (table, column) = (&source.facts.table, &source.column.name);
    statement.push(format_args!(
        "SELECT pg_catalog.count(*) FROM (SELECT FROM {table} AS t \
         WHERE t.{column} OPERATOR(pg_catalog.@@) {word}::pg_catalog.tsquery LIMIT {limit}) AS found"
    ));
    let counts: Vec<Option<i64>> = spi::query(&statement, |row| row.get(1));
    counts.into_iter().flatten().next().filter(|count| *count < PROBED_ROWS).map(|count| count as f64)
}

/// Counts for known words.
struct Counts<'a> {
    lexemes: &'a [String],
    documents: f64,
    length: f64,
    frequencies: Vec<f64>,
}

impl<'a> Counts<'a> {
    fn new(lexemes: &'a [String]) -> Counts<'a> {
        Counts { lexemes, documents: 0.0, length: 0.0, frequencies: vec![0.0; lexemes.len()] }
    }

    fn add(&mut self, row: &spi::Row) {
        row.with_bytes(1, pg_sys::TSVECTOROID, |bytes| {
            let Some(vector) = TextVector::new(bytes) else { return };
            self.documents += 1.0;
            self.length += f64::from(vector.length());
            for (frequency, lexeme) in self.frequencies.iter_mut().zip(self.lexemes) {
                *frequency += f64::from(vector.occurrences(lexeme.as_bytes()).min(1));
            }
        });
    }

    fn average_length(&self) -> f64 {
        if self.documents > 0.0 { self.length / self.documents } else { 1.0 }
    }
}

/// Pages of a table; `None` for one that has partitions and no pages of its own.
fn pages_of(relation: &PgRelation) -> Option<u32> {
    // SAFETY: the relation is open and, with storage of its own, has a main fork.
    unsafe {
        let kind = (*relation.rd_rel).relkind as u8;
        (kind != pg_sys::RELKIND_PARTITIONED_TABLE).then(|| {
            pg_sys::RelationGetNumberOfBlocksInFork(relation.as_ptr(), pg_sys::ForkNumber::MAIN_FORKNUM)
        })
    }
}

/// Rows inserted, updated and deleted in a table and its partitions since its statistics were
/// reset.
fn changes_of(relation: &PgRelation) -> i64 {
    let mut statement = Statement::default();
    let table = statement.bind(Parameter::Oid(relation.oid().to_u32()));
    statement.push(format_args!(
        "SELECT pg_catalog.sum(pg_catalog.pg_stat_get_tuples_inserted(r.member) \
             OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_tuples_updated(r.member) \
             OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_tuples_deleted(r.member))::pg_catalog.int8 \
         FROM (SELECT {table} UNION \
               SELECT p.relid FROM pg_catalog.pg_partition_tree({table}) AS p) AS r(member)"
    ));
    let changes: Vec<Option<i64>> = spi::query(&statement, |row| row.get(1));
    changes.into_iter().flatten().next().unwrap_or(0)
}

/// Starts a worker that takes a new snapshot when a tenth of the table has changed since the last
/// one, or when a large table has none.
fn renew_if_outdated(source: &KeywordColumn, snapshot: Option<&Snapshot>) {
    // SAFETY: a flag of the server.
    let is_standby = unsafe { pg_sys::RecoveryInProgress() };
    if is_standby || !settings::auto_refresh_statistics() || !is_time_to_check(source) {
        return;
    }
    // Where another table is being counted, this one has its turn at one of the next looks.
    if is_outdated(source, snapshot) && statistics_worker::start(source.relation.oid(), source.number()) {
        check_after(source, WORKER_INTERVAL);
    }
}

fn is_time_to_check(source: &KeywordColumn) -> bool {
    let key = (source.relation.oid(), source.number());
    let is_due = NEXT_CHECK.with_borrow(|next| next.get(&key).is_none_or(|next| *next <= Instant::now()));
    if is_due {
        check_after(source, CHECK_INTERVAL);
    }
    is_due
}

fn check_after(source: &KeywordColumn, interval: Duration) {
    let key = (source.relation.oid(), source.number());
    NEXT_CHECK.with_borrow_mut(|next| next.insert(key, Instant::now() + interval));
}

fn is_outdated(source: &KeywordColumn, snapshot: Option<&Snapshot>) -> bool {
    let Some(snapshot) = snapshot else {
        return spi::estimate(&documents_of(source)).0 >= SNAPSHOT_DOCUMENTS;
    };
    let changed = (changes_of(source.relation) - snapshot.changes).unsigned_abs() as f64;
    let grown = i64::from(pages_of(source.relation).unwrap_or(0)) - snapshot.pages;
    changed > (0.1 * snapshot.collection.documents).max(100.0)
        || grown.unsigned_abs() as f64 > (0.1 * snapshot.pages as f64).max(100.0)
}

/// Whether a snapshot is missing or outdated, now.
pub fn needs_refresh(source: &KeywordColumn) -> bool {
    is_outdated(source, read_snapshot(source).as_ref())
}

/// Counts all documents of a table and stores the counts as its new snapshot, which other sessions
/// see when the transaction commits. Returns the number of documents.
///
/// # Errors
/// [`Error::NotOwner`] (42501) unless the caller has the rights of the table's owner.
pub fn refresh(source: &KeywordColumn) -> Result<i64> {
    if !rights::is_owner(source.relation) {
        return Err(Error::NotOwner { table: source.facts.display.clone() });
    }
    claim_snapshot(source);
    let changes = changes_of(source.relation);
    let mut documents = 0;
    let mut length = 0;
    let mut frequencies: HashMap<Box<[u8]>, i64> = HashMap::new();
    // An owner is told, rather than that the counts silently miss rows.
    spi::with_settings(&[(c"row_security", "off".to_owned())], || {
        spi::for_each(&documents_of(source), |row| {
            row.with_bytes(1, pg_sys::TSVECTOROID, |bytes| {
                let Some(vector) = TextVector::new(bytes) else { return };
                documents += 1;
                for entry in vector.lexemes() {
                    length += i64::from(entry.occurrences);
                    match frequencies.get_mut(entry.lexeme) {
                        Some(frequency) => *frequency += 1,
                        None => {
                            frequencies.insert(entry.lexeme.into(), 1);
                        }
                    }
                }
            });
        });
    });
    store_frequencies(source, frequencies);
    let mut statement = Statement::default();
    let (table, column) = source.key(&mut statement);
    let documents_now = statement.bind(Parameter::Integer(documents));
    let average = if documents > 0 { length as f64 / documents as f64 } else { 1.0 };
    let average = statement.bind(Parameter::Number(average));
    let changes = statement.bind(Parameter::Integer(changes));
    let pages = statement.bind(Parameter::Integer(i64::from(pages_of(source.relation).unwrap_or(0))));
    statement.push(format_args!(
        "UPDATE vector_tools.statistics_snapshots AS s SET documents = {documents_now}, \
             average_length = {average}, changes = {changes}, pages = {pages}, \
             refreshed_at = pg_catalog.clock_timestamp() \
         WHERE s.source OPERATOR(pg_catalog.=) {table} AND s.column_number OPERATOR(pg_catalog.=) {column}"
    ));
    with_rights_of_state(SNAPSHOTS, || spi::execute(&statement));
    Ok(documents)
}

/// Makes the row of a snapshot, or locks it: of two that refresh it at once, one waits. Snapshots of
/// tables that are gone are removed by the way.
fn claim_snapshot(source: &KeywordColumn) {
    let gone =
        "NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) s.source)";
    let mut statement = Statement::default();
    let (table, column) = source.key(&mut statement);
    statement.push(format_args!(
        "INSERT INTO vector_tools.statistics_snapshots AS s (source, column_number) VALUES ({table}, {column}) \
         ON CONFLICT (source, column_number) DO UPDATE SET documents = s.documents"
    ));
    with_rights_of_state(SNAPSHOTS, || {
        spi::execute(&statement);
        for table in ["document_frequencies", "statistics_snapshots"] {
            let text = format!("DELETE FROM vector_tools.{table} AS s WHERE {gone}");
            spi::execute(&Statement { text, ..Statement::default() });
        }
    });
}

fn store_frequencies(source: &KeywordColumn, frequencies: HashMap<Box<[u8]>, i64>) {
    const PIECE: usize = 10_000;
    let mut stored: Vec<(String, i64)> = frequencies
        .into_iter()
        .filter(|(_, frequency)| *frequency > UNSTORED_FREQUENCY)
        .map(|(lexeme, frequency)| (String::from_utf8_lossy(&lexeme).into_owned(), frequency))
        .collect();
    // The order of the primary key fills its pages well.
    stored.sort_unstable();
    let mut statement = Statement::default();
    let (table, column) = source.key(&mut statement);
    statement.push(format_args!(
        "DELETE FROM vector_tools.document_frequencies AS f \
         WHERE f.source OPERATOR(pg_catalog.=) {table} AND f.column_number OPERATOR(pg_catalog.=) {column}"
    ));
    with_rights_of_state(SNAPSHOTS, || {
        spi::execute(&statement);
        for piece in stored.chunks(PIECE) {
            let mut statement = Statement::default();
            let (table, column) = source.key(&mut statement);
            let (lexemes, counts) = piece.iter().cloned().unzip();
            let lexemes = statement.bind(Parameter::Texts(lexemes));
            let counts = statement.bind(Parameter::Integers(counts));
            statement.push(format_args!(
                "INSERT INTO vector_tools.document_frequencies (source, column_number, lexeme, documents) \
                 SELECT {table}, {column}, w.lexeme, w.documents \
                 FROM ROWS FROM (pg_catalog.unnest({lexemes}), pg_catalog.unnest({counts})) AS w(lexeme, documents)"
            ));
            spi::execute(&statement);
            pgrx::check_for_interrupts!();
        }
    });
}
