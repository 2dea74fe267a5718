//! The worker of one database: its main function, and what it does between its batches.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::prelude::*;

use crate::kit::cluster_lock::ClusterLock;
use crate::kit::waiting;
use crate::kit::waiting::wait_for_latch;
use crate::kit::{background, catalog};
use crate::pipeline::jobs::{
    BatchReport, Upcoming, begin_batch_of, requeue_abandoned, requeue_overdue, run_begun, take_off_own,
    upcoming,
};
use crate::pipeline::queue;
use crate::pipeline::worker::locks::{Taken, WorkerSlot, free_slots, is_database_wanted};
use crate::pipeline::worker::start::{forget_due, hand_on, note_due, register};
use crate::pipeline::worker::transaction::{Raised, calmly, in_transaction};
use crate::pipeline::worker::{FOLDER, due_files, settings, signals};
use crate::settings::{max_workers, worker_batch_timeout, worker_idle_timeout};
use vector_tools_core::pipeline::agenda::{
    FEWEST_ROWS, MOST_ROWS, Next, Situation, decide, limit_after, next_size, pause_after,
};
use vector_tools_core::pipeline::overruns::Overruns;

/// How often a worker that waits looks whether somebody wants its database or its slot, and a batch whether
/// somebody wants the database. PostgreSQL waits for that for five seconds.
const LOOK: Duration = Duration::from_secs(1);

/// A table whose rows others have leased is looked at again after so long.
const HELD_WAIT: Duration = Duration::from_millis(250);

/// The longest wait after errors that are not about rows; the first one is a second.
const LONGEST_BREAK: Duration = Duration::from_secs(300);

/// After so long a database is looked at again that somebody wanted for himself.
const WANTED_WAIT: Duration = Duration::from_secs(10);

/// The worker's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn run_embedding_worker(_argument: pg_sys::Datum) {
    signals::attach();
    background::listen(SignalWakeFlags::SIGHUP);
    let Ok(database) = BackgroundWorker::get_extra().parse::<u32>() else { return };
    let database = pg_sys::Oid::from(database);
    // Before it connects, which takes a while, so that fewer are started in vain.
    let mut place = WorkerSlot::of(database);
    if !take(&mut place) {
        return;
    }
    // Whoever drops it has just ended the worker before this one, and there will be no database to connect to.
    if is_database_wanted(database) {
        note_due(database, SystemTime::now() + WANTED_WAIT);
        return;
    }
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    settings::apply();
    signals::prepare_timer();
    waiting::watch(Some(look_up));
    OVERRUNS.set(Some(Overruns::read(Path::new(FOLDER), "worker", database.to_u32())));
    // SAFETY: the callback is a plain function. It runs when the locks of this process are free again, and the process
    // still has what it needs to use the shared memory.
    unsafe { pg_sys::on_shmem_exit(Some(leave_word), pg_sys::Datum::from(0)) };
    Worker::new(place).run();
}

thread_local! {
    /// The batches of this database that were ended by their limit.
    static OVERRUNS: RefCell<Option<Overruns>> = const { RefCell::new(None) };
    /// The table that this worker is at a batch of, and how long that may take.
    static BATCH: Cell<Option<(Upcoming, Option<Duration>)>> = const { Cell::new(None) };
    /// Whether somebody else will see to what is due.
    static IS_SEEN_TO: Cell<bool> = const { Cell::new(false) };
}

/// Called when the process ends, in order or by a FATAL error: because its batch did not listen when its time was over, or
/// because an administrator wants it to. Rows that are due are not to wait for the next commit of somebody who queues some.
#[pg_guard]
unsafe extern "C-unwind" fn leave_word(_code: i32, _argument: pg_sys::Datum) {
    if signals::is_lost_in_batch()
        && let Some((table, limit)) = BATCH.take()
    {
        note_overrun(&table, limit);
    }
    if !IS_SEEN_TO.get() {
        // SAFETY: a variable of this process.
        hand_on(unsafe { pg_sys::MyDatabaseId });
    }
}

/// Notes that a batch of a table was ended by its limit.
fn note_overrun(table: &Upcoming, limit: Option<Duration>) {
    with_overruns(|overruns| {
        let owner = table.owner.map_or(0, pg_sys::Oid::to_u32);
        let pause = pause_after(limit.unwrap_or(LOOK));
        if let Err(error) = overruns.note(table.source.to_u32(), owner, pause) {
            pgrx::debug1!("could not note that a batch was ended by its limit: {error}");
        }
    });
}

