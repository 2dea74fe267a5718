//! Coming to a connection to the embedding process, through its supervisor where none runs.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorkerStatus, DynamicBackgroundWorker};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::embed::embedder::{file, supervisor};
use crate::kit::paths;
use crate::kit::waiting::wait_a_while;
use vector_tools_core::embed::lock_file::LockFile;
use vector_tools_core::error::{Error, Result};

/// How often a session that waits for the supervisor looks for its socket.
const LOOK: Duration = Duration::from_millis(5);
/// Supervisors that may end without having served before a session starts no further one.
const MOST_STARTS: u32 = 3;

/// A connected socket that does not block, or nothing where no process is supervised.
///
/// # Errors
/// [`Error::EmbedderUnavailable`] (57P03) when sockets cannot be had.
pub fn connect() -> Result<Option<UnixStream>> {
    let failed = |error: Errno| unavailable(format!("its socket cannot be connected to: {error}"));
    let address = SocketAddrUnix::new(file("sock")).map_err(failed)?;
    loop {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let socket = socket.map_err(failed)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(Some(UnixStream::from(socket))),
            Err(Errno::NOENT | Errno::CONNREFUSED) => return Ok(None),
            Err(Errno::INTR) => {}
            // As many sessions as the socket has places wait for a process already.
            Err(Errno::AGAIN) => wait_a_while(LOOK),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Comes to a connection, and starts the supervisor where none runs: one, however many sessions
/// want one at once.
#[derive(Default)]
pub struct Starter {
    /// Held while this session is the one that starts it.
    lock: Option<LockFile>,
    worker: Option<DynamicBackgroundWorker>,
    starts: u32,
}

impl Starter {
    /// Like [`connect`], once a supervisor runs.
    ///
    /// # Errors
    /// [`Error::EmbedderUnavailable`] (57P03) with the reason why no process is to be had.
    pub fn connect(&mut self, until: Instant) -> Result<UnixStream> {
        loop {
            if let Some(socket) = connect()? {
                return Ok(socket);
            }
            self.see_to_it()?;
            if Instant::now() >= until {
                return Err(unavailable("it was started, but has no socket yet".to_owned()));
            }
            wait_a_while(LOOK);
        }
    }

    /// Makes sure that a supervisor is on its way.
    fn see_to_it(&mut self) -> Result<()> {
        if self.lock.is_none() {
            let lock = LockFile::try_acquire(&file("start"));
            self.lock =
                lock.map_err(|error| unavailable(format!("its lock file cannot be used: {error}")))?;
        }
        let is_on_its_way = match &self.worker {
            // Another session starts it.
            None if self.lock.is_none() => true,
            None => false,
            Some(worker) => !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)),
        };
        if is_on_its_way { Ok(()) } else { self.start() }
    }

    fn start(&mut self) -> Result<()> {
        if self.starts == MOST_STARTS {
            return Err(ends_early());
        }
        if !paths::embedder_program().is_file() {
            return Err(unavailable(
                "its executable is not in the server's library folder, nor where vector_tools.embedder_program says"
                    .to_owned(),
            ));
        }
        let worker = supervisor::register();
        self.worker = Some(worker.ok_or_else(|| {
            unavailable(
                "no background worker is free, and max_worker_processes says how many there are".to_owned(),
            )
        })?);
        self.starts += 1;
        Ok(())
    }
}

/// The error about a process that ends again and again before it can serve.
pub fn ends_early() -> Error {
    unavailable("it ends before it can serve, and the server log says why".to_owned())
}

fn unavailable(reason: String) -> Error {
    Error::EmbedderUnavailable { reason }
}
