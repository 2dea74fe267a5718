//! Embedding the rows of searched tables: the steps of a batch, and what becomes of its entries.
//!
//! Rows are read and written with the rights of the table's owner, the queue with those of its own;
//! whoever calls needs neither.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::{PgRelation, pg_sys};

use super::chance::chance;
use super::embedders::{check_interrupts, passage_tokenizer};
use super::embedding_cache::embed_passages;
use super::queue::{self, enqueue_keys, lease_again, lease_entries, with_rights_of_queue};
use super::searched_tables::{self, Searched};
use super::spi::{self, Row};
use super::subtransaction::attempt;
use super::waiting::wait_a_while;
use super::{catalog, flights, rights, search_index, worker};
use crate::chunking::sql::{chunks, read_options};
use crate::chunking::{Chunk, Options};
use crate::error::{Error, Result};
use crate::jobs::flight::{DIED, Flight, OVERDUE};
use crate::jobs::statements::{
    due_sources, keep, note_batch, remove, remove_dead, remove_source, upcoming_sources,
};
use crate::jobs::{Entry, Failure, Found, Job, Outcome, Steps, join_entries, run_batch, settle};
use crate::search::Statement;
use crate::tables::searchable::SearchedTable;
use crate::tables::searchable::options::{Chunking, Mode};
use crate::tables::searchable::statements::{NewChunk, NewRow};

/// How long a session waits for others before it looks again.
const OTHERS_WAIT: Duration = Duration::from_millis(20);

/// What a batch has done.
#[derive(Debug, Clone, Default)]
pub struct BatchReport {
    /// The table.
    pub source: Option<pg_sys::Oid>,
    /// Rows embedded, and their chunks.
    pub embedded: (i64, i64),
    /// Rows whose chunks were true already.
    pub unchanged: i64,
    /// Rows that were not there any more.
    pub gone: i64,
    /// Rows left for later.
    pub postponed: i64,
    /// Rows that could not be embedded.
    pub failed: i64,
}

/// Embeds queued rows of one table that the caller owns, of `source` where it is given; `None` where
/// no entry is due.
///
/// # Errors
/// [`Error::NotOwnerToSearch`] (42501) for a table of somebody else's.
pub fn run_queued_batch(source: Option<pg_sys::Oid>, most_rows: usize) -> Result<Option<BatchReport>> {
    let sources = match source {
        Some(source) => {
            let relation = catalog::open_table(source)?;
            if !rights::is_owner(&relation) {
                return Err(Error::NotOwnerToSearch { table: catalog::display_name(&relation) });
            }
            vec![source]
        }
        None => {
            let due =
                with_rights_of_queue(|| spi::query_latest(&due_sources(), |row| row.get::<pg_sys::Oid>(1)));
            due.into_iter().flatten().collect()
        }
    };
    if let Some(report) = settle_orphan(source)? {
        return Ok(Some(report));
    }
    for source in sources {
        if let Some(report) = run_batch_of(source, most_rows)? {
            return Ok(Some(report));
        }
    }
    Ok(None)
}

/// The tables with queued rows that a worker is to embed, and when the first row of each is due.
pub fn upcoming() -> Vec<(pg_sys::Oid, Duration)> {
    let found = with_rights_of_queue(|| {
        spi::query_latest(&upcoming_sources(), |row| Some((row.get::<pg_sys::Oid>(1)?, row.get::<f64>(2)?)))
    });
    let is_for_workers = |source: pg_sys::Oid| {
        // One that is gone is looked at, so that its entries go too.
        let Ok(relation) = catalog::open_table(source) else { return true };
        let searched = searched_tables::find(&relation);
        searched.is_ok_and(|found| found.is_some_and(|table| table.table.options.mode != Mode::Manual))
    };
    let wait = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let found = found.into_iter().flatten().filter(|(source, _)| is_for_workers(*source));
    found.map(|(source, seconds)| (source, wait(seconds))).collect()
}

