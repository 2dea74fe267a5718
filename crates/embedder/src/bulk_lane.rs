//! Requests of many tokens, run by worker threads that stand back for the short lane's.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use vector_tools_core::embed::batch::plan_batches;
use vector_tools_core::embed::{Embedder, Purpose};
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::session::WorkingMemory;

use crate::guarded::guarded;
use crate::models::{Model, lock};
use crate::pace::{Pace, RECENT};
use crate::peer::Peer;
use crate::process;

/// Tokens of a batch, padding included. Batches of four times as many took as long for a text and
/// twice the memory, and a query beside them waits for less of the caches.
const BATCH_TOKENS: usize = 512;
/// Texts that are tokenized in one piece of work.
const TOKENIZED_TEXTS: usize = 64;

/// The queue of the jobs and the workers' bell.
pub struct BulkLane {
    state: Mutex<State>,
    work: Condvar,
    threads: usize,
    pace: Pace,
    /// Bytes of private memory above which one batch runs at a time.
    enough_memory: Option<u64>,
    /// Whether memory was over its limit when somebody looked last. What a batch is going to take is not known when it
    /// begins, so two that began below the limit may be over it together, again and again.
    is_over_limit: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The jobs of each connection, in the order in which connections get their next turn.
    turns: VecDeque<(u64, VecDeque<Arc<Job>>)>,
    started: usize,
    /// Pieces under way.
    running: usize,
    /// How often workers without work were asked to give the memory of their last piece back.
    asked: u64,
}

/// A request of many tokens.
pub struct Job {
    connection: u64,
    model: Arc<Model>,
    purpose: Purpose,
    texts: Vec<String>,
    peer: Arc<Peer>,
    progress: Mutex<Progress>,
    cancelled: AtomicBool,
    /// Signalled when it is done.
    done: Arc<OwnedFd>,
}

#[derive(Default)]
struct Progress {
    /// Texts given out to be tokenized.
    tokenizing: usize,
    /// Pieces of work under way.
    running: usize,
    sequences: Vec<Vec<u32>>,
    tokenized: usize,
    /// Planned when all texts are tokenized.
    batches: Option<Vec<Vec<usize>>>,
    started_batches: usize,
    finished_batches: usize,
    finished_texts: usize,
    vectors: Vec<f32>,
    failure: Option<Error>,
}

/// A piece of a job.
enum Piece {
    Tokenize { start: usize, end: usize },
    Run { indices: Vec<usize>, sequences: Vec<Vec<u32>> },
}

impl BulkLane {
    /// A lane of so many worker threads, which are started with the first job, and which work one
    /// after another when memory comes near its limit.
    pub fn new(threads: usize, memory_limit: Option<u64>) -> Arc<BulkLane> {
        let enough_memory = memory_limit.map(|limit| limit - limit / 8);
        let (state, work, pace) = (Mutex::default(), Condvar::new(), Pace::new(threads));
        let is_over_limit = AtomicBool::new(false);
        Arc::new(BulkLane { state, work, threads, pace, enough_memory, is_over_limit })
    }

    /// Notes that a query has come, which bulk work makes room for.
    pub fn note_query(&self) {
        self.pace.note_query();
    }

    /// Has one batch run at a time from now on, or no longer.
    pub fn note_limit(&self, is_over: bool) {
        if self.is_over_limit.swap(is_over, Relaxed) && !is_over {
            // Whoever has just found that memory is short is waiting by now, and hears it.
            drop(lock(&self.state));
            self.work.notify_all();
        }
    }

    /// Has each worker that waits give back the memory that its last piece worked in.
    pub fn give_memory_back(&self) {
        lock(&self.state).asked += 1;
        self.work.notify_all();
    }

    /// Queues a job.
    pub fn submit(self: &Arc<BulkLane>, job: Arc<Job>) -> Result<()> {
        job.model.counters().queued.fetch_add(job.texts.len() as u64, Relaxed);
        let mut state = lock(&self.state);
        while state.started < self.threads {
            let lane = Arc::clone(self);
            let builder = thread::Builder::new().name("bulk".into());
            match builder.spawn(move || lane.work()) {
                Ok(_) => state.started += 1,
                Err(_) if state.started > 0 => break,
                Err(error) => return Err(Error::InferenceFailed { reason: error.to_string() }),
            }
        }
        match state.turns.iter_mut().find(|(connection, _)| *connection == job.connection) {
            Some((_, jobs)) => jobs.push_back(job),
            None => state.turns.push_back((job.connection, VecDeque::from([job]))),
        }
        drop(state);
        self.work.notify_all();
        Ok(())
    }

    /// The life of a worker.
    fn work(&self) {
        process::stand_back();
        loop {
            let (job, piece) = self.next_piece();
            let memory = if self.is_short_of_memory() {
                WorkingMemory::GivenBack
            } else {
                WorkingMemory::RelationCache
            };
            let more = job.do_piece(piece, memory);
            lock(&self.state).running -= 1;
            // Other pieces have become possible, or others wait for this one's memory.
            if more || memory == WorkingMemory::GivenBack {
                self.work.notify_all();
            }
        }
    }

    fn is_short_of_memory(&self) -> bool {
        self.is_over_limit.load(Relaxed)
            || self.enough_memory.is_some_and(|enough| process::private_memory() > enough)
    }

