//! One client's requests, answered in their order by a thread of its own.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{self, Errno};
use rustix::net::{RecvFlags, SendFlags, send};
use vector_tools_core::embed::Purpose;
use vector_tools_core::embed::protocol::{
    BUILD, MOST_MODELS, REQUESTS_IN_FLIGHT, Request, Response, path_of,
};
use vector_tools_core::error::{Error, Result};

use crate::bulk_lane::Job;
use crate::guarded::guarded;
use crate::incoming::Incoming;
use crate::models::{Entry, Model};
use crate::peer::Peer;
use crate::server::{Busy, Server};

/// The most tokens of a request in the short lane.
const SHORT_TOKENS: usize = 512;
/// Bytes that a tokenizer first reads for each token it wants.
const BYTES_PER_TOKEN: usize = 8;

/// A client and what it has asked.
pub struct Connection<'a> {
    server: &'a Server,
    number: u64,
    peer: Arc<Peer>,
    incoming: Incoming,
    greeted: bool,
    models: HashMap<u32, Arc<Entry>>,
    pending: VecDeque<Pending<'a>>,
    /// Rung by jobs that are done; made with the first.
    bell: Option<Arc<OwnedFd>>,
}

/// A request that was read and is not answered yet.
struct Pending<'a> {
    answer: Answer,
    _busy: Option<Busy<'a>>,
}

enum Answer {
    /// A frame.
    Ready(Vec<u8>),
    Bulk {
        job: Arc<Job>,
        entry: Arc<Entry>,
    },
}

impl<'a> Connection<'a> {
    /// A connection that nothing was read from yet.
    pub fn new(server: &'a Server, number: u64, peer: Arc<Peer>) -> Connection<'a> {
        Connection {
            server,
            number,
            peer,
            incoming: Incoming::default(),
            greeted: false,
            models: HashMap::new(),
            pending: VecDeque::new(),
            bell: None,
        }
    }

    /// Answers requests until the client sends no more, is gone, or breaks the rules.
    ///
    /// # Errors
    /// Those of the socket, which nobody is there to hear.
    pub fn serve(mut self) -> io::Result<()> {
        let mut broken = false;
        loop {
            self.answer_finished()?;
            if (broken || self.incoming.has_ended()) && self.pending.is_empty() {
                match self.incoming.frame() {
                    Ok(Some(_)) if !broken => {}
                    _ => return Ok(()),
                }
            }
            let frame = match self.incoming.frame() {
                Ok(frame) => frame.filter(|_| !broken && self.pending.len() < REQUESTS_IN_FLIGHT),
                Err(error) if !broken => {
                    broken = true;
                    self.pending.push_back(Pending { answer: failure(&error), _busy: None });
                    continue;
                }
                Err(_) => None,
            };
            let Some(frame) = frame else {
                self.wait()?;
                continue;
            };
            // Taken out, because the request borrows its texts from it.
            let mut incoming = mem::take(&mut self.incoming);
            let pending = self.handle(incoming.bytes(frame.clone())).unwrap_or_else(|error| {
                broken = matches!(error, Error::ProtocolViolation { .. });
                Pending { answer: failure(&error), _busy: None }
            });
            incoming.consume(frame);
            self.incoming = incoming;
            self.pending.push_back(pending);
        }
    }

    fn handle(&mut self, frame: &[u8]) -> Result<Pending<'a>> {
        let request = Request::read(frame)?;
        if !self.greeted && !matches!(request, Request::Hello { .. }) {
            return Err(Error::ProtocolViolation { reason: "the first request is no greeting".to_owned() });
        }
        // Being asked for statistics is not being needed.
        let busy = (!matches!(request, Request::Statistics)).then(|| self.server.begin_request());
        let response = match request {
            Request::Hello { build: BUILD } => {
                self.greeted = true;
                Response::Welcome
            }
            Request::Hello { build } => {
                let reason = format!("the session is of build {build}, the process of {BUILD}");
                return Err(Error::ProtocolViolation { reason });
            }
            Request::Open { model, record, source } => {
                if model >= MOST_MODELS {
                    let reason = format!("model number {model}, where {MOST_MODELS} are the most");
                    return Err(Error::ProtocolViolation { reason });
                }
                let entry = self.server.models.entry(&record, path_of(source).to_owned())?;
                let loaded = self.server.models.get(&entry)?;
                self.models.insert(model, entry);
                let special_tokens = loaded.embedder().tokenizer().special_tokens() as u32;
                Response::Opened { dimensions: record.dimensions as u32, special_tokens }
            }
            Request::Embed { model, purpose, texts } => {
                let answer = self.embed(model, purpose, &texts)?;
                return Ok(Pending { answer, _busy: busy });
            }
            Request::CountTokens { model, text } => {
                let loaded = self.server.models.get(self.entry(model)?)?;
                let tokens = guarded(|| loaded.embedder().tokenizer().count_piece(text))?;
                Response::Counted { tokens: tokens as u64 }
            }
            Request::Statistics => Response::Statistics(self.server.statistics()),
        };
        Ok(Pending { answer: ready(&response)?, _busy: busy })
    }

    fn entry(&self, number: u32) -> Result<&Arc<Entry>> {
        self.models.get(&number).ok_or_else(|| Error::ProtocolViolation {
            reason: format!("model number {number} was not opened"),
        })
    }

