//! Embedding what is queued: batches of rows of searched tables, and of what else was handed over (`kind`).
//!
//! Rows are read and written with the rights of the table's owner, the queue with those of its own; the caller needs
//! neither.

pub mod kind;
mod rows;
mod running;

pub use rows::embed_now;
pub use running::{requeue_abandoned, requeue_overdue, take_off_own};

use std::cell::RefCell;
use std::time::{Duration, Instant};

use pgrx::{PgRelation, pg_sys};

use crate::kit::chance::chance;
use crate::kit::waiting::wait_a_while;
use crate::kit::{catalog, rights, spi};
use crate::pipeline::queue::{lease_entries, with_rights_of_queue};
use crate::pipeline::searchable_tables;
use crate::pipeline::{search_index, worker};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::pipeline::options::Mode;
use vector_tools_core::pipeline::queue::{
    due_sources, keep, note_batch, remove, remove_given_up, remove_source, upcoming_sources,
};
use vector_tools_core::pipeline::running::RunningBatch;
use vector_tools_core::pipeline::{Entry, Job, Outcome, join_entries, requeue};

/// When a table that somebody has for himself is looked at again.
const LOCKED_WAIT: Duration = Duration::from_secs(1);

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

/// What can be seen of a table without waiting.
enum Seen {
    /// Its entries are embedded in this mode.
    Source(Mode),
    /// It is neither.
    Other,
    /// Nothing, since somebody keeps writers of its store away.
    Locked,
}

fn look_at(relation: &PgRelation) -> Seen {
    match kind::other().map_or(Some(false), |kind| kind.is_it(relation)) {
        None => Seen::Locked,
        Some(true) => Seen::Source(Mode::Async),
        Some(false) => match searchable_tables::find(relation) {
            Ok(Some(searched)) => Seen::Source(searched.table.options.mode),
            _ => Seen::Other,
        },
    }
}

thread_local! {
    /// The batch that this session has begun last, until it runs it.
    static BEGUN: RefCell<Option<RunningBatch>> = const { RefCell::new(None) };
}

/// Begins a batch of one table that the caller owns, of `source` where it is given: [`run_queued_batch`] runs it in the
/// next transaction. `false` where no entry is due, or a batch has been abandoned, which comes first.
///
/// # Errors
/// [`Error::NotOwnerToSearch`] (42501) for a table of somebody else's.
pub fn begin_queued_batch(source: Option<pg_sys::Oid>, most_rows: usize) -> Result<bool> {
    let sources = own_sources(source)?;
    let mut begun = None;
    if running::find_abandoned(source).is_empty() {
        for source in sources {
            begun = begin_batch_of(source, most_rows);
            if begun.is_some() {
                break;
            }
        }
    }
    let has_begun = begun.is_some();
    BEGUN.set(begun);
    Ok(has_begun)
}

/// Embeds queued rows of one table that the caller owns, of `source` where it is given: those of the batch that was begun,
/// or else others, at which a crash is no attempt. `None` where no entry is due, or others have it.
///
/// # Errors
/// [`Error::NotOwnerToSearch`] (42501) for a table of somebody else's.
pub fn run_queued_batch(source: Option<pg_sys::Oid>, most_rows: usize) -> Result<Option<BatchReport>> {
    let sources = own_sources(source)?;
    let is_meant = |batch: &RunningBatch| source.is_none_or(|source| source.to_u32() == batch.source);
    // It is not listed where the transaction that began it was rolled back.
    if let Some(batch) = BEGUN.take().filter(is_meant)
        && take_off_own()
    {
        return run_listed(&batch);
    }
    if let Some(report) = requeue_abandoned(source) {
        return Ok(Some(report));
    }
    for source in sources {
        let Some(relation) = open_source(source) else { continue };
        let (entries, most_rows) = lease_entries(source, most_rows);
        if !entries.is_empty() {
            return run_jobs(&relation, &entries, join_entries(&entries, most_rows)).map(Some);
        }
    }
    Ok(None)
}

/// The tables to look for rows in.
fn own_sources(source: Option<pg_sys::Oid>) -> Result<Vec<pg_sys::Oid>> {
    let Some(source) = source else {
        let due =
            with_rights_of_queue(|| spi::query_new_snapshot(&due_sources(), |row| row.get::<pg_sys::Oid>(1)));
        return Ok(due.into_iter().flatten().collect());
    };
    let relation = catalog::open_table(source)?;
    if !rights::is_owner(&relation) {
        return Err(Error::NotOwnerToSearch { table: catalog::display_name(&relation) });
    }
    Ok(vec![source])
}

/// A table with queued rows that a worker is to embed.
#[derive(Debug, Clone, Copy)]
pub struct Upcoming {
    /// The table.
    pub source: pg_sys::Oid,
    /// Its owner; none where it is gone, or somebody has it for himself.
    pub owner: Option<pg_sys::Oid>,
    /// When its first row is due.
    pub wait: Duration,
}

/// The tables with queued rows that a worker is to embed.
pub fn upcoming() -> Vec<Upcoming> {
    let found = with_rights_of_queue(|| {
        spi::query_new_snapshot(&upcoming_sources(), |row| {
            Some((row.get::<pg_sys::Oid>(1)?, row.get::<f64>(2)?))
        })
    });
    let wait = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let upcoming = |(source, seconds)| is_for_workers(source, wait(seconds));
    found.into_iter().flatten().filter_map(upcoming).collect()
}

