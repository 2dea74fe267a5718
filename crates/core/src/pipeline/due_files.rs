//! Files that say which databases have rows to embed that no worker sees to.
//!
//! A worker serves one database, and PostgreSQL has no table that all databases share. So whoever finds
//! that there is no worker to be had for a database leaves a file with its number, and a worker that
//! ends starts the next one there. A file too many costs a worker that finds nothing to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PREFIX: &str = "vector_tools_due.";

/// The files, all in one folder.
#[derive(Debug, Clone)]
pub struct DueFiles {
    folder: PathBuf,
}

impl DueFiles {
    /// The files in a folder.
    pub fn new(folder: impl AsRef<Path>) -> DueFiles {
        DueFiles { folder: folder.as_ref().to_owned() }
    }

    /// Notes that a database has work at a time. An earlier time that was noted before stays.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn note(&self, database: u32, due: SystemTime) -> io::Result<()> {
        let path = self.path(database);
        if read(&path).is_some_and(|known| known <= due) {
            return Ok(());
        }
        let since = due.duration_since(UNIX_EPOCH).unwrap_or_default();
        fs::write(path, since.as_millis().to_string())
    }

    /// Takes back what was noted.
    ///
    /// # Errors
    /// Those of removing a file that is there.
    pub fn clear(&self, database: u32) -> io::Result<()> {
        match fs::remove_file(self.path(database)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What was noted, the earliest first.
    ///
    /// # Errors
    /// Those of reading a folder.
    pub fn list(&self) -> io::Result<Vec<(SystemTime, u32)>> {
        let mut due: Vec<(SystemTime, u32)> = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
            if let Some(database) = number {
                due.push((read(&entry.path()).unwrap_or(UNIX_EPOCH), database));
            }
        }
        due.sort();
        Ok(due)
    }

    fn path(&self, database: u32) -> PathBuf {
        self.folder.join(format!("{PREFIX}{database}"))
    }
}

/// The time in a file; one that cannot be read is in the past, so that somebody looks.
fn read(path: &Path) -> Option<SystemTime> {
    let text = fs::read_to_string(path).ok()?;
    let milliseconds = text.parse().unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_earliest_time_of_each_database_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = DueFiles::new(folder.path());
        assert_eq!(files.list().expect("a list"), []);
        for (database, seconds) in [(7, 30), (8, 20), (7, 10), (7, 40)] {
            files.note(database, at(seconds)).expect("a file");
        }
        assert_eq!(files.list().expect("a list"), [(at(10), 7), (at(20), 8)]);
        files.clear(7).expect("it is there");
        files.clear(7).expect("it does not have to be there");
        assert_eq!(files.list().expect("a list"), [(at(20), 8)]);
    }

    #[test]
    fn other_files_are_passed_by_and_broken_ones_are_due() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = DueFiles::new(folder.path());
        for (name, content) in [("vector_tools_due.9", "x"), ("vector_tools_due.x", "1"), ("other.9", "1")] {
            fs::write(folder.path().join(name), content).expect("a file");
        }
        assert_eq!(files.list().expect("a list"), [(UNIX_EPOCH, 9)]);
        assert!(DueFiles::new(folder.path().join("gone")).list().is_err());
    }
}
