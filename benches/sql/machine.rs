//! The machine and the versions that the figures belong to.

use std::fs;

use crate::neighbour::Neighbour;
use crate::plain;
use crate::server::program;

/// A list in Markdown.
pub fn describe(cores: usize, neighbour: &Result<Neighbour, String>) -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let kilobytes =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    let memory = kilobytes.map_or_else(|| "?".to_owned(), |size| format!("{:.0}", size / f64::from(1 << 20)));
    let library = fs::canonicalize(plain::library()).ok();
    let library = library.as_deref().and_then(|path| path.file_name()).unwrap_or_default().to_string_lossy();
    let beside = match neighbour {
        Ok(neighbour) => neighbour.versions().to_owned(),
        Err(_) => "no sentence-transformers".to_owned(),
    };
    [
        format!("- machine: {cores} cores, {processor}, {memory} GB of memory"),
        format!("- {}, vector_tools {}, {library}", postgresql(), env!("CARGO_PKG_VERSION")),
        format!("- {beside}"),
    ]
    .join("\n")
}

fn postgresql() -> String {
    let output = std::process::Command::new(program("postgres")).arg("--version").output();
    let output = output.expect("the server's program can be run");
    String::from_utf8_lossy(&output.stdout).trim().replace("postgres (PostgreSQL)", "PostgreSQL")
}

/// How many processes ran or wanted to, on average over the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What stands after the first `name:` in a file of /proc.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}