/// Embeds queued rows of a table; `None` where none is due, or where the caller does not own it.
///
/// # Errors
/// Those of [`Steps::checkpoint`].
pub fn run_batch_of(source: pg_sys::Oid, most_rows: usize) -> Result<Option<BatchReport>> {
    let Ok(relation) = catalog::open_table(source) else {
        with_rights_of_queue(|| spi::change(&remove_source(source.to_u32())));
        return Ok(None);
    };
    if !rights::is_owner(&relation) {
        return Ok(None);
    }
    // Entries of a table that is not searched stay: a restore may bring its triggers later.
    let Ok(Some(_)) = searched_tables::find(&relation) else { return Ok(None) };
    let (entries, most_rows) = lease_entries(source, most_rows);
    if entries.is_empty() {
        return Ok(None);
    }
    run_entries(&relation, &entries, most_rows).map(Some)
}

fn run_entries(relation: &PgRelation, entries: &[Entry], most_rows: usize) -> Result<BatchReport> {
    let began = Instant::now();
    let jobs = join_entries(entries, most_rows);
    let _flight = flights::begin(relation.oid(), entries, &jobs);
    let keys: Vec<&[String]> = jobs.iter().map(|job| job.key.as_slice()).collect();
    let outcomes = match lock_companions(relation) {
        Ok(searched) => run_rows(&searched, &keys)?,
        // It was ended while this waited.
        Err(Error::NotSearched { .. }) => vec![Outcome::Gone; jobs.len()],
        Err(error) => vec![Outcome::Failed(Failure::from_error(&error)); jobs.len()],
    };
    let source = relation.oid();
    write_outcomes(source, entries, &jobs, &outcomes);
    let report = report(source, &outcomes);
    let searched = searched_tables::find(relation)?;
    let is_manual = searched.as_ref().is_some_and(|searched| searched.table.options.mode == Mode::Manual);
    // What is left is tried again later, by whoever is there then.
    if report.postponed + report.failed > 0 && !is_manual {
        worker::note_queued();
    }
    let (source, done) = (source.to_u32(), report.embedded.0 as usize);
    if done > 0 {
        with_rights_of_queue(|| spi::change(&note_batch(source, done, began.elapsed().as_secs_f64())));
        if let Some(searched) = searched {
            // The time an index takes is no row's fault.
            worker::without_limit(|| search_index::create_when_filled(&searched))?;
        }
    }
    Ok(report)
}

