//! The embedder that asks the embedding process, which all sessions of the cluster share.
//!
//! Pure of PostgreSQL: how a connection is made and how a session waits for bytes is a
//! [`Connector`]'s and a [`Transport`]'s business.

use std::mem;
use std::path::{Path, PathBuf};

use crate::embed::protocol::{
    BUILD, LENGTH_BYTES, LONGEST_RESPONSE, LONGEST_TEXT, PART_TEXTS, ProcessStatistics, REQUESTS_IN_FLIGHT,
    Request, Response, WINDOW_BYTES, WINDOW_TEXTS, bytes_of, frame_length,
};
use crate::embed::{Arrival, Checkpoint, Embedder, Embeddings, Purpose};
use crate::error::{Error, Result};
use crate::model::ModelRecord;
use crate::model::tokenizer::pieces;

/// A connection to the embedding process.
///
/// A method that ends otherwise than with `Ok`, by an error or by unwinding, leaves the connection
/// in the middle of a message; the client drops the transport then and never uses it again.
pub trait Transport {
    /// Writes all of `bytes`, waiting for room.
    ///
    /// # Errors
    /// [`Error::EmbedderLost`] (57P03) when the process is gone, which the client answers by
    /// connecting once more; any other error is handed to the caller.
    fn write_all(&mut self, bytes: &[u8]) -> Result<()>;

    /// Fills `buffer`, waiting for bytes.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all); the end of the stream is [`Error::EmbedderLost`] too.
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()>;

    /// Whether the process has closed the connection while nothing was asked, as one does that
    /// makes way for another.
    fn is_closed(&self) -> bool {
        false
    }
}

/// Makes connections to the embedding process.
pub trait Connector {
    /// The connections it makes.
    type Transport: Transport;

    /// Connects, starting the process first where it does not run. It calls [`greet`] on the new
    /// connection, with whatever limit of time it has for that: the answer to a greeting waits for
    /// no model.
    ///
    /// # Errors
    /// [`Error::EmbedderUnavailable`] (57P03) when there can be no process, and whatever ends the
    /// wait.
    fn connect(&mut self) -> Result<Self::Transport>;
}

