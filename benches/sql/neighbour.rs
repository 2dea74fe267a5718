//! The neighbour: sentence-transformers in a Python process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::server::root;

const SCRIPT: &str = "benches/sql/neighbour.py";

/// A process that holds the model and embeds what it is given.
pub struct Neighbour {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    versions: String,
}

/// Starts it on `cores` threads, or says why it cannot be.
pub fn start(cores: usize) -> Result<Neighbour, String> {
    let model = model().ok_or("there is no model.safetensors for it below .local")?;
    let python = std::env::var("SENTENCE_TRANSFORMERS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut process = Command::new(&python)
        .arg(root().join(SCRIPT))
        .arg(model)
        .arg(cores.to_string())
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{python} did not start: {error}"))?;
    let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
        return Err("its pipes are missing".to_owned());
    };
    let mut neighbour = Neighbour { process, input, output: BufReader::new(output), versions: String::new() };
    let first = neighbour.read_line();
    match first.strip_prefix("ready ") {
        Some(versions) => {
            neighbour.versions = versions.to_owned();
            Ok(neighbour)
        }
        None => Err(format!(
            "{python} does not have it ({first}); SENTENCE_TRANSFORMERS_PYTHON names a Python that has it"
        )),
    }
}

impl Neighbour {
    /// The versions of sentence-transformers and torch.
    pub fn versions(&self) -> &str {
        &self.versions
    }

    /// How long it takes to embed `texts`.
    pub fn embed(&mut self, texts: &[&str]) -> Duration {
        let line = serde_json::to_string(texts).expect("texts are JSON");
        writeln!(self.input, "{line}").expect("its process listens");
        let seconds = self.read_line().parse().expect("it answers with seconds");
        Duration::from_secs_f64(seconds)
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        // At the end of the output the line is empty, and what is expected of it fails.
        let _ = self.output.read_line(&mut line);
        line.trim().to_owned()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The folder of the original weights, which sentence-transformers reads.
fn model() -> Option<PathBuf> {
    let ours = root().join(".local/models/all-MiniLM-L6-v2");
    let packages = fs::read_dir(root().join(".local/model-source")).ok();
    let originals = packages.into_iter().flatten().flatten().map(|package| package.path().join("model"));
    originals.chain([ours]).find(|folder| folder.join("model.safetensors").is_file())
}