    fn embed(&mut self, number: u32, purpose: Purpose, texts: &[&str]) -> Result<Answer> {
        let arrived = Instant::now();
        let entry = Arc::clone(self.entry(number)?);
        let result = self.server.models.get(&entry).and_then(|model| {
            // Behind a job the answer has to wait anyway.
            let sequences =
                if self.pending.is_empty() { short_sequences(&model, purpose, texts)? } else { None };
            if let Some(sequences) = sequences {
                self.server.bulk_lane.note_query();
                let vectors = self.server.short_lane.embed(&model, sequences, &self.peer)?;
                entry.counters().times.add(arrived.elapsed());
                return embedded(&entry, texts.len(), &vectors);
            }
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            let (peer, bell) = (Arc::clone(&self.peer), self.bell()?);
            let job = Job::new(self.number, model, purpose, texts, peer, bell);
            self.server.bulk_lane.submit(Arc::clone(&job))?;
            Ok(Answer::Bulk { job, entry: Arc::clone(&entry) })
        });
        if result.is_err() {
            entry.counters().failures.fetch_add(1, Relaxed);
        }
        result
    }

    fn bell(&mut self) -> Result<Arc<OwnedFd>> {
        if self.bell.is_none() {
            let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|error| Error::InferenceFailed { reason: error.to_string() })?;
            self.bell = Some(Arc::new(bell));
        }
        self.bell.clone().ok_or_else(|| Error::InferenceFailed { reason: "no descriptor is left".to_owned() })
    }

    /// Sends the answers that are there, in the order of the requests.
    fn answer_finished(&mut self) -> io::Result<()> {
        while let Some(first) = self.pending.front() {
            let result = match &first.answer {
                Answer::Ready(_) => None,
                Answer::Bulk { job, .. } => match job.take_result() {
                    Some(result) => Some(result),
                    None => return Ok(()),
                },
            };
            let Some(Pending { answer, _busy }) = self.pending.pop_front() else { return Ok(()) };
            let frame = match (answer, result) {
                (Answer::Ready(frame), _) => frame,
                (Answer::Bulk { job, entry }, Some(result)) => {
                    let answer = result.and_then(|vectors| embedded(&entry, job.len(), &vectors));
                    let answer = answer.unwrap_or_else(|error| {
                        entry.counters().failures.fetch_add(1, Relaxed);
                        failure(&error)
                    });
                    match answer {
                        Answer::Ready(frame) => frame,
                        Answer::Bulk { .. } => continue,
                    }
                }
                (Answer::Bulk { .. }, None) => continue,
            };
            self.send(&frame)?;
        }
        Ok(())
    }

    /// Waits for bytes of the client or the end of a job.
    fn wait(&mut self) -> io::Result<()> {
        let (Some(bell), false) = (&self.bell, self.pending.is_empty()) else {
            return self.incoming.fill(&*self.peer, RecvFlags::empty());
        };
        let reading = if self.incoming.can_grow() { PollFlags::IN } else { PollFlags::empty() };
        let mut awaited = [PollFd::new(&*self.peer, reading), PollFd::new(&**bell, PollFlags::IN)];
        match poll(&mut awaited, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        }
        let (socket, rung) = (awaited[0].revents(), awaited[1].revents());
        if socket.contains(PollFlags::HUP) {
            return Err(Errno::PIPE);
        }
        if rung.contains(PollFlags::IN) {
            // It says that some job is done, not which.
            let _ = io::read(&**bell, &mut [0; 8]);
        }
        if socket.contains(PollFlags::IN) {
            self.incoming.fill(&*self.peer, RecvFlags::DONTWAIT)?;
        }
        Ok(())
    }

    /// Sends a frame. Meanwhile it reads on, because the client may be sending a request and not
    /// read before it has.
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut rest = frame;
        while !rest.is_empty() {
            match send(&*self.peer, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let reading = if self.incoming.can_grow() { PollFlags::IN } else { PollFlags::empty() };
                    let mut socket = [PollFd::new(&*self.peer, reading | PollFlags::OUT)];
                    let _ = poll(&mut socket, None);
                    if socket[0].revents().contains(PollFlags::IN) {
                        self.incoming.fill(&*self.peer, RecvFlags::DONTWAIT)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        for pending in &self.pending {
            if let Answer::Bulk { job, entry } = &pending.answer {
                job.cancel();
                entry.counters().failures.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The sequences of a request that belongs to the short lane.
fn short_sequences(model: &Model, purpose: Purpose, texts: &[&str]) -> Result<Option<Vec<Vec<u32>>>> {
    let longest = model.embedder().tokenizer().max_tokens() * BYTES_PER_TOKEN;
    let bytes: usize = texts.iter().map(|text| text.len().min(longest)).sum();
    if bytes > SHORT_TOKENS * BYTES_PER_TOKEN || texts.len() > SHORT_TOKENS {
        return Ok(None);
    }
    let tokenize = |text: &&str| model.embedder().sequence(text, purpose);
    let sequences: Vec<Vec<u32>> = guarded(|| texts.iter().map(tokenize).collect())?;
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    Ok((tokens <= SHORT_TOKENS).then_some(sequences))
}

fn embedded(entry: &Entry, texts: usize, vectors: &[f32]) -> Result<Answer> {
    entry.counters().requests.fetch_add(1, Relaxed);
    entry.counters().texts.fetch_add(texts as u64, Relaxed);
    let bytes: Vec<u8> = vectors.iter().flat_map(|number| number.to_le_bytes()).collect();
    ready(&Response::Embedded { vectors: &bytes })
}

fn ready(response: &Response) -> Result<Answer> {
    let mut frame = Vec::new();
    response.write(&mut frame)?;
    Ok(Answer::Ready(frame))
}

fn failure(error: &Error) -> Answer {
    let facts = error.facts();
    let message = error.to_string();
    let (detail, hint) = (facts.detail.as_deref(), facts.hint.as_deref());
    let response = Response::Failed { sqlstate: facts.sqlstate, message: &message, detail, hint };
    // It is far shorter than a frame may be.
    ready(&response).unwrap_or(Answer::Ready(Vec::new()))
}