/// Says hello on a new connection and waits for the answer.
///
/// # Errors
/// Those of the transport; what the process reports; [`Error::ProtocolViolation`] (08P01).
pub fn greet(transport: &mut impl Transport) -> Result<()> {
    let mut frame = Vec::new();
    Request::Hello { build: BUILD }.write(&mut frame)?;
    transport.write_all(&frame)?;
    read_response(transport, &mut frame)?;
    match Response::read(&frame)? {
        Response::Welcome => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// A session's way to the embedding process: at most one connection, made when first needed and
/// made anew when it was lost.
pub struct Client<C: Connector> {
    connector: C,
    connection: Option<Connection<C::Transport>>,
}

struct Connection<T> {
    transport: T,
    /// By their numbers.
    models: Vec<OpenModel>,
    frame: Vec<u8>,
}

struct OpenModel {
    record: ModelRecord,
    source: PathBuf,
    dimensions: usize,
    special_tokens: usize,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Requests whose answers are there.
    done: usize,
    /// Those and the requests to embed that were sent on the connection since.
    sent: usize,
}

/// A process that was lost in the middle of a call.
struct Loss {
    progress: Progress,
    reason: String,
}

/// A model in the embedding process.
pub struct SharedEmbedder<'a, C: Connector> {
    client: &'a mut Client<C>,
    record: &'a ModelRecord,
    source: &'a Path,
    dimensions: usize,
}

impl<C: Connector> Client<C> {
    /// A client that has not connected yet.
    pub fn new(connector: C) -> Client<C> {
        Client { connector, connection: None }
    }

    /// The embedder of a registered model at `source`, its resolved path, loaded in the process.
    ///
    /// # Errors
    /// Those of [`Connector::connect`]; [`Error::Reported`] with what loading it says in the
    /// process; [`Error::EmbedderLost`] (57P03) when the process ended twice.
    pub fn embedder<'a>(
        &'a mut self,
        record: &'a ModelRecord,
        source: &'a Path,
    ) -> Result<SharedEmbedder<'a, C>> {
        let dimensions = self.retrying(|connection, _| {
            let number = connection.open(record, source)?;
            Ok(connection.models[number].dimensions)
        })?;
        Ok(SharedEmbedder { client: self, record, source, dimensions })
    }

    /// What the process has done so far.
    ///
    /// # Errors
    /// As [`embedder`](Self::embedder).
    pub fn statistics(&mut self) -> Result<ProcessStatistics> {
        self.retrying(|connection, _| connection.statistics())
    }

    /// Closes the connection; the next call makes a new one.
    pub fn close(&mut self) {
        self.connection = None;
    }

    /// Does `work` on the connection. When the process is lost, `work` is done once more on a new
    /// connection, and again whenever the count of what is done, which `work` keeps, has grown
    /// since the last loss. So a request that kills the process is not sent for ever, and a long
    /// call survives any number of restarts.
    fn retrying<R>(
        &mut self,
        mut work: impl FnMut(&mut Connection<C::Transport>, &mut Progress) -> Result<R>,
    ) -> Result<R> {
        let mut progress = Progress::default();
        let mut before: Option<Loss> = None;
        loop {
            progress.sent = progress.done;
            // Taken out, so that it is dropped when the work ends in the middle of a message.
            let kept = self.connection.take().filter(|connection| !connection.transport.is_closed());
            let mut connection = match (kept, &before) {
                (Some(connection), _) => connection,
                (None, None) => Connection::new(self.connector.connect()?),
                (None, Some(loss)) => {
                    Connection::new(self.connector.connect().map_err(|error| after_loss(error, loss))?)
                }
            };
            match work(&mut connection, &mut progress) {
                Err(Error::EmbedderLost { reason }) => {
                    let loss = Loss { progress, reason };
                    match before {
                        Some(before) if before.progress.done == progress.done => {
                            return Err(after_two(&before, loss));
                        }
                        _ => before = Some(loss),
                    }
                }
                // The process answered in full, and its errors leave the connection usable.
                Ok(result) => {
                    self.connection = Some(connection);
                    return Ok(result);
                }
                Err(reported @ Error::Reported { .. }) => {
                    self.connection = Some(connection);
                    return Err(reported);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Loss {
    /// Whether the process had texts of the call, and not only a model to load for it.
    fn was_embedding(&self) -> bool {
        self.progress.sent > self.progress.done
    }
}

/// A process that cannot be had any more is still the process that was lost: what was sent to it may
/// have killed it, and must not be tried in the backend.
fn after_loss(error: Error, loss: &Loss) -> Error {
    match error {
        Error::EmbedderUnavailable { .. } => Error::EmbedderLost { reason: loss.reason.clone() },
        error => error,
    }
}

/// The texts are to blame only where both processes had them: the second one had loaded the model, and
/// tried it with other texts, before.
fn after_two(first: &Loss, second: Loss) -> Error {
    let reason = second.reason.clone();
    if first.was_embedding() && second.was_embedding() {
        Error::EmbedderKilled { reason }
    } else {
        Error::EmbedderLost { reason }
    }
}

impl<C: Connector> Embedder for SharedEmbedder<'_, C> {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn embed(&mut self, texts: &[&str], purpose: Purpose, checkpoint: Checkpoint) -> Result<Embeddings> {
        let windows = windows(texts, purpose.prefix(&self.record.settings), |_| WINDOW_TEXTS);
        self.embed_windows(&windows, purpose, checkpoint, &mut |_, _| Ok(()))
    }

    fn embed_in_parts(
        &mut self,
        texts: &[&str],
        purpose: Purpose,
        checkpoint: Checkpoint,
        arrival: Arrival,
    ) -> Result<Embeddings> {
        let windows = windows(texts, purpose.prefix(&self.record.settings), part_texts);
        self.embed_windows(&windows, purpose, checkpoint, arrival)
    }

    fn count_tokens(&mut self, text: &str, checkpoint: Checkpoint) -> Result<usize> {
        let pieces: Vec<&str> = pieces(text).collect();
        let (record, source) = (self.record, self.source);
        let mut counted = vec![0; pieces.len()];
        let special_tokens = self.client.retrying(|connection, progress| {
            let number = connection.open(record, source)?;
            while let Some(piece) = pieces.get(progress.done) {
                checkpoint()?;
                counted[progress.done] = connection.count(number, piece)?;
                progress.done += 1;
            }
            Ok(connection.models[number].special_tokens)
        })?;
        Ok(special_tokens + counted.iter().sum::<usize>())
    }
}

impl<C: Connector> SharedEmbedder<'_, C> {
    fn embed_windows(
        &mut self,
        windows: &[Vec<&str>],
        purpose: Purpose,
        checkpoint: Checkpoint,
        arrival: Arrival,
    ) -> Result<Embeddings> {
        let count = windows.iter().map(Vec::len).sum();
        let mut embeddings = Embeddings::zeroed(count, self.dimensions);
        let (record, source) = (self.record, self.source);
        self.client.retrying(|connection, progress| {
            let number = connection.open(record, source)?;
            let request = Windows { model: number as u32, texts: windows, purpose };
            connection.embed(&request, progress, &mut embeddings, checkpoint, arrival)
        })?;
        Ok(embeddings)
    }
}

/// Texts to be embedded, a window for each request.
struct Windows<'a> {
    model: u32,
    texts: &'a [Vec<&'a str>],
    purpose: Purpose,
}

