//! Requests of few tokens: queries, and single short passages.
//!
//! As many batches run at once as there are permits. A connection's own thread takes a permit if one
//! is free and runs its request itself, so that a lone query changes threads nowhere. While all
//! permits are taken, requests wait in a queue, and batches form by themselves. A thread that is done
//! with its own request and finds others waiting hands its permit to a worker thread, which runs
//! batch after batch as long as there is something to run: handing the permit from one connection's
//! thread to the next at each batch left a third of the processors idle. What several sessions ask
//! in the same tokens while it waits runs once.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use vector_tools_core::embed::Embedder;
use vector_tools_core::error::{Error, Result};
use vector_tools_core::model::session::WorkingMemory;

use crate::models::{Model, lock};
use crate::peer::Peer;

/// The most tokens of a batch, padding included. Longer ones give no more texts a second.
const BATCH_TOKENS: usize = 1024;
/// The most of a batch that may be padding, as a divisor.
const PADDING_SHARE: usize = 3;
/// Places of the queue in which a full batch still looks for the tokens that it has.
const LOOKED_THROUGH: usize = 64;

/// How long to wait for a fair batch to fill while others run: a hundredth of what such a
/// batch takes, and enough for the clients of the last batch to ask again.
const GATHERING: Duration = Duration::from_micros(200);

/// The queue and the permits.
pub struct ShortLane {
    state: Mutex<State>,
    permits: usize,
    /// The queue has as many sequences as someone waits for.
    gathered: Condvar,
    /// A permit was handed to the workers.
    handed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// Permits in use.
    running: usize,
    /// Sequences in batches under way.
    sequences: usize,
    /// How many sequences someone waits for.
    wanted: usize,
    /// Permits that wait for a worker.
    handed: usize,
    /// Workers that were started.
    workers: usize,
}

/// A sequence in the queue.
struct Waiting {
    tokens: Vec<u32>,
    place: usize,
    request: Arc<Request>,
}

/// Sequences of the same tokens, which run once.
type Same = Vec<Waiting>;

struct Request {
    model: Arc<Model>,
    peer: Arc<Peer>,
    outcome: Mutex<Outcome>,
    changed: Condvar,
}

struct Outcome {
    vectors: Vec<f32>,
    missing: usize,
    failure: Option<Error>,
}

impl ShortLane {
    /// A lane in which up to `permits` batches run at once.
    pub fn new(permits: usize) -> Arc<ShortLane> {
        let (gathered, handed) = (Condvar::new(), Condvar::new());
        Arc::new(ShortLane { state: Mutex::default(), permits, gathered, handed })
    }

