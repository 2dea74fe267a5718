//! What a session and the embedding process say to each other.
//!
//! Both ends are of one build, which the name of the socket and the first request carry, so that
//! the messages need no versions of their own. A message is a frame: its length as a little-endian
//! u32, then its fields by `postcard`. A connection's requests are answered in their order, each by
//! one response. A client may send [`REQUESTS_IN_FLIGHT`] requests before it reads the answer of
//! the first; the process reads them even while the client does not read.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::embed::Purpose;
use crate::error::{Error, Result};
use crate::model::ModelRecord;

/// Which executable and which extension understand each other: the version of the crate, and a
/// number that rises with every change of a message.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// Requests that a client may have sent and not read the answers of.
pub const REQUESTS_IN_FLIGHT: usize = 2;

/// Bytes of text in one request, unless a single text is longer.
pub const WINDOW_BYTES: usize = 1 << 20;
/// Texts in one request.
pub const WINDOW_TEXTS: usize = 1024;
/// Texts in one request, at most and at least, where the client has work to do with the answers: half a second of
/// the model's, and one of its batches.
pub const PART_TEXTS: RangeInclusive<usize> = 8..=64;
/// The longest text in a request: all that a tokenizer reads of one.
pub const LONGEST_TEXT: usize = crate::model::tokenizer::LARGEST_WINDOW + 8;

/// The longest frame of a request, its length not counted.
pub const LONGEST_REQUEST: usize = 4 << 20;
/// The longest frame of a response: a window of vectors of more dimensions than any model has.
pub const LONGEST_RESPONSE: usize = 256 << 20;

/// Bytes before a frame, which hold its length.
pub const LENGTH_BYTES: usize = 4;

/// What a session asks.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Request<'a> {
    /// The first request of a connection, with the [`BUILD`] of the session's library.
    Hello { build: &'a str },
    /// Loads a model unless it is loaded, and lets later requests of this connection name it by
    /// `model`, a number that the client chooses below [`MOST_MODELS`].
    Open {
        model: u32,
        record: Box<ModelRecord>,
        /// The resolved path, in the bytes of the operating system.
        #[serde(with = "serde_bytes")]
        source: &'a [u8],
    },
    /// The vectors of some texts.
    Embed {
        model: u32,
        purpose: Purpose,
        #[serde(borrow)]
        texts: Vec<&'a str>,
    },
    /// The number of tokens of a piece of text, special tokens not counted.
    CountTokens { model: u32, text: &'a str },
    /// What the process has done so far.
    Statistics,
}

/// Models that one connection may have open.
pub const MOST_MODELS: u32 = 1 << 16;

/// What the process answers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Response<'a> {
    /// To `Hello`.
    Welcome,
    /// To `Open`.
    Opened { dimensions: u32, special_tokens: u32 },
    /// To `Embed`: little-endian f32 numbers, vector after vector.
    Embedded {
        #[serde(with = "serde_bytes")]
        vectors: &'a [u8],
    },
    /// To `CountTokens`.
    Counted { tokens: u64 },
    /// To `Statistics`.
    Statistics(ProcessStatistics),
    /// To any request that could not be done; the connection can be used further.
    Failed { sqlstate: &'a str, message: &'a str, detail: Option<&'a str>, hint: Option<&'a str> },
}

/// What the process has done since it started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatistics {
    pub process_id: u32,
    /// Microseconds since 1970-01-01 00:00 UTC.
    pub started_at: i64,
    /// How often the supervisor has started a process after a crash, as it says itself.
    pub restarts: u64,
    /// Threads that run a model at once in each lane.
    pub threads: u32,
    pub connections: u32,
    /// Private memory now: that of the models and of the work under way.
    pub memory_bytes: u64,
    /// 0 means no limit.
    pub memory_limit_bytes: u64,
    pub models: Vec<ModelStatistics>,
}

/// What the process has done with one model, whether it is loaded now or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStatistics {
    /// The name it was last opened by; two databases may have two names for one model.
    pub name: String,
    /// Of its ONNX file.
    pub sha256: String,
    pub dimensions: u32,
    pub loaded: bool,
    /// How often it was loaded.
    pub loads: u64,
    /// Private memory that loading it took, 0 while it is not loaded.
    pub memory_bytes: u64,
    /// `Embed` requests that were answered with vectors.
    pub requests: u64,
    /// Requests that failed or whose client went away.
    pub failures: u64,
    pub texts: u64,
    pub batches: u64,
    /// Tokens of all batches, padding included.
    pub batch_tokens: u64,
    /// Texts that wait for a batch now.
    pub queued: u64,
    /// Half of the requests of few tokens were answered within so many milliseconds, counted from
    /// their arrival; `None` before the first.
    pub p50_ms: Option<f64>,
    /// The same for 99 of 100.
    pub p99_ms: Option<f64>,
}