impl<T: Transport> Connection<T> {
    fn new(transport: T) -> Connection<T> {
        Connection { transport, models: Vec::new(), frame: Vec::new() }
    }

    /// The number of a model on this connection.
    fn open(&mut self, record: &ModelRecord, source: &Path) -> Result<usize> {
        let is_it = |model: &OpenModel| model.record == *record && model.source == source;
        if let Some(number) = self.models.iter().position(is_it) {
            return Ok(number);
        }
        let number = self.models.len();
        let request = Request::Open {
            model: number as u32,
            record: Box::new(record.clone()),
            source: bytes_of(source),
        };
        self.send(&request)?;
        match self.receive()? {
            Response::Opened { dimensions, special_tokens } => {
                let (dimensions, special_tokens) = (dimensions as usize, special_tokens as usize);
                let (record, source) = (record.clone(), source.to_owned());
                self.models.push(OpenModel { record, source, dimensions, special_tokens });
                Ok(number)
            }
            other => Err(unexpected(other)),
        }
    }

    /// Embeds the windows that are not done, counting what was sent and what was answered.
    fn embed(
        &mut self,
        request: &Windows,
        progress: &mut Progress,
        embeddings: &mut Embeddings,
        checkpoint: Checkpoint,
        arrival: Arrival,
    ) -> Result<()> {
        let Windows { model, texts: windows, purpose } = *request;
        let mut failure = None;
        let mut told = progress.done;
        while progress.done < windows.len() {
            let Progress { done, sent } = progress;
            if failure.is_some() && done == sent {
                break;
            }
            while failure.is_none() && *sent < windows.len() && *sent - *done < REQUESTS_IN_FLIGHT {
                checkpoint()?;
                self.send(&Request::Embed { model, purpose, texts: windows[*sent].clone() })?;
                *sent += 1;
            }
            let start = windows[..*done].iter().map(Vec::len).sum();
            // The process has its next requests by now.
            if *done > told && failure.is_none() {
                arrival(embeddings, start)?;
                told = *done;
            }
            // The answers of what was sent are read even after a failure, so that the connection
            // can be used further.
            let count = windows[*done].len();
            match self.receive() {
                Ok(Response::Embedded { vectors }) => embeddings.set_bytes(start, count, vectors)?,
                Ok(other) => return Err(unexpected(other)),
                Err(reported @ Error::Reported { .. }) => failure = failure.or(Some(reported)),
                Err(error) => return Err(error),
            }
            *done += 1;
        }
        failure.map_or(Ok(()), Err)
    }

    fn count(&mut self, number: usize, text: &str) -> Result<usize> {
        self.send(&Request::CountTokens { model: number as u32, text })?;
        match self.receive()? {
            Response::Counted { tokens } => Ok(tokens as usize),
            other => Err(unexpected(other)),
        }
    }

    fn statistics(&mut self) -> Result<ProcessStatistics> {
        self.send(&Request::Statistics)?;
        match self.receive()? {
            Response::Statistics(statistics) => Ok(statistics),
            other => Err(unexpected(other)),
        }
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        self.frame.clear();
        request.write(&mut self.frame)?;
        self.transport.write_all(&self.frame)
    }

    /// The next response, which is not `Failed`.
    fn receive(&mut self) -> Result<Response<'_>> {
        read_response(&mut self.transport, &mut self.frame)?;
        match Response::read(&self.frame)? {
            failed @ Response::Failed { .. } => Err(unexpected(failed)),
            response => Ok(response),
        }
    }
}

fn read_response(transport: &mut impl Transport, frame: &mut Vec<u8>) -> Result<()> {
    let mut length = [0; LENGTH_BYTES];
    transport.read_exact(&mut length)?;
    let length = frame_length(length, LONGEST_RESPONSE)?;
    // The memory of a long call is worth more to others.
    if frame.capacity() > length.max(KEPT_FRAME) {
        *frame = mem::take(&mut Vec::new());
    }
    frame.resize(length, 0);
    transport.read_exact(frame)
}

