//! Opening the ONNX Runtime library, once for each process and not before the first use.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use once_cell::sync::OnceCell;
use ort::environment::Environment;

use crate::error::{Error, Result};

/// Never dropped: ONNX Runtime's own threads and static objects outlive any order of destruction
/// that a process exit could choose.
static ENVIRONMENT: OnceCell<Environment> = OnceCell::new();
static OPENING: Mutex<()> = Mutex::new(());

/// Names under which the system's loader finds an installed ONNX Runtime.
const SYSTEM_NAMES: [&str; 2] = ["libonnxruntime.so.1", "libonnxruntime.so"];

/// The process's ONNX Runtime environment, opened at the first call: from `configured` when it is
/// given, else from the first of `usual_places` that is a file, else by the system's loader.
///
/// # Errors
/// [`Error::LibraryMissing`] (55000) when no library is there, [`Error::LibraryUnusable`] (58000)
/// when it is no ONNX Runtime, or one older than 1.17. Both can be mended and tried again in the
/// same process.
pub fn open_runtime(configured: Option<&Path>, usual_places: &[PathBuf]) -> Result<&'static Environment> {
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let _only_one = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    ENVIRONMENT.get_or_try_init(|| open(configured, usual_places))
}

fn open(configured: Option<&Path>, usual_places: &[PathBuf]) -> Result<Environment> {
    let candidates: Vec<PathBuf> = match configured {
        Some(path) => vec![path.to_owned()],
        None => usual_places.iter().cloned().chain(SYSTEM_NAMES.iter().map(PathBuf::from)).collect(),
    };
    for path in &candidates {
        // Only bare names are left to the loader; a path that is no file is not worth its message.
        let is_bare_name = path.parent() == Some(Path::new(""));
        if !is_bare_name && !path.is_file() {
            continue;
        }
        match ort::init_from(path) {
            Ok(builder) => {
                return builder
                    .with_name("vector_tools")
                    .with_telemetry(false)
                    // The errors themselves come back as results; a log line on the server's
                    // standard error would belong to no statement.
                    .with_logger(std::sync::Arc::new(|_, _, _, _, _| {}))
                    .build()
                    .map_err(|error| unusable(path, &error));
            }
            Err(ort::LoadDynamicError::Dlopen { .. }) if is_bare_name => {}
            Err(error) => return Err(unusable(path, &error)),
        }
    }
    Err(Error::LibraryMissing { tried: candidates.iter().map(|path| path.display().to_string()).collect() })
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::LibraryUnusable { path: path.display().to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_says_what_was_tried() {
        let error = open(Some(Path::new("/nowhere/libonnxruntime.so")), &[]).expect_err("missing");
        let Error::LibraryMissing { tried } = error else {
            panic!("another error: {error:?}");
        };
        assert_eq!(tried, ["/nowhere/libonnxruntime.so"]);
    }

    #[test]
    fn a_file_that_is_no_library_is_unusable() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = open(Some(file.path()), &[]).expect_err("no library");
        assert_eq!(error.facts().sqlstate, "58000");
    }
}
