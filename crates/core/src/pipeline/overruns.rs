//! On which tables work was ended by its limit, in a file that outlives the worker.
//!
//! Work that does not listen takes its process along. The next one has to know, or the same table would have the first
//! turn and the whole time again. One worker at a time writes a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// What is known of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrun {
    /// Pieces of work in a row that were ended by their limit.
    pub times: u32,
    /// It is left alone until then.
    pub until: SystemTime,
    /// Its owner, whose other tables come after those of others meanwhile: he may have many.
    pub owner: u32,
}

/// The tables that one kind of worker has to do with in one database.
#[derive(Debug)]
pub struct Overruns {
    path: PathBuf,
    tables: HashMap<u32, Overrun>,
}

impl Overruns {
    /// Reads what is known. A file that cannot be read says nothing.
    pub fn read(folder: &Path, kind: &str, database: u32) -> Overruns {
        let path = folder.join(format!("vector_tools_overruns.{kind}.{database}"));
        let text = fs::read(&path).unwrap_or_default();
        Overruns { tables: serde_json::from_slice(&text).unwrap_or_default(), path }
    }

    /// What is known of a table.
    pub fn of(&self, table: u32) -> Option<Overrun> {
        self.tables.get(&table).copied()
    }

    /// Whether a table of this owner is left alone now.
    pub fn has_owner(&self, owner: u32) -> bool {
        let now = SystemTime::now();
        self.tables.values().any(|overrun| overrun.owner == owner && overrun.until > now)
    }

    /// Notes that work on a table was ended by its limit, or will have been if nobody says otherwise. The table is left
    /// alone for `pause`.
    ///
    /// # Errors
    /// Those of writing a file; this process knows it all the same.
    pub fn note(&mut self, table: u32, owner: u32, pause: Duration) -> io::Result<()> {
        let now = SystemTime::now();
        // What is over says nothing any more, and tables that are gone do not stay for ever.
        self.tables.retain(|_, overrun| overrun.until + FORGOTTEN_AFTER > now);
        let times = self.of(table).map_or(0, |overrun| overrun.times) + 1;
        self.tables.insert(table, Overrun { times, until: now + pause, owner });
        self.write()
    }

    /// Forgets a table, on which a piece of work came to its end.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn forget(&mut self, table: u32) -> io::Result<()> {
        if self.tables.remove(&table).is_some() { self.write() } else { Ok(()) }
    }

    fn write(&self) -> io::Result<()> {
        fs::write(&self.path, serde_json::to_vec(&self.tables)?)
    }
}

/// A table that has not had a turn for so long begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_knows_what_the_last_one_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = || Overruns::read(folder.path(), "worker", 5);
        let mut overruns = read();
        assert_eq!(overruns.of(7), None);
        for _ in 0..2 {
            overruns.note(7, 10, Duration::from_secs(60)).expect("a file");
        }
        let known = read().of(7).expect("it was noted");
        assert_eq!(known.times, 2);
        assert!(known.until > SystemTime::now());
        assert!(read().has_owner(10) && !read().has_owner(11));
        for (kind, database) in [("worker", 6), ("statistics", 5)] {
            assert_eq!(Overruns::read(folder.path(), kind, database).of(7), None, "{kind} {database}");
        }
        read().forget(7).expect("a file");
        assert_eq!(read().of(7), None);
    }

    #[test]
    fn a_file_that_is_broken_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("vector_tools_overruns.worker.5"), "x").expect("a file");
        let read = || Overruns::read(folder.path(), "worker", 5);
        let mut overruns = read();
        assert_eq!(overruns.of(7), None);
        overruns.note(7, 10, Duration::ZERO).expect("a file");
        assert!(read().of(7).is_some());
        assert!(!read().has_owner(10), "expected an owner to have his turn when the time is over");
    }
}