/// Bytes that a connection's buffer may keep between calls.
const KEPT_FRAME: usize = 64 << 10;

/// The error that a response stands for where another one was waited for.
fn unexpected(response: Response) -> Error {
    match response {
        Response::Failed { sqlstate, message, detail, hint } => {
            Error::reported(sqlstate, message.to_owned(), detail.map(str::to_owned), hint.map(str::to_owned))
        }
        other => {
            let debug = format!("{other:?}");
            let name = debug.split([' ', '(']).next().unwrap_or_default();
            Error::ProtocolViolation { reason: format!("the answer {name} to another question") }
        }
    }
}

/// Groups texts into requests of so many texts, by how many are left, and of bounded bytes. What no tokenizer
/// reads of a text is left out.
fn windows<'a>(texts: &[&'a str], prefix: &str, most_texts: impl Fn(usize) -> usize) -> Vec<Vec<&'a str>> {
    let mut windows: Vec<Vec<&str>> = Vec::new();
    let (mut bytes, mut most) = (0, 0);
    for (place, text) in texts.iter().enumerate() {
        let text = part_read(text, prefix);
        match windows.last_mut() {
            Some(window) if window.len() < most && bytes + text.len() <= WINDOW_BYTES => {
                window.push(text);
                bytes += text.len();
            }
            _ => {
                windows.push(vec![text]);
                bytes = text.len();
                most = most_texts(texts.len() - place);
            }
        }
    }
    windows
}

/// Texts of the next part where so many are left: ever fewer towards the end, since the model has nothing to do
/// while the last one is used.
fn part_texts(left: usize) -> usize {
    (left / 2).clamp(*PART_TEXTS.start(), *PART_TEXTS.end())
}

/// The part of a text that decides its vector: white space at both ends is dropped, at the beginning
/// only where no prefix comes before it, and nothing is read after a certain length.
fn part_read<'a>(text: &'a str, prefix: &str) -> &'a str {
    let text = if prefix.trim().is_empty() { text.trim() } else { text.trim_end() };
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_all_texts_within_their_bounds() {
        let long = "x".repeat(WINDOW_BYTES - 10);
        let longest = "é".repeat(LONGEST_TEXT);
        let mut texts = vec!["short"; 2 * WINDOW_TEXTS + 1];
        texts.extend([long.as_str(), &long, "short", &longest, " \n "]);
        let windows = windows(&texts, "", |_| WINDOW_TEXTS);
        assert_eq!(windows.iter().map(Vec::len).sum::<usize>(), texts.len());
        for window in &windows {
            let bytes: usize = window.iter().map(|text| text.len()).sum();
            assert!(window.len() <= WINDOW_TEXTS && (bytes <= WINDOW_BYTES || window.len() == 1));
            let mut frame = Vec::new();
            let texts = window.clone();
            Request::Embed { model: 0, purpose: Purpose::Query, texts }.write(&mut frame).expect("it fits");
        }
    }

    #[test]
    fn parts_are_smaller_towards_the_end() {
        let sizes =
            |count| windows(&vec!["text"; count], "", part_texts).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(250), [64, 64, 61, 30, 15, 8, 8]);
        assert_eq!(sizes(9), [8, 1]);
        assert_eq!(sizes(3), [3]);
        assert!(sizes(0).is_empty());
    }

    #[test]
    fn texts_are_to_blame_only_where_two_processes_died_while_they_had_them() {
        let loss = |done, sent| Loss { progress: Progress { done, sent }, reason: "it is gone".to_owned() };
        let is_killed = |first, second| matches!(after_two(&first, second), Error::EmbedderKilled { .. });
        assert!(is_killed(loss(3, 4), loss(3, 7)));
        assert!(!is_killed(loss(3, 3), loss(3, 4)), "expected one that made way for another to be no reason");
        assert!(!is_killed(loss(3, 4), loss(3, 3)), "expected one that died of loading a model to be none");
        let cannot_start = Error::EmbedderUnavailable { reason: "no worker is free".to_owned() };
        assert!(matches!(after_loss(cannot_start, &loss(3, 4)), Error::EmbedderLost { .. }));
    }

    #[test]
    fn blanks_after_a_prefix_are_kept() {
        assert_eq!(part_read("  a ", "query:"), "  a");
        assert_eq!(part_read("  a ", ""), "a");
    }
}
