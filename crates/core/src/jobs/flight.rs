//! What a process is working on, in a file that outlives it.
//!
//! A row that brings its process down takes the transaction along in which it would be counted as an
//! attempt, so it would be tried, and bring the server down, for ever. So each process that runs batches
//! keeps a file, which it holds locked, with the rows of the batch it is at. A file with rows that nobody
//! holds is that of a process that died over them.
//!
//! A file and not a table: it costs no commit before each batch, and a process that is told to die
//! for the sake of another one can still empty it (`pg::flights`), so that only the one that died by
//! itself counts. It need not survive the machine, whose end is no row's fault.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Failure;
pub use super::failure::{DIED, OVERDUE};

/// A batch that a process is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    /// The table of the queue, which another one may follow.
    pub queue: u32,
    /// The table whose rows these are.
    pub source: u32,
    /// The entries of the queue that have them.
    pub entries: Vec<i64>,
    /// Their keys.
    pub keys: Vec<Vec<String>>,
}

impl Flight {
    /// What its rows are said to have failed with.
    pub fn failure(&self, sqlstate: &str) -> Failure {
        let is_alone = self.keys.len() == 1;
        if sqlstate == OVERDUE { Failure::of_delay(is_alone) } else { Failure::of_death("server", is_alone) }
    }
}

/// The file of this process. It stays behind when the process ends, and the next one that looks removes
/// it.
#[derive(Debug)]
pub struct FlightFile {
    file: File,
    path: PathBuf,
}

impl FlightFile {
    /// A new file of a process.
    ///
    /// # Errors
    /// Those of making and locking a file.
    pub fn create(folder: &Path, database: u32, process: u32) -> io::Result<FlightFile> {
        loop {
            // The number of a process comes again, and an orphan may have it.
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let path = folder.join(format!("{}{process}.{time}", prefix(database)));
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&path)?;
            // Somebody who looks for orphans may come between, and takes it for an empty one.
            if file.try_lock().is_ok() && file.metadata()?.nlink() > 0 {
                return Ok(FlightFile { file, path });
            }
        }
    }

    /// Says what the process is at from now on.
    ///
    /// # Errors
    /// Those of writing.
    pub fn begin(&mut self, flight: &Flight) -> io::Result<()> {
        self.end()?;
        self.file.rewind()?;
        self.file.write_all(&serde_json::to_vec(flight)?)
    }

    /// Says that it is at nothing.
    ///
    /// # Errors
    /// Those of writing.
    pub fn end(&mut self) -> io::Result<()> {
        self.file.set_len(0)
    }

    /// Removes the file, where the process ends in order.
    ///
    /// # Errors
    /// Those of removing it.
    pub fn remove(&mut self) -> io::Result<()> {
        self.end()?;
        fs::remove_file(&self.path)
    }

    /// For a signal handler that empties it.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// The file of a process that is gone.
#[derive(Debug)]
pub struct Orphan {
    path: PathBuf,
    /// What it was at.
    pub flight: Flight,
    // Held for its lock, so that one process looks at it.
    _file: File,
}

impl Orphan {
    /// Removes the file, when everything is done about it.
    pub fn remove(self) {
        // Whoever finds it again finds that its entries are gone.
        let _ = fs::remove_file(&self.path);
    }
}

/// The files of processes that died over rows of a database. Those that were at nothing are removed.
///
/// # Errors
/// Those of reading a folder.
pub fn find_orphans(folder: &Path, database: u32) -> io::Result<Vec<Orphan>> {
    let prefix = prefix(database);
    let mut orphans = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        if is_one && let Some(orphan) = open_orphan(entry.path()) {
            orphans.push(orphan);
        }
    }
    Ok(orphans)
}

fn open_orphan(path: PathBuf) -> Option<Orphan> {
    let mut file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
    match file.try_lock() {
        Ok(()) => {}
        // Its process is there, or somebody else looks at it.
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    match serde_json::from_slice(&text) {
        Ok(flight) => Some(Orphan { path, flight, _file: file }),
        Err(_) => {
            // Empty, or half written by a process that had not begun yet.
            let _ = fs::remove_file(&path);
            None
        }
    }
}

fn prefix(database: u32) -> String {
    format!("vector_tools_batch.{database}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(key: &str) -> Flight {
        Flight { queue: 1, source: 2, entries: vec![3], keys: vec![vec![key.to_owned()]] }
    }

    fn create(folder: &Path, process: u32) -> FlightFile {
        FlightFile::create(folder, 5, process).expect("a new file")
    }

    fn orphans(folder: &Path) -> Vec<Flight> {
        let found = find_orphans(folder, 5).expect("the folder is there");
        found.into_iter().map(|orphan| orphan.flight).collect()
    }

    #[test]
    fn a_row_that_was_alone_is_dead_in_the_end() {
        let alone = flight("a");
        assert_eq!(alone.failure(DIED).most_attempts, Some(5));
        let two = Flight { keys: vec![vec!["a".into()], vec!["b".into()]], ..alone };
        assert_eq!(two.failure(OVERDUE).most_attempts, None, "expected the others not to be blamed");
    }

    #[test]
    fn only_a_process_that_is_gone_leaves_an_orphan() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = create(folder.path(), 1);
        file.begin(&flight("a longer key")).expect("room");
        file.begin(&flight("b")).expect("room");
        assert_eq!(orphans(folder.path()), []);
        drop(file);
        assert!(find_orphans(folder.path(), 6).expect("the folder is there").is_empty());
        assert_eq!(orphans(folder.path()), [flight("b")]);
        assert_eq!(orphans(folder.path()), [flight("b")], "expected it to stay until it is removed");
        find_orphans(folder.path(), 5).expect("the folder is there").into_iter().for_each(Orphan::remove);
        assert_eq!(orphans(folder.path()), []);
    }

    #[test]
    fn a_process_that_was_at_nothing_leaves_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = create(folder.path(), 1);
        file.begin(&flight("a")).expect("room");
        file.end().expect("room");
        drop(file);
        assert_eq!(orphans(folder.path()), []);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "expected no file to stay");
    }

    #[test]
    fn one_process_at_a_time_looks_at_an_orphan() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = create(folder.path(), 1);
        file.begin(&flight("a")).expect("room");
        drop(file);
        let held = find_orphans(folder.path(), 5).expect("the folder is there");
        assert_eq!(orphans(folder.path()), []);
        // A new process may have the number of the one that is gone.
        let _new = create(folder.path(), 1);
        drop(held);
        assert_eq!(orphans(folder.path()).len(), 1);
    }
}