/// What there is to do for a table whose first row is due then; `None` where that is nothing for workers. One who alters
/// a table for long must not keep others from having theirs embedded.
fn is_for_workers(source: pg_sys::Oid, wait: Duration) -> Option<Upcoming> {
    // One that is gone is looked at, so that its entries go too.
    let Ok(relation) = catalog::open_table_now(source) else {
        return Some(Upcoming { source, owner: None, wait });
    };
    // It will be known then.
    let locked = Upcoming { source, owner: None, wait: wait.max(LOCKED_WAIT) };
    let Some(relation) = relation else { return Some(locked) };
    match look_at(&relation) {
        Seen::Source(Mode::Manual) | Seen::Other => None,
        Seen::Source(_) => Some(Upcoming { source, owner: Some(rights::owner(&relation)), wait }),
        Seen::Locked => Some(locked),
    }
}

/// Begins a batch of a table: what it will embed is listed when this transaction is committed. `None` where nothing is
/// due, or where the caller does not own it.
pub fn begin_batch_of(source: pg_sys::Oid, most_rows: usize) -> Option<RunningBatch> {
    let _relation = open_source(source)?;
    let (entries, most_rows) = lease_entries(source, most_rows);
    if entries.is_empty() {
        return None;
    }
    let jobs = join_entries(&entries, most_rows);
    let batch = RunningBatch {
        source: source.to_u32(),
        entries: entries.iter().map(|entry| entry.id).collect(),
        keys: jobs.into_iter().map(|job| job.key).collect(),
    };
    running::list_own(&batch);
    Some(batch)
}

/// Embeds the rows of a batch that was begun in another transaction, as far as nobody else has them; `None` where there
/// are none.
///
/// # Errors
/// Those of [`Steps::checkpoint`].
pub fn run_begun(batch: &RunningBatch) -> Result<Option<BatchReport>> {
    take_off_own();
    run_listed(batch)
}

fn run_listed(batch: &RunningBatch) -> Result<Option<BatchReport>> {
    let Some(relation) = open_source(pg_sys::Oid::from(batch.source)) else { return Ok(None) };
    let (entries, jobs) = running::lease(batch);
    if entries.is_empty() {
        return Ok(None);
    }
    run_jobs(&relation, &entries, jobs).map(Some)
}

/// Opens a table whose entries the caller may embed now. Those of one that is gone are removed.
fn open_source(source: pg_sys::Oid) -> Option<PgRelation> {
    let Ok(relation) = catalog::open_table_now(source) else {
        with_rights_of_queue(|| spi::execute(&remove_source(source.to_u32())));
        kind::other().into_iter().for_each(|kind| kind.forget(source));
        return None;
    };
    let relation = relation.filter(rights::is_owner)?;
    matches!(look_at(&relation), Seen::Source(_)).then_some(relation)
}

fn run_jobs(relation: &PgRelation, entries: &[Entry], jobs: Vec<Job>) -> Result<BatchReport> {
    let began = Instant::now();
    let keys: Vec<&[String]> = jobs.iter().map(|job| job.key.as_slice()).collect();
    let of_other_kind = kind::other().map_or(Ok(None), |kind| kind.run(relation, &keys))?;
    let is_searched = of_other_kind.is_none();
    let outcomes = match of_other_kind {
        Some(outcomes) => outcomes,
        None => rows::run_queued(relation, &keys)?,
    };
    let source = relation.oid();
    write_outcomes(source, entries, &jobs, &outcomes);
    let report = report(source, &outcomes);
    // Entries of a table that is neither stay: a restore may bring its triggers later.
    let searched = if is_searched { searchable_tables::find(relation)? } else { None };
    // What is left is tried again later, by a worker that is there then.
    if report.postponed + report.failed > 0
        && searched.as_ref().is_none_or(|searched| searched.table.options.mode != Mode::Manual)
    {
        worker::note_queued();
    }
    let (source, done) = (source.to_u32(), report.embedded.0 as usize);
    if done > 0 {
        with_rights_of_queue(|| spi::execute(&note_batch(source, done, began.elapsed().as_secs_f64())));
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
    let due =
        with_rights_of_queue(|| spi::query_new_snapshot(&due_sources(), |row| row.get::<pg_sys::Oid>(1)));
    for table in due.into_iter().flatten() {
        if source.is_some_and(|source| source != table) {
            continue;
        }
        let Ok(Some(relation)) = catalog::open_table_now(table) else { continue };
        if rights::is_owner(&relation) && matches!(look_at(&relation), Seen::Source(_)) {
            drop(relation);
            wait_a_while(OTHERS_WAIT);
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes rows that are done out of the queue, and keeps the others.
fn write_outcomes(source: pg_sys::Oid, entries: &[Entry], jobs: &[Job], outcomes: &[Outcome]) {
    let changes = requeue(entries, jobs, outcomes, chance);
    kind::other().into_iter().for_each(|kind| kind.note_progress(source, jobs, outcomes, &changes));
    let is_done =
        |outcome: &Outcome| matches!(outcome, Outcome::Embedded(_) | Outcome::Unchanged | Outcome::Gone);
    let done = jobs.iter().zip(outcomes).filter(|(_, outcome)| is_done(outcome));
    let done: Vec<String> = done.filter_map(|(job, _)| serde_json::to_string(&job.key).ok()).collect();
    with_rights_of_queue(|| {
        for remainder in &changes.kept {
            spi::execute(&keep(remainder));
        }
        if !changes.removed.is_empty() {
            spi::execute(&remove(changes.removed));
        }
        if !done.is_empty() {
            spi::execute(&remove_given_up(source.to_u32(), done));
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