fn with_overruns<T>(work: impl FnOnce(&mut Overruns) -> T) -> Option<T> {
    OVERRUNS.with_borrow_mut(|overruns| overruns.as_mut().map(work))
}

/// Takes a place, or leaves word that it is wanted; `false` where another worker is to see to it.
fn take(place: &mut WorkerSlot) -> bool {
    let taken = place.take().or_else(|taken| match taken {
        Taken::Database => Err(taken),
        Taken::Slots => {
            note_due(place.database, SystemTime::now());
            // Another worker may have given up its slot before it could find that.
            place.take()
        }
    });
    if taken.is_ok() {
        forget_due(place.database.to_u32());
    }
    taken.is_ok()
}

/// Called while a batch waits for something, and between its steps.
fn look_up() {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    if LAST.get().is_some_and(|last| last.elapsed() < LOOK) {
        return;
    }
    LAST.set(Some(Instant::now()));
    // SAFETY: a variable of this process.
    if is_database_wanted(unsafe { pg_sys::MyDatabaseId }) {
        ereport!(ERROR, PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN, "the database is wanted by somebody else");
    }
}

/// A table of the worker's.
#[derive(Debug, Clone, Copy)]
struct Served {
    /// Rows of its next batch.
    size: usize,
    /// When it had its last one.
    last: Option<Instant>,
    /// It is left alone until then.
    pause: Option<Instant>,
    /// Errors since the last batch that ended well.
    errors: u32,
}

struct Worker {
    place: WorkerSlot,
    tables: HashMap<pg_sys::Oid, Served>,
    /// When a table of each owner had a batch last.
    owners: HashMap<pg_sys::Oid, Instant>,
    began: Instant,
    /// When something was due last.
    last_due: Option<Instant>,
    /// When a worker was started for another database last.
    started: HashMap<u32, Instant>,
}

/// What there is to do.
struct Agenda {
    /// Tables that are due, the one whose turn it is first.
    due: Vec<Upcoming>,
    /// When the next one is.
    next: Option<Duration>,
}

impl Worker {
    fn new(place: WorkerSlot) -> Worker {
        let (tables, owners, started) = (HashMap::new(), HashMap::new(), HashMap::new());
        Worker { place, tables, owners, began: Instant::now(), last_due: None, started }
    }

    fn run(mut self) {
        // Before anything is tried that may bring this process down as well.
        while matches!(in_transaction(|| requeue_abandoned(None)), Ok(Some(_))) {}
        while self.goes_on() {}
        self.place.give_up();
        if !signals::is_stopping() {
            IS_SEEN_TO.set(true);
            self.start_elsewhere();
        }
    }

    /// One look, and what follows from it; `false` when the worker ends.
    fn goes_on(&mut self) -> bool {
        // Before anything that it may have been set for is looked at.
        waiting::reset_latch();
        if signals::is_stopping() {
            return false;
        }
        background::reload_if_told();
        if is_database_wanted(self.place.database) {
            // It is there again in a moment, or gone for ever.
            note_due(self.place.database, SystemTime::now() + WANTED_WAIT);
            return false;
        }
        if !self.place.is_kept() {
            note_due(self.place.database, SystemTime::now());
            return false;
        }
        let is_needed_elsewhere = self.start_elsewhere();
        let Some(agenda) = self.look() else { return false };
        match decide(&self.situation(agenda.next, is_needed_elsewhere)) {
            Next::Work => {
                if let Some(next) = agenda.due.first() {
                    self.work(next);
                }
                true
            }
            Next::Wait(most) => {
                wait(most);
                true
            }
            Next::Leave(next) => !self.leaves(next),
        }
    }

    fn situation(&mut self, next_due: Option<Duration>, is_needed_elsewhere: bool) -> Situation {
        if next_due == Some(Duration::ZERO) {
            self.last_due = Some(Instant::now());
        }
        let linger = worker_idle_timeout();
        Situation {
            next_due,
            // One that has not had anything to do does not linger.
            idle: self.last_due.map_or(linger, |last| last.elapsed()),
            served: self.began.elapsed(),
            linger,
            is_needed_elsewhere,
        }
    }

