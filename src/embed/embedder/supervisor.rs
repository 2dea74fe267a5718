//! The background worker that owns the embedder process: it makes the socket, starts the process,
//! starts it anew when it has died, and ends with it when nobody needs it.
//!
//! PostgreSQL takes the death of a worker by a signal for a corruption of its shared memory, so
//! this one does as little as it can.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, DynamicBackgroundWorker, SignalWakeFlags,
};
use pgrx::prelude::*;

use crate::embed::embedder::file;
use crate::embed::embedder::process::{Choice, Process};
use crate::kit::waiting::{wait_a_while, wait_while_postmaster_lives};
use crate::kit::{background, paths};
use crate::settings;
use vector_tools_core::embed::lock_file::LockFile;
use vector_tools_core::embed::supervision::{Next, Supervision};

/// Connections that may wait for a process to start.
const BACKLOG: i32 = 1024;
/// How long a supervisor waits for the one before it to end.
const HANDOVER: Duration = Duration::from_secs(1);
/// How often it looks whether that has happened.
const LOOK: Duration = Duration::from_millis(10);

/// Registers the worker; nothing when no worker is free.
pub fn register() -> Option<DynamicBackgroundWorker> {
    // SAFETY: a variable of this process.
    let me = unsafe { pg_sys::MyProcPid };
    let worker = BackgroundWorkerBuilder::new("vector_tools embedder")
        .set_type("vector_tools embedder")
        .set_library("vector_tools")
        .set_function("supervise_embedder")
        .set_restart_time(None)
        .enable_spi_access()
        // On a standby too.
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_notify_pid(me)
        .load_dynamic();
    worker.ok()
}

/// The worker's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn supervise_embedder(_argument: pg_sys::Datum) {
    background::listen(
        SignalWakeFlags::SIGHUP
            | SignalWakeFlags::SIGTERM
            | SignalWakeFlags::SIGINT
            | SignalWakeFlags::SIGCHLD,
    );
    // To no database, so that it stands in the way of none; pg_stat_activity shows it.
    BackgroundWorker::connect_worker_to_spi(None, None);
    if let Err(error) = supervise() {
        pgrx::log!("vector_tools embedder: could not be started: {error}");
    }
}

fn supervise() -> io::Result<()> {
    let Some(_only_one) = lock()? else { return Ok(()) };
    let socket = Socket::listen(file("sock"))?;
    Supervisor::new(&socket)?.run()
}

/// The lock that the one supervisor holds.
fn lock() -> io::Result<Option<LockFile>> {
    let until = Instant::now() + HANDOVER;
    loop {
        let lock = LockFile::try_acquire(&file("lock"))?;
        if lock.is_some() || Instant::now() >= until || BackgroundWorker::sigterm_received() {
            return Ok(lock);
        }
        wait_a_while(LOOK);
    }
}

struct Supervisor<'a> {
    socket: &'a Socket,
    choice: Choice,
    history: Supervision,
    process: Option<Process>,
    /// When the next one is due, while there is none.
    due: Instant,
    /// Processes that finish what they have, and take no more.
    draining: Vec<Process>,
}

impl Supervisor<'_> {
    fn new(socket: &Socket) -> io::Result<Supervisor<'_>> {
        let choice = choice();
        let process = Process::start(&choice, socket.listener.as_fd(), 0)?;
        pgrx::log!("vector_tools embedder: process {} has started", process.id());
        let (history, due, draining) = (Supervision::default(), Instant::now(), Vec::new());
        Ok(Supervisor { socket, choice, history, process: Some(process), due, draining })
    }

    /// Goes on until nobody needs the process any more, or the server ends.
    fn run(mut self) -> io::Result<()> {
        // Signals are looked at before each wait, since one that came earlier does not end it.
        while !BackgroundWorker::sigterm_received() {
            if background::reload_if_told() {
                self.take_over_settings()?;
            }
            self.draining.retain_mut(|process| process.ended().is_none());
            if !self.goes_on() {
                break;
            }
            if self.process.is_none() && Instant::now() >= self.due {
                self.start()?;
            }
            let most = self.process.is_none().then(|| self.due.saturating_duration_since(Instant::now()));
            if !wait_while_postmaster_lives(most) {
                break;
            }
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let restarts = self.history.restarts();
        self.process = Some(Process::start(&self.choice, self.socket.listener.as_fd(), restarts)?);
        Ok(())
    }

    /// Looks at how the process is; tells whether there is anything left to supervise.
    fn goes_on(&mut self) -> bool {
        let Some(process) = &mut self.process else { return true };
        let Some((end, status)) = process.ended() else { return true };
        let (id, lived) = (process.id(), process.lived());
        self.process = None;
        match self.history.after(end, lived, self.socket.is_awaited()) {
            Next::StartAfter(delay) => {
                self.due = Instant::now() + delay;
                if !status.success() {
                    pgrx::log!(
                        "vector_tools embedder: process {id} ended with {status}; \
                         a new one is started after {} ms",
                        delay.as_millis()
                    );
                }
                true
            }
            Next::Stop => {
                pgrx::log!("vector_tools embedder: process {id} was not needed any more");
                false
            }
            Next::GiveUp => {
                pgrx::log!(
                    "vector_tools embedder: process {id} ended with {status} before it could serve; given up"
                );
                false
            }
        }
    }

    /// Takes changed settings over: another process takes the next requests, while this one
    /// finishes those it has.
    fn take_over_settings(&mut self) -> io::Result<()> {
        let choice = choice();
        if choice == self.choice {
            return Ok(());
        }
        self.choice = choice;
        if let Some(mut process) = self.process.take() {
            process.drain();
            pgrx::log!(
                "vector_tools embedder: process {} finishes, because settings have changed",
                process.id()
            );
            self.draining.push(process);
            self.start()?;
        }
        Ok(())
    }
}

fn choice() -> Choice {
    Choice {
        program: paths::embedder_program(),
        threads: settings::embedder_threads(),
        memory_limit: settings::embedder_memory_limit(),
        idle_timeout: settings::embedder_idle_timeout(),
        configured_library: settings::onnxruntime_library(),
        usual_libraries: paths::runtime_libraries(),
    }
}

/// A listening socket that only the server's account can connect to. It goes away with this value.
struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    fn listen(path: PathBuf) -> io::Result<Socket> {
        remove(&path)?;
        // SAFETY: changes how files are made in this process, which has one thread, until it is put
        // back.
        let before = unsafe { libc::umask(0o177) };
        let listener = UnixListener::bind(&path);
        // SAFETY: as above.
        unsafe { libc::umask(before) };
        let socket = Socket { listener: listener?, path };
        rustix::net::listen(&socket.listener, BACKLOG)?;
        Ok(socket)
    }

    /// Whether a session has connected that no process has accepted yet.
    fn is_awaited(&self) -> bool {
        let mut listening = [rustix::event::PollFd::new(&self.listener, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec::default();
        rustix::event::poll(&mut listening, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            pgrx::log!("vector_tools embedder: could not remove its socket: {error}");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