impl Request<'_> {
    /// Appends this request to `frame` as a frame.
    ///
    /// # Errors
    /// [`Error::ProtocolViolation`] (08P01) when it is too long.
    pub fn write(&self, frame: &mut Vec<u8>) -> Result<()> {
        write(self, frame, LONGEST_REQUEST)
    }

    /// Reads a request from the bytes of a frame, its length not among them.
    ///
    /// # Errors
    /// [`Error::ProtocolViolation`] (08P01) for anything else than one request.
    pub fn read(bytes: &[u8]) -> Result<Request<'_>> {
        read(bytes)
    }
}

impl Response<'_> {
    /// Appends this response to `frame` as a frame.
    ///
    /// # Errors
    /// [`Error::ProtocolViolation`] (08P01) when it is too long.
    pub fn write(&self, frame: &mut Vec<u8>) -> Result<()> {
        write(self, frame, LONGEST_RESPONSE)
    }

    /// Reads a response from the bytes of a frame, its length not among them.
    ///
    /// # Errors
    /// [`Error::ProtocolViolation`] (08P01) for anything else than one response.
    pub fn read(bytes: &[u8]) -> Result<Response<'_>> {
        read(bytes)
    }
}

/// The length of the frame that `bytes` begin, checked against the most it may be.
///
/// # Errors
/// [`Error::ProtocolViolation`] (08P01).
pub fn frame_length(bytes: [u8; LENGTH_BYTES], longest: usize) -> Result<usize> {
    let length = u32::from_le_bytes(bytes) as usize;
    if length <= longest {
        return Ok(length);
    }
    Err(Error::ProtocolViolation {
        reason: format!("a frame of {length} bytes, where {longest} are the most"),
    })
}

/// The path that the bytes of an `Open` request name.
pub fn path_of(source: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(source))
}

/// The bytes of a path for an `Open` request.
pub fn bytes_of(source: &Path) -> &[u8] {
    source.as_os_str().as_bytes()
}

fn write(message: &impl Serialize, frame: &mut Vec<u8>, longest: usize) -> Result<()> {
    let start = frame.len();
    frame.extend_from_slice(&[0; LENGTH_BYTES]);
    let violation = |reason: String| Error::ProtocolViolation { reason };
    postcard::to_io(message, &mut *frame).map_err(|error| violation(error.to_string()))?;
    let length = frame.len() - start - LENGTH_BYTES;
    match u32::try_from(length) {
        Ok(prefix) if length <= longest => {
            frame[start..start + LENGTH_BYTES].copy_from_slice(&prefix.to_le_bytes());
            Ok(())
        }
        _ => {
            frame.truncate(start);
            Err(violation(format!("a frame of {length} bytes, where {longest} are the most")))
        }
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => {
            Err(Error::ProtocolViolation { reason: format!("{} bytes after a message", rest.len()) })
        }
        Err(error) => Err(Error::ProtocolViolation { reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The payload of the only frame in `bytes`.
    fn payload(bytes: &[u8]) -> &[u8] {
        let (length, rest) = bytes.split_first_chunk().expect("a length");
        let length = frame_length(*length, LONGEST_RESPONSE).expect("not too long");
        assert_eq!(rest.len(), length);
        rest
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let path = Path::new(OsStr::from_bytes(b"/models/\xff"));
        let requests = [
            Request::Hello { build: BUILD },
            Request::Embed { model: 3, purpose: Purpose::Query, texts: vec!["", "Zürich"] },
            Request::CountTokens { model: 0, text: "a b" },
            Request::Statistics,
        ];
        for request in requests {
            let mut frame = Vec::new();
            request.write(&mut frame).expect("short");
            assert_eq!(Request::read(payload(&frame)).expect("whole"), request);
        }
        assert_eq!(path_of(bytes_of(path)), path);
        let statistics = ProcessStatistics {
            models: vec![ModelStatistics { p50_ms: Some(4.5), ..ModelStatistics::default() }],
            ..ProcessStatistics::default()
        };
        let responses = [
            Response::Opened { dimensions: 384, special_tokens: 2 },
            Response::Embedded { vectors: &[0, 0, 128, 63] },
            Response::Statistics(statistics),
            Response::Failed { sqlstate: "58P01", message: "m", detail: None, hint: Some("h") },
        ];
        for response in responses {
            let mut frame = Vec::new();
            response.write(&mut frame).expect("short");
            assert_eq!(Response::read(payload(&frame)).expect("whole"), response);
        }
    }

    #[test]
    fn frames_that_are_too_long_are_refused_on_both_sides() {
        let text = "x".repeat(LONGEST_REQUEST);
        let mut frame = vec![7];
        let error = Request::CountTokens { model: 0, text: &text }.write(&mut frame).expect_err("too long");
        assert_eq!((error.facts().sqlstate, frame), ("08P01", vec![7]));
        assert!(frame_length(u32::MAX.to_le_bytes(), LONGEST_REQUEST).is_err());
    }

    proptest! {
        // trust 26
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for error in [Request::read(&bytes).err(), Response::read(&bytes).err()].into_iter().flatten() {
                prop_assert_eq!(error.facts().sqlstate, "08P01");
            }
        }
    }
}
