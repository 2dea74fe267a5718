//! A file that one process at a time holds locked, and that is gone when nobody does.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A lock that ends with this value, or with the process in whatever way.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    // Held for its lock.
    _file: File,
}

impl LockFile {
    /// The lock, or nothing when another process has it.
    ///
    /// # Errors
    /// Those of making, opening and locking the file.
    pub fn try_acquire(path: &Path) -> io::Result<Option<LockFile>> {
        loop {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever had it before may have removed the file after it was opened here; a lock on a
            // file without a name would keep nobody out.
            if is_named(&file, path)? {
                return Ok(Some(LockFile { path: path.to_owned(), _file: file }));
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // A file that stays behind is only opened by the next one who wants the lock.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((opened.dev(), opened.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquire(path: &Path) -> Option<LockFile> {
        LockFile::try_acquire(path).expect("the file can be made and locked")
    }

    #[test]
    fn one_at_a_time_holds_it_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = acquire(&path);
        assert!(first.is_some());
        assert!(acquire(&path).is_none());
        drop(first);
        assert!(!path.exists());
        assert!(acquire(&path).is_some());
    }

    #[test]
    fn a_file_that_lost_its_name_does_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let first = acquire(&path);
        fs::remove_file(&path).expect("it is there");
        assert!(acquire(&path).is_some());
        drop(first);
    }

    #[test]
    fn a_file_that_was_left_behind_is_no_obstacle() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        fs::write(&path, "").expect("a new file");
        assert!(acquire(&path).is_some());
    }

    #[test]
    fn many_threads_are_let_in_one_by_one() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut held = 0;
                    while held < 50 {
                        let Some(lock) = acquire(&path) else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        held += 1;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