    /// Waits for the next piece: connections take turns, and a connection's jobs follow each other.
    fn next_piece(&self) -> (Arc<Job>, Piece) {
        let mut state = lock(&self.state);
        // What the last piece worked in stays for the next one, where that comes soon and memory is not short.
        let mut keeps_memory = true;
        let mut asked = state.asked;
        loop {
            let turns = state.turns.len();
            let rests = turns > 0 && state.running >= self.pace.at_once();
            let is_short = state.running > 0 && turns > 0 && self.is_short_of_memory();
            if is_short && keeps_memory || state.asked != asked {
                (keeps_memory, asked) = (false, state.asked);
                drop(state);
                process::trim_memory_of_thread();
                state = lock(&self.state);
                continue;
            }
            for _ in 0..if rests || is_short { 0 } else { turns } {
                let Some((connection, mut jobs)) = state.turns.pop_front() else { break };
                jobs.retain(|job| !job.is_given_out());
                let found = jobs.iter().find_map(|job| Some((Arc::clone(job), job.next_piece()?)));
                if !jobs.is_empty() {
                    state.turns.push_back((connection, jobs));
                }
                if let Some(found) = found {
                    state.running += 1;
                    return found;
                }
            }
            state = if rests {
                // Nobody rings when queries come no more.
                self.work.wait_timeout(state, RECENT).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }
}

impl Job {
    /// A job for the texts of one request; `done` is signalled at its end.
    pub fn new(
        connection: u64,
        model: Arc<Model>,
        purpose: Purpose,
        texts: Vec<String>,
        peer: Arc<Peer>,
        done: Arc<OwnedFd>,
    ) -> Arc<Job> {
        let count = texts.len();
        let progress = Progress {
            sequences: vec![Vec::new(); count],
            vectors: vec![0.0; count * model.embedder().dimensions()],
            ..Progress::default()
        };
        let progress = Mutex::new(progress);
        let cancelled = AtomicBool::new(false);
        Arc::new(Job { connection, model, purpose, texts, peer, progress, cancelled, done })
    }

    /// Drops what has not begun.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Its result once it is done, to be taken once.
    pub fn take_result(&self) -> Option<Result<Vec<f32>>> {
        let mut progress = lock(&self.progress);
        if !progress.is_done() {
            return None;
        }
        Some(match progress.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut progress.vectors)),
        })
    }

    /// The number of its texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    fn is_given_out(&self) -> bool {
        let progress = lock(&self.progress);
        progress.failure.is_some()
            || self.cancelled.load(Relaxed)
            || progress.batches.as_ref().is_some_and(|batches| progress.started_batches == batches.len())
    }

    /// The next piece, unless it waits for others to be done.
    fn next_piece(&self) -> Option<Piece> {
        let mut progress = lock(&self.progress);
        if progress.failure.is_some() || self.cancelled.load(Relaxed) {
            return None;
        }
        let piece = if progress.tokenizing < self.texts.len() {
            let start = progress.tokenizing;
            let end = (start + TOKENIZED_TEXTS).min(self.texts.len());
            progress.tokenizing = end;
            Piece::Tokenize { start, end }
        } else {
            let next = progress.started_batches;
            let indices = progress.batches.as_ref()?.get(next)?.clone();
            let sequences =
                indices.iter().map(|index| std::mem::take(&mut progress.sequences[*index])).collect();
            progress.started_batches += 1;
            Piece::Run { indices, sequences }
        };
        progress.running += 1;
        Some(piece)
    }

    /// Does a piece; says whether others have become possible.
    fn do_piece(&self, piece: Piece, memory: WorkingMemory) -> bool {
        // Before each piece, so that at most one more is run for a client that has gone.
        let result = if self.cancelled.load(Relaxed) || self.peer.is_gone() {
            Err(Peer::gone_error())
        } else {
            guarded(|| self.result_of(&piece, memory))
        };
        let mut progress = lock(&self.progress);
        progress.running -= 1;
        let mut planned = false;
        match result {
            Err(error) => {
                progress.failure.get_or_insert(error);
            }
            Ok(Done::Sequences(sequences)) => {
                if let Piece::Tokenize { start, end } = piece {
                    progress.tokenized += end - start;
                    progress.sequences.splice(start..end, sequences);
                }
                if progress.tokenized == self.texts.len() {
                    let lengths: Vec<usize> = progress.sequences.iter().map(Vec::len).collect();
                    progress.batches = Some(plan_batches(&lengths, BATCH_TOKENS));
                    planned = true;
                }
            }
            Ok(Done::Vectors(vectors)) => {
                let dimensions = self.model.embedder().dimensions();
                if let Piece::Run { indices, .. } = piece {
                    for (index, vector) in indices.iter().zip(vectors.chunks_exact(dimensions)) {
                        progress.vectors[index * dimensions..][..dimensions].copy_from_slice(vector);
                    }
                    progress.finished_texts += indices.len();
                    self.model.counters().queued.fetch_sub(indices.len() as u64, Relaxed);
                }
                progress.finished_batches += 1;
            }
        }
        if progress.is_done() {
            drop(progress);
            // It holds a counter, which cannot be full.
            let _ = rustix::io::write(&self.done, &1u64.to_ne_bytes());
        }
        planned
    }

    fn result_of(&self, piece: &Piece, memory: WorkingMemory) -> Result<Done> {
        match piece {
            Piece::Tokenize { start, end } => {
                let tokenize = |text: &String| self.model.embedder().sequence(text, self.purpose);
                let sequences: Result<_> = self.texts[*start..*end].iter().map(tokenize).collect();
                sequences.map(Done::Sequences)
            }
            Piece::Run { sequences, .. } => {
                let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
                self.model.run(&sequences, memory).map(Done::Vectors)
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let dropped = self.texts.len() - lock(&self.progress).finished_texts;
        self.model.counters().queued.fetch_sub(dropped as u64, Relaxed);
    }
}

enum Done {
    Sequences(Vec<Vec<u32>>),
    Vectors(Vec<f32>),
}

impl Progress {
    fn is_done(&self) -> bool {
        let all = self.batches.as_ref().is_some_and(|batches| self.finished_batches == batches.len());
        self.running == 0 && (all || self.failure.is_some())
    }
}