    /// Looks at the queue; nothing where the extension is gone.
    fn look(&mut self) -> Option<Agenda> {
        let found = in_transaction(|| queue::exists().then(upcoming));
        let found = match found {
            Ok(found) => found?,
            Err(error) => {
                // The tables of the extension are being changed, or somebody has cancelled the worker.
                pgrx::log!("vector_tools worker: could not look at the queue: {}", error.message);
                return Some(Agenda { due: vec![], next: Some(LOOK) });
            }
        };
        let now = Instant::now();
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        for mut table in found {
            let served = self.tables.get(&table.source);
            let pause = served.and_then(|served| served.pause);
            let pause = pause.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
            let overrun = with_overruns(|overruns| overruns.of(table.source.to_u32())).flatten();
            let left_alone = overrun.and_then(|overrun| overrun.until.duration_since(SystemTime::now()).ok());
            table.wait = table.wait.max(pause).max(left_alone.unwrap_or_default());
            next = Some(next.map_or(table.wait, |next| next.min(table.wait)));
            if table.wait.is_zero() {
                due.push((self.place_in_line(&table, overrun.is_some()), table));
            }
        }
        due.sort_by_key(|(order, _)| *order);
        Some(Agenda { due: due.into_iter().map(|(_, table)| table).collect(), next })
    }

    /// What tables that are due are sorted by. One with many rows does not keep others waiting, an owner with many tables
    /// does not keep other owners waiting, and one whose batches do not end comes after them all.
    fn place_in_line(&self, table: &Upcoming, is_late: bool) -> impl Ord + Copy + use<> {
        let owner = table.owner.unwrap_or_default();
        let is_owner_late = with_overruns(|overruns| overruns.has_owner(owner.to_u32())).unwrap_or(false);
        let of_owner = self.owners.get(&owner).copied();
        let last = self.tables.get(&table.source).and_then(|served| served.last);
        (is_late, is_owner_late, of_owner, last, table.source.to_u32())
    }

    /// Embeds a batch of a table.
    fn work(&mut self, table: &Upcoming) {
        let Upcoming { source, owner, .. } = *table;
        let began = Instant::now();
        let overrun = with_overruns(|overruns| overruns.of(source.to_u32())).flatten();
        let first_size = if overrun.is_some() { FEWEST_ROWS } else { MOST_ROWS };
        let size = self.tables.get(&source).map_or(first_size, |served| served.size);
        let times = overrun.map_or(0, |overrun| overrun.times);
        let limit = worker_batch_timeout().map(|limit| limit_after(limit, times));
        let name = RefCell::new(String::new());
        BATCH.set(Some((*table, limit)));
        let mut begun = None;
        let result = signals::in_batch(limit, || {
            begun = in_transaction(|| {
                if let Ok(relation) = catalog::open_table(source) {
                    name.replace(catalog::display_name(&relation));
                    settings::show_activity(Some(&format!("embedding rows of {}", name.borrow())));
                }
                // A worker that was lost over its batch may still have been on its way out when this one began.
                while requeue_abandoned(Some(source)).is_some() {}
                begin_batch_of(source, size)
            })?;
            begun.as_ref().map_or(Ok(Ok(None)), |batch| in_transaction(|| run_begun(batch)))
        });
        BATCH.set(None);
        background::give_back_memory();
        let served = self.tables.entry(source).or_insert(Served { size, last: None, pause: None, errors: 0 });
        served.last = Some(Instant::now());
        self.owners.insert(owner.unwrap_or_default(), Instant::now());
        match result {
            Ok(Ok(Some(report))) => {
                let rows = rows_of(&report);
                served.pause = None;
                served.errors = 0;
                if overrun.is_some()
                    && let Some(Err(error)) = with_overruns(|overruns| overruns.forget(source.to_u32()))
                {
                    pgrx::debug1!("could not note that a batch has come to its end: {error}");
                }
                // What is said of a few rows is not said of many.
                if rows >= size.min(FEWEST_ROWS) {
                    served.size = next_size(rows, began.elapsed());
                }
            }
            Ok(Ok(None)) => served.pause = Some(Instant::now() + HELD_WAIT),
            Ok(Err(error)) => {
                let sqlstate = error.facts().sqlstate.to_owned();
                self.fail(source, &name.take(), &Raised { sqlstate, message: error.to_string() });
            }
            Err(error) => {
                let is_overdue = signals::is_overdue();
                if is_overdue {
                    served.size = FEWEST_ROWS;
                    note_overrun(table, limit);
                }
                if let Some(batch) = &begun
                    && let Err(error) = in_transaction(|| {
                        if is_overdue {
                            requeue_overdue(batch);
                        } else {
                            take_off_own();
                        }
                    })
                {
                    pgrx::log!("vector_tools worker: could not note a batch: {}", error.message);
                }
                if !signals::is_stopping() {
                    self.fail(source, &name.take(), &error);
                }
            }
        }
    }

