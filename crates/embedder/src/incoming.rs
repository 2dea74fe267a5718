//! The bytes that have arrived on a connection and were not answered yet.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::io::{self, Errno};
use rustix::net::{RecvFlags, recv};
use vector_tools_core::embed::protocol::{LENGTH_BYTES, LONGEST_REQUEST, REQUESTS_IN_FLIGHT, frame_length};
use vector_tools_core::error::Result;

/// Room that an idle connection keeps.
const LEAST: usize = 4 << 10;
/// Room after which a connection gives it back.
const KEPT: usize = 64 << 10;
/// Room for all requests that a client may have in flight.
const MOST: usize = REQUESTS_IN_FLIGHT * (LENGTH_BYTES + LONGEST_REQUEST);

/// A buffer that grows with what arrives, not with what a frame claims to be.
#[derive(Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    filled: Range<usize>,
    ended: bool,
}

impl Incoming {
    /// The place of the next frame, its length not counted, if all of it has arrived.
    ///
    /// # Errors
    /// [`vector_tools_core::error::Error::ProtocolViolation`] (08P01) for one that is too long.
    pub fn frame(&self) -> Result<Option<Range<usize>>> {
        let bytes = &self.bytes[self.filled.clone()];
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = frame_length(*length, LONGEST_REQUEST)?;
        let start = self.filled.start + LENGTH_BYTES;
        Ok((bytes.len() - LENGTH_BYTES >= length).then_some(start..start + length))
    }

    /// The bytes of a frame.
    pub fn bytes(&self, frame: Range<usize>) -> &[u8] {
        &self.bytes[frame]
    }

    /// Forgets a frame and what came before it.
    pub fn consume(&mut self, frame: Range<usize>) {
        self.filled.start = frame.end;
        if self.filled.is_empty() {
            self.filled = 0..0;
            if self.bytes.len() > KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    /// Whether more can be read: the stream has not ended and there is room.
    pub fn can_grow(&self) -> bool {
        !self.ended && self.filled.len() < MOST
    }

    /// Whether the client sends no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads what has arrived, waiting for it unless `flags` say otherwise.
    ///
    /// # Errors
    /// Those of the system; having nothing to read is none.
    pub fn fill(&mut self, socket: impl AsFd, flags: RecvFlags) -> io::Result<()> {
        if self.filled.end == self.bytes.len() {
            if self.filled.start > 0 {
                self.bytes.copy_within(self.filled.clone(), 0);
                self.filled = 0..self.filled.len();
            } else {
                self.bytes.resize((self.bytes.len() * 2).clamp(LEAST, MOST), 0);
            }
        }
        match recv(socket, &mut self.bytes[self.filled.end..], flags) {
            Ok((_, 0)) => self.ended = true,
            Ok((_, count)) => self.filled.end += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
