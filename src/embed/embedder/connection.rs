//! A session's connection to the embedding process.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::embed::embedder::start;
use crate::embed::embedder::start::Starter;
use crate::kit::waiting::{Readiness, Watched};
use vector_tools_core::embed::shared::{Connector, Transport, greet};
use vector_tools_core::error::{Error, Result};

/// How long a session waits for the process to start and to greet; for a model and for vectors it
/// waits as long as the statement may.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that are read at once: the answer to a query.
const READ_AHEAD: usize = 8 << 10;

/// Processes that may end before they greet.
const MOST_GREETINGS: usize = 5;

/// How a session comes to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionConnector {
    /// The process is started where it does not run.
    Starting,
    /// A process that runs already, or none.
    Looking,
}

/// A connection that waits as PostgreSQL does.
pub struct SessionTransport {
    // Before the stream, because it is dropped in that order.
    watched: Watched,
    stream: UnixStream,
    /// Bytes that were read and not asked for yet, from `taken` on.
    read_ahead: Vec<u8>,
    taken: usize,
    /// Until when the process must have answered, if it must.
    until: Option<Instant>,
    _counted: CountedDescriptor,
}

impl Connector for SessionConnector {
    type Transport = SessionTransport;

    fn connect(&mut self) -> Result<SessionTransport> {
        let until = Instant::now() + PATIENCE;
        let mut starter = Starter::default();
        // It may end while the connection waits; then the supervisor starts another one.
        for _ in 0..MOST_GREETINGS {
            let counted = CountedDescriptor::acquire()?;
            let stream = match self {
                SessionConnector::Starting => starter.connect(until)?,
                SessionConnector::Looking => start::connect()?
                    .ok_or_else(|| Error::EmbedderUnavailable { reason: "it does not run".to_owned() })?,
            };
            let mut transport = SessionTransport::new(stream, until, counted);
            match greet(&mut transport) {
                Ok(()) => {
                    transport.until = None;
                    return Ok(transport);
                }
                Err(Error::EmbedderLost { .. }) if Instant::now() < until => {}
                Err(Error::EmbedderLost { .. }) => return Err(silent()),
                Err(Error::Reported { message, .. }) => {
                    return Err(Error::EmbedderUnavailable { reason: message });
                }
                Err(error) => return Err(error),
            }
        }
        Err(start::ends_early())
    }
}

impl Transport for SessionTransport {
    fn write_all(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => self.wait_or_fail(&error, Readiness::Writable)?,
            }
        }
        Ok(())
    }

    fn is_closed(&self) -> bool {
        let mut byte = [0; 1];
        match rustix::net::recv(&self.stream, &mut byte[..], RecvFlags::PEEK) {
            // Nothing is there to be read while nothing was asked, but for the end.
            Ok(_) => true,
            Err(error) => error != Errno::AGAIN,
        }
    }

    fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let ahead = &self.read_ahead[self.taken..];
            if !ahead.is_empty() {
                let count = ahead.len().min(buffer.len());
                buffer[..count].copy_from_slice(&ahead[..count]);
                self.taken += count;
                buffer = &mut buffer[count..];
            } else if buffer.len() < READ_AHEAD {
                self.read_more()?;
            } else {
                match self.stream.read(buffer) {
                    Ok(0) => return Err(closed()),
                    Ok(count) => buffer = &mut buffer[count..],
                    Err(error) => self.wait_or_fail(&error, Readiness::Readable)?,
                }
            }
        }
        Ok(())
    }
}

impl SessionTransport {
    fn new(stream: UnixStream, until: Instant, counted: CountedDescriptor) -> SessionTransport {
        let watched = Watched::new(stream.as_raw_fd());
        SessionTransport {
            watched,
            stream,
            read_ahead: Vec::with_capacity(READ_AHEAD),
            taken: 0,
            until: Some(until),
            _counted: counted,
        }
    }

    /// Reads what is there, or waits for it: a short answer comes in one piece.
    fn read_more(&mut self) -> Result<()> {
        self.taken = 0;
        self.read_ahead.resize(READ_AHEAD, 0);
        match self.stream.read(&mut self.read_ahead) {
            Ok(0) => Err(closed()),
            Ok(count) => {
                self.read_ahead.truncate(count);
                Ok(())
            }
            Err(error) => {
                self.read_ahead.clear();
                self.wait_or_fail(&error, Readiness::Readable)
            }
        }
    }

    /// Waits where `error` says that the socket is not ready; other errors mean that the process is
    /// gone.
    fn wait_or_fail(&mut self, error: &std::io::Error, readiness: Readiness) -> Result<()> {
        match error.kind() {
            ErrorKind::Interrupted => Ok(()),
            ErrorKind::WouldBlock => {
                let most = self.until.map(|until| until.saturating_duration_since(Instant::now()));
                if most.is_some_and(|most| most.is_zero()) {
                    return Err(silent());
                }
                self.watched.wait_for(readiness, most);
                Ok(())
            }
            _ => Err(lost(format!("the connection to it is broken: {error}"))),
        }
    }
}

fn closed() -> Error {
    lost("it closed the connection".to_owned())
}

fn lost(reason: String) -> Error {
    Error::EmbedderLost { reason }
}

fn silent() -> Error {
    Error::EmbedderSilent { seconds: PATIENCE.as_secs() }
}

/// A descriptor that PostgreSQL knows of, so that it opens fewer files of its own.
struct CountedDescriptor;

impl CountedDescriptor {
    fn acquire() -> Result<CountedDescriptor> {
        // SAFETY: counts descriptors of this process; released below.
        if unsafe { pg_sys::AcquireExternalFD() } {
            return Ok(CountedDescriptor);
        }
        Err(Error::EmbedderUnavailable {
            reason: "this session has too many files open, and max_files_per_process says how many it may"
                .to_owned(),
        })
    }
}

impl Drop for CountedDescriptor {
    fn drop(&mut self) {
        // SAFETY: acquired above.
        unsafe { pg_sys::ReleaseExternalFD() };
    }
}