    /// The vectors of `sequences`, none of them empty, one after another.
    ///
    /// # Errors
    /// Those of running the model.
    pub fn embed(
        self: &Arc<ShortLane>,
        model: &Arc<Model>,
        sequences: Vec<Vec<u32>>,
        peer: &Arc<Peer>,
    ) -> Result<Vec<f32>> {
        let count = sequences.len();
        let request = Arc::new(Request {
            model: Arc::clone(model),
            peer: Arc::clone(peer),
            outcome: Mutex::new(Outcome {
                vectors: vec![0.0; count * model.embedder().dimensions()],
                missing: count,
                failure: None,
            }),
            changed: Condvar::new(),
        });
        model.counters().queued.fetch_add(count as u64, Relaxed);
        let mut state = lock(&self.state);
        for (place, tokens) in sequences.into_iter().enumerate() {
            state.queue.push_back(Waiting { tokens, place, request: Arc::clone(&request) });
        }
        let has_permit = state.running < self.permits;
        state.running += usize::from(has_permit);
        if state.wanted > 0 && state.queue.len() >= state.wanted {
            self.gathered.notify_one();
        }
        drop(state);
        if has_permit {
            while self.run_batch(Some(&request)) {}
            self.pass_permit_on();
        }
        request.wait_until_done();
        let mut outcome = lock(&request.outcome);
        match outcome.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(mem::take(&mut outcome.vectors)),
        }
    }

    /// Gives the permit back, or to a worker if there is something to run.
    fn pass_permit_on(self: &Arc<ShortLane>) {
        let mut state = lock(&self.state);
        if state.queue.is_empty() {
            state.running -= 1;
            return;
        }
        if state.workers < self.permits {
            let lane = Arc::clone(self);
            if thread::Builder::new().name("queries".into()).spawn(move || lane.work()).is_ok() {
                state.workers += 1;
            }
        }
        if state.workers > 0 {
            state.handed += 1;
            self.handed.notify_one();
            return;
        }
        drop(state);
        // No thread can be had, so this one does it.
        self.run_all();
    }

    /// The life of a worker.
    fn work(&self) {
        loop {
            let state = lock(&self.state);
            let state = self.handed.wait_while(state, |state| state.handed == 0);
            state.unwrap_or_else(PoisonError::into_inner).handed -= 1;
            self.run_all();
        }
    }

    /// Runs batches until nothing waits, then gives the permit back.
    fn run_all(&self) {
        loop {
            while self.run_batch(None) {}
            let mut state = lock(&self.state);
            // What came since is not left without a permit.
            if state.queue.is_empty() {
                state.running -= 1;
                return;
            }
        }
    }

    /// Runs one batch, of which sequences of `own` are the first if it is given. Says whether there
    /// was one.
    fn run_batch(&self, own: Option<&Arc<Request>>) -> bool {
        let Some(batch) = self.next_batch(own) else { return false };
        let count = batch.iter().map(Vec::len).sum::<usize>();
        run(batch);
        lock(&self.state).sequences -= count;
        true
    }

    /// Takes a batch from the queue: the first sequence, and others that go well with it.
    fn next_batch(&self, own: Option<&Arc<Request>>) -> Option<Vec<Same>> {
        let is_own = |next: &Waiting| own.is_none_or(|own| Arc::ptr_eq(&next.request, own));
        let mut state = lock(&self.state);
        if own.is_some() && !state.queue.iter().any(is_own) {
            return None;
        }
        // Each permit's share of all that is there, so that none takes everything while others
        // would find nothing. It is one as long as there are no more sequences than permits.
        let share = (state.queue.len() + state.sequences).div_ceil(self.permits);
        if state.queue.len() < share {
            state.wanted = share;
            (state, _) = self
                .gathered
                .wait_timeout_while(state, GATHERING, |state| state.queue.len() < share)
                .unwrap_or_else(PoisonError::into_inner);
            state.wanted = 0;
        }
        let first = state.queue.iter().position(is_own)?;
        let first = state.queue.remove(first)?;
        let (mut width, mut tokens) = (first.tokens.len(), first.tokens.len());
        let mut batch = vec![vec![first]];
        let mut index = 0;
        while index < state.queue.len() && (batch.len() < share || index < LOOKED_THROUGH) {
            let next = &state.queue[index];
            let wider = width.max(next.tokens.len());
            let padded = wider * (batch.len() + 1);
            let filled = tokens + next.tokens.len();
            let goes = goes_with(&batch[0][0].request, &next.request);
            let same = batch.iter().position(|same| goes && same[0].tokens == next.tokens);
            let fits =
                batch.len() < share && padded <= BATCH_TOKENS && (padded - filled) * PADDING_SHARE <= padded;
            if !goes || (same.is_none() && !fits) {
                index += 1;
                continue;
            }
            let Some(next) = state.queue.remove(index) else { break };
            match same {
                Some(same) => batch[same].push(next),
                None => {
                    (width, tokens) = (wider, filled);
                    batch.push(vec![next]);
                }
            }
        }
        state.sequences += batch.iter().map(Vec::len).sum::<usize>();
        Some(batch)
    }
}

fn goes_with(first: &Arc<Request>, next: &Arc<Request>) -> bool {
    Arc::ptr_eq(first, next) || (first.model.shares_batches() && Arc::ptr_eq(&first.model, &next.model))
}

/// Runs a batch of one model and hands out its vectors.
fn run(mut batch: Vec<Same>) {
    let model = Arc::clone(&batch[0][0].request.model);
    let count = batch.iter().map(Vec::len).sum::<usize>();
    model.counters().queued.fetch_sub(count as u64, Relaxed);
    for same in &mut batch {
        for waiting in same.extract_if(.., |waiting| waiting.request.peer.is_gone()) {
            waiting.finish(Err(Peer::gone_error()));
        }
    }
    batch.retain(|same| !same.is_empty());
    if batch.is_empty() {
        return;
    }
    let sequences: Vec<&[u32]> = batch.iter().map(|same| same[0].tokens.as_slice()).collect();
    match model.run(&sequences, WorkingMemory::RelationCache) {
        Ok(vectors) => {
            let dimensions = model.embedder().dimensions();
            for (same, vector) in batch.iter().zip(vectors.chunks_exact(dimensions)) {
                same.iter().for_each(|waiting| waiting.finish(Ok(vector)));
            }
        }
        Err(error) if batch.len() == 1 => {
            batch[0].iter().for_each(|waiting| waiting.finish(Err(error.clone())));
        }
        // One sequence's failure is not the others'.
        Err(_) => {
            for same in &batch {
                let result = model.run(&[&same[0].tokens], WorkingMemory::RelationCache);
                same.iter().for_each(|waiting| waiting.finish(result.as_deref().map_err(Clone::clone)));
            }
        }
    }
}

impl Waiting {
    fn finish(&self, result: Result<&[f32]>) {
        self.request.finish(self.place, result);
    }
}

impl Request {
    fn wait_until_done(&self) {
        let mut outcome = lock(&self.outcome);
        while outcome.missing > 0 {
            outcome = self.changed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, place: usize, result: Result<&[f32], Error>) {
        let mut outcome = lock(&self.outcome);
        outcome.missing -= 1;
        match result {
            Ok(vector) => outcome.vectors[place * vector.len()..][..vector.len()].copy_from_slice(vector),
            Err(error) => outcome.failure = Some(error),
        }
        if outcome.missing == 0 {
            drop(outcome);
            self.changed.notify_one();
        }
    }
}
