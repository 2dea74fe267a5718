//! Requests of few tokens: queries, and single short passages.
//!
//! There are no worker threads. A connection's own thread takes one of the permits, if one is free,
//! and leads: it forms a batch of what waits in the queue, its own sequences and others', runs it,
//! hands out the vectors, and when its own request is done it passes the lead to the owner of the
//! next sequence in the queue. So a lone query changes threads nowhere, nobody waits for a batch to
//! fill, and under load batches form by themselves, because requests arrive while others run.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use vector_tools::embedding::Embedder;
use vector_tools::error::{Error, Result};
use vector_tools::model::session::WorkingMemory;

use crate::models::{Model, lock};
use crate::peer::Peer;

/// The most tokens of a batch, padding included. Longer ones give no more texts a second.
const BATCH_TOKENS: usize = 1024;
/// The most of a batch that may be padding, as a divisor.
const PADDING_SHARE: usize = 3;

/// How long a leader waits for a fair batch to fill while others run: a hundredth of what such a
/// batch takes, and enough for the clients of the last batch to ask again.
const GATHERING: Duration = Duration::from_micros(200);

/// The queue and the permits.
pub struct ShortLane {
    state: Mutex<State>,
    permits: usize,
    /// The queue has as many sequences as a leader waits for.
    gathered: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    /// Permits in use.
    running: usize,
    /// Sequences in batches under way.
    sequences: usize,
    /// How many sequences a leader waits for.
    wanted: usize,
}

/// A sequence in the queue.
struct Waiting {
    tokens: Vec<u32>,
    place: usize,
    request: Arc<Request>,
}

struct Request {
    model: Arc<Model>,
    peer: Arc<Peer>,
    /// Whether its owner has the lead or is about to wake and take it.
    leads: AtomicBool,
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
    pub fn new(permits: usize) -> ShortLane {
        ShortLane { state: Mutex::default(), permits, gathered: Condvar::new() }
    }

    /// The vectors of `sequences`, none of them empty, one after another.
    ///
    /// # Errors
    /// Those of running the model.
    pub fn embed(&self, model: &Arc<Model>, sequences: Vec<Vec<u32>>, peer: &Arc<Peer>) -> Result<Vec<f32>> {
        let count = sequences.len();
        let request = Arc::new(Request {
            model: Arc::clone(model),
            peer: Arc::clone(peer),
            outcome: Mutex::new(Outcome {
                vectors: vec![0.0; count * model.embedder().dimensions()],
                missing: count,
                failure: None,
            }),
            leads: AtomicBool::new(false),
            changed: Condvar::new(),
        });
        model.counters().queued.fetch_add(count as u64, Relaxed);
        let mut state = lock(&self.state);
        for (place, tokens) in sequences.into_iter().enumerate() {
            state.queue.push_back(Waiting { tokens, place, request: Arc::clone(&request) });
        }
        let leads = state.running < self.permits;
        state.running += usize::from(leads);
        request.leads.store(leads, Relaxed);
        if state.wanted > 0 && state.queue.len() >= state.wanted {
            self.gathered.notify_one();
        }
        drop(state);
        if leads || request.wait() {
            self.lead(&request);
        }
        let mut outcome = lock(&request.outcome);
        match outcome.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(mem::take(&mut outcome.vectors)),
        }
    }

    /// Runs batches until none of `own` is in the queue, then passes the lead on.
    fn lead(&self, own: &Arc<Request>) {
        while let Some(batch) = self.next_batch(own) {
            let count = batch.len();
            run(batch);
            lock(&self.state).sequences -= count;
        }
        let mut state = lock(&self.state);
        if !state.queue.iter().any(|next| next.request.becomes_leader()) {
            state.running -= 1;
        }
        drop(state);
        own.wait_until_done();
    }

    /// Takes a batch from the queue: the first sequence of `own`, and others that go well with it.
    fn next_batch(&self, own: &Arc<Request>) -> Option<Vec<Waiting>> {
        // Other leaders take their own sequences themselves.
        let is_free = |next: &Waiting| Arc::ptr_eq(&next.request, own) || !next.request.leads.load(Relaxed);
        let mut state = lock(&self.state);
        // Each permit's share of all that is there, so that none takes everything while others
        // would find nothing. It is one as long as there are no more sequences than permits.
        let share = (state.queue.len() + state.sequences).div_ceil(self.permits);
        let is_short = |state: &mut State| state.queue.iter().filter(|next| is_free(next)).count() < share;
        if is_short(&mut state) {
            state.wanted = share;
            (state, _) = self
                .gathered
                .wait_timeout_while(state, GATHERING, is_short)
                .unwrap_or_else(PoisonError::into_inner);
            state.wanted = 0;
        }
        let first = state.queue.iter().position(|next| Arc::ptr_eq(&next.request, own))?;
        let first = state.queue.remove(first)?;
        let (mut width, mut tokens) = (first.tokens.len(), first.tokens.len());
        let mut batch = vec![first];
        let mut index = 0;
        while index < state.queue.len() && batch.len() < share {
            let next = &state.queue[index];
            let wider = width.max(next.tokens.len());
            let padded = wider * (batch.len() + 1);
            let filled = tokens + next.tokens.len();
            let fits = padded <= BATCH_TOKENS && (padded - filled) * PADDING_SHARE <= padded;
            if fits
                && is_free(next)
                && goes_with(own, &next.request)
                && let Some(next) = state.queue.remove(index)
            {
                (width, tokens) = (wider, filled);
                batch.push(next);
            } else {
                index += 1;
            }
        }
        state.sequences += batch.len();
        Some(batch)
    }
}