    /// Leaves a table alone for a while.
    fn fail(&mut self, source: pg_sys::Oid, name: &str, error: &Raised) {
        let Some(served) = self.tables.get_mut(&source) else { return };
        let pause = (LOOK * (1 << served.errors.min(16))).min(LONGEST_BREAK);
        served.errors += 1;
        served.pause = Some(Instant::now() + pause);
        pgrx::log!(
            "vector_tools worker: a batch of {name} failed, and is tried again after {} s: {} ({})",
            pause.as_secs(),
            error.message,
            error.sqlstate
        );
    }

    /// Gives its place up; `false` where there is something to do after all, and it has the place again.
    fn leaves(&mut self, next: Option<Duration>) -> bool {
        let note = |wait: Option<Duration>| {
            if let Some(wait) = wait {
                note_due(self.place.database, SystemTime::now() + wait);
            }
        };
        note(next);
        let database = self.place.database;
        self.place.give_up();
        // What was queued between the look and here (see `pg::worker`).
        let Some(agenda) = self.look() else { return true };
        let has_more = agenda.next == Some(Duration::ZERO) && next != agenda.next;
        if has_more && take(&mut self.place) {
            return false;
        }
        if let Some(wait) = agenda.next
            && ClusterLock::of_database(database).is_free()
        {
            note_due(database, SystemTime::now() + wait);
        }
        true
    }

    /// Starts workers for other databases that wait for one; tells whether some have to wait on.
    fn start_elsewhere(&mut self) -> bool {
        self.started.retain(|_, when| when.elapsed() < LOOK);
        let started: Vec<u32> = self.started.keys().copied().collect();
        let (new, is_one_left) = start_due(self.place.database, &started);
        self.started.extend(new.into_iter().map(|database| (database, Instant::now())));
        is_one_left
    }
}

/// Waits until the worker is woken, or until it is time to look at everything again: nobody tells it that the
/// extension has been dropped, or that somebody wants the database, and reading a page during the last
/// look may have reset the latch that was set for new rows.
fn wait(most: Duration) {
    settings::show_activity(None);
    // A request to cancel is meant for a batch, and there is none: the next look finds nothing.
    let _woken = calmly(|| wait_for_latch(most.min(LOOK)));
}

/// Rows that a batch has done something about.
fn rows_of(report: &BatchReport) -> usize {
    let rows = report.embedded.0 + report.unchanged + report.gone + report.failed;
    usize::try_from(rows).unwrap_or(0)
}

/// Starts workers for databases that are due, but for `own` and those that were started just now. Returns
/// those it has started one for, and whether others have to wait on.
pub(super) fn start_due(own: pg_sys::Oid, started: &[u32]) -> (Vec<u32>, bool) {
    let now = SystemTime::now();
    let due = due_files().list().unwrap_or_default();
    let is_waiting = |(when, database): &(SystemTime, u32)| {
        *when <= now && *database != own.to_u32() && !started.contains(database)
    };
    let waiting: Vec<u32> = due.into_iter().filter(is_waiting).map(|(_, database)| database).collect();
    if waiting.is_empty() || max_workers() == 0 {
        return (vec![], false);
    }
    let gone = in_transaction(|| gone(&waiting)).unwrap_or_default();
    let mut slots = free_slots().saturating_sub(started.len());
    let mut new = Vec::new();
    let mut is_one_left = false;
    for database in waiting {
        if gone.contains(&database) {
            forget_due(database);
            continue;
        }
        let oid = pg_sys::Oid::from(database);
        // It has one, which looks by itself.
        if !ClusterLock::of_database(oid).is_free() {
            continue;
        }
        if slots == 0 || register(oid).is_none() {
            is_one_left = slots == 0;
            break;
        }
        slots -= 1;
        new.push(database);
    }
    (new, is_one_left)
}

/// Those of these databases that are not there any more.
fn gone(databases: &[u32]) -> Vec<u32> {
    let is_gone = |database: &u32| {
        let key = pg_sys::Datum::from(pg_sys::Oid::from(*database));
        let nothing = pg_sys::Datum::from(0);
        let cache = pg_sys::SysCacheIdentifier::DATABASEOID as i32;
        // SAFETY: a look-up in a catalogue that all databases share, in a transaction.
        !unsafe { pg_sys::SearchSysCacheExists(cache, key, nothing, nothing, nothing) }
    };
    databases.iter().copied().filter(is_gone).collect()
}