/// Waits a moment where rows are due that this session could not lease, since others have them; `false` where
/// there are none.
///
/// # Errors
/// Never in practice: names in the catalogue are valid.
pub fn wait_for_others(source: Option<pg_sys::Oid>) -> Result<bool> {
    let due = with_rights_of_queue(|| spi::query_latest(&due_sources(), |row| row.get::<pg_sys::Oid>(1)));
    for table in due.into_iter().flatten() {
        let Ok(relation) = catalog::open_table(table) else { continue };
        let is_meant = source.is_none_or(|source| source == table) && rights::is_owner(&relation);
        if is_meant && searched_tables::find(&relation).is_ok_and(|found| found.is_some()) {
            drop(relation);
            wait_a_while(OTHERS_WAIT);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes of the rows of one process that died, of `source` where it is given, that they have failed; `None`
/// where there is none. Its own transaction must be committed before they are tried again, since this process
/// may die of them too.
///
/// # Errors
/// Never in practice.
pub fn settle_orphan(source: Option<pg_sys::Oid>) -> Result<Option<BatchReport>> {
    let may_settle = |flight: &Flight| {
        let table = pg_sys::Oid::from(flight.source);
        let is_own = || catalog::open_table(table).map_or(true, |relation| rights::is_owner(&relation));
        source.is_none_or(|source| source == table) && is_own()
    };
    Ok(flights::settle_next(may_settle, |flight| settle_flight(flight, DIED)))
}

/// Notes of the rows of the batch that this worker has just given up that they have failed.
pub fn settle_overdue() {
    if let Some(flight) = flights::last() {
        settle_flight(&flight, OVERDUE);
    }
}

/// Notes that a batch has failed; `None` where its entries are gone, because it had been noted or was done.
fn settle_flight(flight: &Flight, sqlstate: &str) -> Option<BatchReport> {
    let entries = lease_again(&flight.entries);
    if flight.queue != queue::table().to_u32() || entries.is_empty() {
        return None;
    }
    let keys: HashSet<&[String]> = flight.keys.iter().map(Vec::as_slice).collect();
    let mut jobs = join_entries(&entries, usize::MAX);
    jobs.retain(|job| keys.contains(job.key.as_slice()));
    let outcomes = vec![Outcome::Failed(flight.failure(sqlstate)); jobs.len()];
    let source = pg_sys::Oid::from(flight.source);
    write_outcomes(source, &entries, &jobs, &outcomes);
    worker::note_queued();
    Some(report(source, &outcomes))
}

/// Embeds rows with the model of the table, and with the next one where a change of it is under way. A
/// row is done when both are.
fn run_rows(searched: &Searched, keys: &[&[String]]) -> Result<Vec<Outcome>> {
    let outcomes = run_rows_of(&searched.table, searched.owner, keys)?;
    let Some(next) = &searched.next else {
        return Ok(outcomes);
    };
    let others = run_rows_of(&next.table, searched.owner, keys)?;
    Ok(outcomes.into_iter().zip(others).map(|(outcome, other)| outcome.and(other)).collect())
}

fn run_rows_of(table: &SearchedTable, owner: pg_sys::Oid, keys: &[&[String]]) -> Result<Vec<Outcome>> {
    match TableSteps::new(table, owner) {
        Ok(mut steps) => run_batch(keys, &mut steps),
        Err(error) => Ok(vec![Outcome::Failed(Failure::from_error(&error)); keys.len()]),
    }
}

/// Takes rows that are done out of the queue, and keeps the others.
fn write_outcomes(source: pg_sys::Oid, entries: &[Entry], jobs: &[Job], outcomes: &[Outcome]) {
    let settlement = settle(entries, jobs, outcomes, chance);
    let is_done =
        |outcome: &Outcome| matches!(outcome, Outcome::Embedded(_) | Outcome::Unchanged | Outcome::Gone);
    let done = jobs.iter().zip(outcomes).filter(|(_, outcome)| is_done(outcome));
    let done: Vec<String> = done.filter_map(|(job, _)| serde_json::to_string(&job.key).ok()).collect();
    with_rights_of_queue(|| {
        for remainder in &settlement.kept {
            spi::change(&keep(remainder));
        }
        if !settlement.removed.is_empty() {
            spi::change(&remove(settlement.removed));
        }
        if !done.is_empty() {
            spi::change(&remove_dead(source.to_u32(), done));
        }
    });
}

fn report(source: pg_sys::Oid, outcomes: &[Outcome]) -> BatchReport {
    let mut report = BatchReport { source: Some(source), ..BatchReport::default() };
    for outcome in outcomes {
        match outcome {
            Outcome::Embedded(chunks) => {
                report.embedded.0 += 1;
                report.embedded.1 += *chunks as i64;
            }
            Outcome::Unchanged => report.unchanged += 1,
            Outcome::Gone => report.gone += 1,
            Outcome::Later | Outcome::Overtaken => report.postponed += 1,
            Outcome::Failed(_) => report.failed += 1,
        }
    }
    report
}

/// Embeds rows at once, as a statement in sync mode does. What goes wrong with the next model of the
/// table is no reason to refuse a row: the queue will see to it.
///
/// # Errors
/// [`Error::RowNotEmbedded`] for the first row that cannot be, and those of the model.
pub fn embed_now(source: pg_sys::Oid, keys: &[Vec<String>]) -> Result<()> {
    let relation = catalog::open_table(source)?;
    let searched = lock_companions(&relation)?;
    embed_all(&searched.table, searched.owner, keys, |key, failure| match failure {
        Some(failure) => Err(Error::RowNotEmbedded {
            key: shown_key(key),
            table: searched.table.source.to_string(),
            sqlstate: failure.sqlstate,
            reason: failure.message,
        }),
        // Nobody else can hold a row that this transaction has changed; whatever it is, the queue will
        // see to it.
        None => {
            leave_to_queue(source, key);
            Ok(())
        }
    })?;
    let Some(next) = &searched.next else {
        return Ok(());
    };
    embed_all(&next.table, searched.owner, keys, |key, _| {
        leave_to_queue(source, key);
        Ok(())
    })
}

fn leave_to_queue(source: pg_sys::Oid, key: &[String]) {
    enqueue_keys(source, &[key.to_vec()]);
    worker::note_queued();
}

/// Takes rows through as many batches as they need; `undone` is called for those that are left, with
/// their failure if they have one.
fn embed_all(
    table: &SearchedTable,
    owner: pg_sys::Oid,
    keys: &[Vec<String>],
    undone: impl Fn(&[String], Option<Failure>) -> Result<()>,
) -> Result<()> {
    let mut rest: Vec<&[String]> = keys.iter().map(Vec::as_slice).collect();
    while !rest.is_empty() {
        let outcomes = run_rows_of(table, owner, &rest)?;
        let mut later = Vec::new();
        for (key, outcome) in rest.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Embedded(_) | Outcome::Unchanged | Outcome::Gone => {}
                Outcome::Later => later.push(key),
                Outcome::Overtaken => undone(key, None)?,
                Outcome::Failed(failure) => undone(key, Some(failure))?,
            }
        }
        rest = later;
    }
    Ok(())
}

/// A key as searches show it.
fn shown_key(key: &[String]) -> String {
    match key {
        [only] => only.clone(),
        several => format!("({})", several.join(", ")),
    }
}

/// Makes sure that nobody changes the companions until the transaction ends, so that what the triggers
/// say of them stays true, and says what that is.
fn lock_companions(relation: &PgRelation) -> Result<Rc<Searched>> {
    let find = || {
        let not_searched = || Error::NotSearched { table: catalog::display_name(relation) };
        searched_tables::find(relation)?.ok_or_else(not_searched)
    };
    loop {
        let searched = find()?;
        let companion = searched.companion()?;
        let companions = std::iter::once(companion).chain(searched.next.as_ref().map(|next| next.companion));
        let opened = companions.map(|companion| catalog::open_table_to_write(companion).map(|_| ()));
        let opened = opened.collect::<Result<()>>();
        // Whoever had one of them for himself has changed what is known by now.
        if Rc::ptr_eq(&find()?, &searched) {
            return opened.map(|()| searched);
        }
    }
}

/// A row of a source.
struct SourceRow {
    content: String,
    hash: String,
}

/// The chunks of a row, and which of them are embedded.
struct RowChunks {
    chunks: Vec<NewChunk>,
    embedded: Vec<usize>,
}

/// Text without a word: nothing to find, but the row is done.
fn blank(row: &SourceRow) -> RowChunks {
    let chunk = NewChunk {
        content: row.content.clone(),
        offsets: (0, number(row.content.chars().count())),
        token_count: 0,
        parent: None,
        embedding: None,
    };
    RowChunks { chunks: vec![chunk], embedded: vec![] }
}

/// The chunks of a row. One that has parts is shown, not searched.
fn in_chunks(row: &SourceRow, found: &[Chunk]) -> RowChunks {
    let chunk = |chunk: &Chunk| NewChunk {
        content: row.content[chunk.bytes.clone()].to_owned(),
        offsets: (number(chunk.characters.start), number(chunk.characters.end)),
        token_count: number(chunk.tokens),
        parent: chunk.parent.map(number),
        embedding: None,
    };
    let parents: HashSet<usize> = found.iter().filter_map(|chunk| chunk.parent).collect();
    let embedded = (0..found.len()).filter(|place| !parents.contains(place)).collect();
    RowChunks { chunks: found.iter().map(chunk).collect(), embedded }
}

fn number(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

struct TableSteps<'a> {
    table: &'a SearchedTable,
    owner: pg_sys::Oid,
    chunking: Option<Options>,
}

impl<'a> TableSteps<'a> {
    fn new(table: &'a SearchedTable, owner: pg_sys::Oid) -> Result<TableSteps<'a>> {
        let read = |chunking: &Chunking| {
            read_options(Some(&chunking.strategy), chunking.max_tokens, chunking.overlap)
        };
        let chunking = table.options.chunking.as_ref().map(read).transpose()?;
        Ok(TableSteps { table, owner, chunking })
    }

    /// A row as one chunk, however long it is: what the model does not read is in its words.
    fn whole(&self, row: &SourceRow) -> Result<RowChunks> {
        let (tokenizer, prefix) = passage_tokenizer(&self.table.options.model)?;
        let passage = format!("{prefix}{}", row.content);
        let token_count = number(tokenizer.count(&passage, &mut check_interrupts)?);
        let mut chunks = blank(row);
        chunks.chunks[0].token_count = token_count;
        Ok(RowChunks { embedded: vec![0], ..chunks })
    }

    /// Runs a statement over source and companion as their owner, with names that nobody can shadow.
    fn run<T>(&self, statement: &Statement, read: impl FnMut(&Row) -> T) -> Result<Vec<T>, Failure> {
        let settings = [(c"search_path", "pg_catalog, pg_temp".to_owned())];
        attempt(|| {
            spi::with_settings(&settings, || {
                rights::with_rights_of(self.owner, || spi::query_latest(statement, read))
            })
        })
    }
}

impl Steps for TableSteps<'_> {
    type Row = SourceRow;
    type Chunks = RowChunks;
    type Embedded = Vec<NewChunk>;

    fn read(&mut self, keys: &[&[String]]) -> Result<Vec<Found<SourceRow>>, Failure> {
        self.run(&self.table.read_rows(keys), |row| {
            let is_true = |column| row.get::<bool>(column).unwrap_or(false);
            match (is_true(1), is_true(2), is_true(5)) {
                (false, ..) => Found::Gone,
                (true, false, _) => Found::Later,
                (true, true, true) => Found::Unchanged,
                (true, true, false) => Found::New(SourceRow {
                    content: row.get(3).unwrap_or_default(),
                    hash: row.get(4).unwrap_or_default(),
                }),
            }
        })
    }

    fn chunk(&mut self, row: &SourceRow) -> Result<RowChunks, Failure> {
        let chunks = match &self.chunking {
            _ if row.content.trim().is_empty() => return Ok(blank(row)),
            None => self.whole(row),
            Some(options) => {
                let model = &self.table.options.model;
                chunks(&row.content, options, model).map(|found| in_chunks(row, &found))
            }
        };
        chunks.map_err(|error| Failure::from_error(&error))
    }

    fn embed(&mut self, rows: &[(&SourceRow, RowChunks)]) -> Result<Vec<Vec<NewChunk>>, Failure> {
        let texts: Vec<&str> = rows
            .iter()
            .flat_map(|(_, row)| row.embedded.iter().map(|place| row.chunks[*place].content.as_str()))
            .collect();
        let model = &self.table.options.model;
        let vectors = embed_passages(model, &texts).map_err(|error| Failure::from_error(&error))?;
        let mut vectors = vectors.into_iter();
        let fill = |(_, row): &(&SourceRow, RowChunks)| {
            let mut chunks = row.chunks.clone();
            for place in &row.embedded {
                chunks[*place].embedding = vectors.next();
            }
            chunks
        };
        Ok(rows.iter().map(fill).collect())
    }

    fn write(
        &mut self,
        rows: &[(&[String], &SourceRow, &Vec<NewChunk>)],
    ) -> Result<Vec<Option<usize>>, Failure> {
        let new: Vec<NewRow> =
            rows.iter().map(|(key, row, chunks)| NewRow { key, hash: &row.hash, chunks }).collect();
        let written = self.run(&self.table.write_rows(&new), |row| row.get::<i64>(1))?;
        let written: HashSet<i64> = written.into_iter().flatten().collect();
        let chunks = |(place, row): (usize, &NewRow)| {
            written.contains(&(place as i64 + 1)).then_some(row.chunks.len())
        };
        Ok(new.iter().enumerate().map(chunks).collect())
    }

    fn checkpoint(&mut self) -> Result<()> {
        check_interrupts()
    }
}