fn goes_with(first: &Arc<Request>, next: &Arc<Request>) -> bool {
    Arc::ptr_eq(first, next) || (first.model.shares_batches() && Arc::ptr_eq(&first.model, &next.model))
}

/// Runs a batch of one model and hands out its vectors.
fn run(batch: Vec<Waiting>) {
    let model = Arc::clone(&batch[0].request.model);
    model.counters().queued.fetch_sub(batch.len() as u64, Relaxed);
    let (gone, batch): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|waiting| waiting.request.peer.is_gone());
    for waiting in gone {
        waiting.request.finish(waiting.place, Err(Peer::gone_error()));
    }
    if batch.is_empty() {
        return;
    }
    let sequences: Vec<&[u32]> = batch.iter().map(|waiting| waiting.tokens.as_slice()).collect();
    match model.run(&sequences, WorkingMemory::Kept) {
        Ok(vectors) => {
            let dimensions = model.embedder().dimensions();
            for (waiting, vector) in batch.iter().zip(vectors.chunks_exact(dimensions)) {
                waiting.request.finish(waiting.place, Ok(vector));
            }
        }
        Err(error) if batch.len() == 1 => batch[0].request.finish(batch[0].place, Err(error)),
        // One sequence's failure is not the others'.
        Err(_) => {
            for waiting in &batch {
                let result = model.run(&[&waiting.tokens], WorkingMemory::Kept);
                waiting.request.finish(waiting.place, result.as_deref().map_err(Clone::clone));
            }
        }
    }
}

impl Request {
    /// Waits until the request is done or gets the lead; says whether it has the lead.
    fn wait(&self) -> bool {
        let mut outcome = lock(&self.outcome);
        while outcome.missing > 0 && !self.leads.load(Relaxed) {
            outcome = self.changed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
        self.leads.load(Relaxed)
    }

    fn wait_until_done(&self) {
        let mut outcome = lock(&self.outcome);
        while outcome.missing > 0 {
            outcome = self.changed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives it the lead unless it has it.
    fn becomes_leader(&self) -> bool {
        // Under the lock under which its owner looks.
        let _outcome = lock(&self.outcome);
        let had = self.leads.swap(true, Relaxed);
        self.changed.notify_one();
        !had
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
