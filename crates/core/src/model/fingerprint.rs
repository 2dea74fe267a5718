//! The sha256 of a model's files, by which a model keeps its identity.

use std::path::Path;
use std::{fs, io};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::{hexadecimal, sha256_hex};

/// Reads a file whole and returns its bytes with their sha256, so that what is used is what was
/// checked. `role` names the file's part in the model for the error.
///
/// # Errors
/// [`Error::FileMissing`] (58P01), [`Error::FileUnreadable`] (42501 or 58030).
pub fn read_with_sha256(path: &Path, role: &'static str) -> Result<(Vec<u8>, String)> {
    let bytes = fs::read(path).map_err(|error| Error::from_io(path, role, &error))?;
    let sha256 = sha256_hex(&bytes);
    Ok((bytes, sha256))
}

/// Reads a graph like [`read_with_sha256`]; where its weights are in a file of their own, the
/// sha256 is that of the two files one after the other.
///
/// # Errors
/// Those of [`read_with_sha256`].
pub fn read_graph_with_sha256(graph: &Path, weights: Option<&Path>) -> Result<(Vec<u8>, String)> {
    let role = "ONNX graph";
    let Some(weights) = weights else {
        return read_with_sha256(graph, role);
    };
    let bytes = fs::read(graph).map_err(|error| Error::from_io(graph, role, &error))?;
    let mut hasher = Sha256::new_with_prefix(&bytes);
    fs::File::open(weights)
        .and_then(|mut file| io::copy(&mut file, &mut hasher))
        .map_err(|error| Error::from_io(weights, "weights of the model", &error))?;
    let sha256 = hexadecimal(&hasher.finalize());
    Ok((bytes, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_beside_the_graph_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let (graph, weights) = (folder.path().join("g"), folder.path().join("w"));
        fs::write(&graph, "a").expect("written");
        fs::write(&weights, "bc").expect("written");
        let (_, sha256) = read_graph_with_sha256(&graph, Some(&weights)).expect("readable");
        assert_eq!(sha256, sha256_hex(b"abc"));
    }
}
