//! The process as a whole: it accepts connections until it is not needed any more.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use vector_tools_core::embed::protocol::ProcessStatistics;

use crate::arguments::Arguments;
use crate::bulk_lane::BulkLane;
use crate::connection::Connection;
use crate::models::{Models, lock};
use crate::peer::Peer;
use crate::process;
use crate::short_lane::ShortLane;

/// Room for ONNX Runtime and the tokenizers; only what is touched takes memory.
const STACK: usize = 2 << 20;
/// How long clients have to take the last answers: the new process waits for the end of this one.
const LONGEST_DRAIN: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be accepted, for want of descriptors or threads.
const RETRY: Duration = Duration::from_millis(100);

/// What all threads share.
pub struct Server {
    /// The command line.
    pub arguments: Arguments,
    /// The models.
    pub models: Models,
    /// Queries.
    pub short_lane: Arc<ShortLane>,
    /// Bulk work.
    pub bulk_lane: Arc<BulkLane>,
    connections: Mutex<HashMap<u64, Arc<Peer>>>,
    one_less: Condvar,
    active: AtomicUsize,
    started: Instant,
    started_at: i64,
    /// Milliseconds after the start.
    last_request: AtomicU64,
    draining: AtomicBool,
    wake: OwnedFd,
}

/// A request under way.
pub struct Busy<'a>(&'a Server);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.touch();
        self.0.active.fetch_sub(1, SeqCst);
    }
}

impl Server {
    /// A server that does not run yet.
    ///
    /// # Errors
    /// Those of the system.
    pub fn new(arguments: Arguments) -> rustix::io::Result<Server> {
        Ok(Server {
            models: Models::new(arguments.clone()),
            short_lane: ShortLane::new(arguments.threads),
            bulk_lane: BulkLane::new(arguments.threads, arguments.memory_limit),
            arguments,
            connections: Mutex::default(),
            one_less: Condvar::new(),
            active: AtomicUsize::new(0),
            started: Instant::now(),
            started_at: process::now(),
            last_request: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::CLOEXEC)?,
        })
    }

    /// Accepts connections until [`drain`](Self::drain) is called, then returns when all are closed
    /// or should be.
    pub fn run(self: &Arc<Server>, listener: &OwnedFd) {
        let mut number = 0;
        while !self.draining.load(SeqCst) {
            let mut awaited = [PollFd::new(listener, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
            if poll(&mut awaited, None).is_err() || !awaited[0].revents().contains(PollFlags::IN) {
                continue;
            }
            if self.draining.load(SeqCst) {
                break;
            }
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    number += 1;
                    self.serve(number, Peer::new(UnixStream::from(socket)));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => thread::sleep(RETRY),
            }
        }
        let connections = lock(&self.connections);
        // The result says no more than that the process ends now.
        let _ = self.one_less.wait_timeout_while(connections, LONGEST_DRAIN, |left| !left.is_empty());
    }

    fn serve(self: &Arc<Server>, number: u64, peer: Peer) {
        if !peer.is_same_user() {
            return;
        }
        let peer = Arc::new(peer);
        lock(&self.connections).insert(number, Arc::clone(&peer));
        let server = Arc::clone(self);
        let builder = thread::Builder::new().name(format!("session {number}")).stack_size(STACK);
        let spawned = builder.spawn(move || {
            let _leaving = Leaving { server: &server, number };
            // A connection that ends in error has ended all the same.
            let _ = Connection::new(&server, number, peer).serve();
        });
        if spawned.is_err() {
            lock(&self.connections).remove(&number);
            thread::sleep(RETRY);
        }
    }

    /// Accepts no more connections and lets no more requests in; those that have arrived are
    /// answered.
    pub fn drain(&self) {
        if self.draining.swap(true, SeqCst) {
            return;
        }
        // It holds a counter, which cannot be full.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        for peer in lock(&self.connections).values() {
            peer.stop_reading();
        }
    }

    /// Notes that a request has come; it is under way until the result is dropped.
    pub fn begin_request(&self) -> Busy<'_> {
        self.active.fetch_add(1, SeqCst);
        self.touch();
        Busy(self)
    }

    fn touch(&self) {
        self.last_request.store(self.started.elapsed().as_millis() as u64, Relaxed);
    }

    /// How long there was nothing to do.
    pub fn idle_for(&self) -> Duration {
        if self.active.load(SeqCst) > 0 {
            return Duration::ZERO;
        }
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_request.load(Relaxed)))
    }

    /// What was done so far.
    pub fn statistics(&self) -> ProcessStatistics {
        ProcessStatistics {
            process_id: std::process::id(),
            started_at: self.started_at,
            restarts: self.arguments.restarts,
            threads: self.arguments.threads as u32,
            connections: lock(&self.connections).len() as u32,
            memory_bytes: process::private_memory(),
            memory_limit_bytes: self.arguments.memory_limit.unwrap_or(0),
            models: self.models.statistics(),
        }
    }
}

/// Takes a connection off the list when its thread ends, however it ends.
struct Leaving<'a> {
    server: &'a Server,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        lock(&self.server.connections).remove(&self.number);
        self.server.one_less.notify_all();
    }
}
