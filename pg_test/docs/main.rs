//! Runs every example of the documentation and compares what it gives with what the page shows.
//!
//! Each Markdown file is one test: its `sql` blocks run in their order, in one session of psql and
//! a database of its own, and a `text` block that directly follows is what the block must write.
//! A `sql error` block must fail; a `sql demo` block runs where the demo has loaded its data. The
//! extension is there already unless a block of the file creates it. `UPDATE_DOCS=1` writes the
//! real output into the files; `DOCS_ROOT` names another folder to look for files in; words on the
//! command line choose files by parts of their names.

#[path = "../cluster/server.rs"]
mod server;

mod blocks;
mod psql;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use blocks::{Block, Kind, sql_blocks, with_outputs};
use psql::Psql;
use server::{Server, root};

/// What is queued waits for the example that embeds it.
const SETTINGS: [(&str, &str); 1] = [("vector_tools.max_workers", "0")];
const DEMO: &str = "examples/demo/run.py";

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let folder = std::env::var_os("DOCS_ROOT").map_or_else(|| root().to_owned(), PathBuf::from);
    let mut files = documents(&folder);
    files.retain(|file| wanted.is_empty() || wanted.iter().any(|word| name_in(&folder, file).contains(word)));
    if files.is_empty() {
        println!("no documentation to test");
        return ExitCode::SUCCESS;
    }
    let site = Site { server: Server::start("test-docs", &SETTINGS), demo: OnceLock::new() };
    let mut failures = 0;
    for (number, file) in files.iter().enumerate() {
        let name = name_in(&folder, file);
        match site.check(file, &format!("docs_{number}")) {
            Ok(0) => println!("test {name} ... ok (no example)"),
            Ok(count) => println!("test {name} ... ok ({count} examples)"),
            Err(problems) => {
                failures += 1;
                println!("test {name} ... FAILED");
                for problem in problems {
                    println!("{name}: {problem}");
                }
            }
        }
    }
    println!("\ntest result: {} of {} files passed", files.len() - failures, files.len());
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        site.server.keep_files();
        ExitCode::FAILURE
    }
}

/// The files whose examples are promises.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["README.md", "models/README.md"].map(|name| folder.join(name)).to_vec();
    found.extend(
        entries(&folder.join("docs")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    let mut folders = vec![folder.join("examples")];
    while let Some(next) = folders.pop() {
        found.push(next.join("README.md"));
        // Packages that an example has brought in are not ours.
        let is_ours = |path: &PathBuf| path.is_dir() && !path.ends_with("node_modules");
        folders.extend(entries(&next).into_iter().filter(is_ours));
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn name_in(folder: &Path, file: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

/// The server, and the database of the demo once a file needs it.
struct Site {
    server: Server,
    demo: OnceLock<Result<(), String>>,
}

impl Site {
    /// Runs a file's blocks; gives their number, or what is wrong.
    fn check(&self, file: &Path, database: &str) -> Result<usize, Vec<String>> {
        let read = |error: std::io::Error| vec![format!("could not be read: {error}")];
        let markdown = fs::read_to_string(file).map_err(read)?;
        let blocks = sql_blocks(&markdown).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let mut outputs = Vec::new();
        let mut plain = None;
        let mut demo = None;
        for block in &blocks {
            if let Some(problem) = unfinished(block) {
                problems.push(problem);
                continue;
            }
            let session = match block.kind {
                Kind::Demo => match self.demo_database() {
                    Ok(()) => demo.get_or_insert_with(|| Psql::connect(&self.connection("demo"))),
                    Err(problem) => {
                        problems.push(format!("line {}: {problem}", block.line));
                        continue;
                    }
                },
                _ => plain.get_or_insert_with(|| self.new_session(database, &blocks)),
            };
            let answer = session.run(&block.sql, block.kind == Kind::Error);
            match (block.kind, &answer.sqlstate) {
                (Kind::Error, None) => {
                    problems.push(format!(
                        "line {}: expected an error, but it gave\n{}",
                        block.line, answer.output
                    ));
                }
                (Kind::Plain | Kind::Demo, Some(state)) => {
                    problems.push(format!(
                        "line {}: expected success, not {state}:\n{}",
                        block.line, answer.output
                    ));
                    // psql has ended, and what follows builds on this block.
                    break;
                }
                _ => {}
            }
            if let Some(output) = &block.output {
                let (expected, found) = (trimmed(&output.text), trimmed(&answer.output));
                if expected != found {
                    problems.push(format!(
                        "line {}: expected\n{expected}\n--- but it gave\n{found}\n---",
                        block.line
                    ));
                    outputs.push((output, found));
                }
            }
        }
        if std::env::var_os("UPDATE_DOCS").is_some() && !outputs.is_empty() {
            let written = fs::write(file, with_outputs(&markdown, &outputs));
            written.map_err(|error| vec![format!("could not be written: {error}")])?;
            problems.retain(|problem| !problem.ends_with("\n---"));
        }
        if problems.is_empty() { Ok(blocks.len()) } else { Err(problems) }
    }

    fn connection(&self, database: &str) -> String {
        self.server.connection(database, "postgres")
    }

    /// A session in a new database, with the extension unless the file itself creates it.
    fn new_session(&self, database: &str, blocks: &[Block]) -> Psql {
        self.create_database(database);
        let mut session = Psql::connect(&self.connection(database));
        let creates = |block: &Block| block.sql.to_uppercase().contains("CREATE EXTENSION");
        if !blocks.iter().any(creates) {
            let answer = session.run("CREATE EXTENSION vector_tools CASCADE;", false);
            assert!(answer.sqlstate.is_none(), "expected CREATE EXTENSION to succeed:\n{}", answer.output);
        }
        session
    }

    fn create_database(&self, database: &str) {
        let statement = format!("CREATE DATABASE {database} TEMPLATE template0;");
        let answer = Psql::connect(&self.connection("postgres")).run(&statement, false);
        assert!(answer.sqlstate.is_none(), "expected a new database:\n{}", answer.output);
    }

    /// Makes the database of the demo at the first call.
    fn demo_database(&self) -> Result<(), String> {
        let make = || {
            if !root().join(DEMO).is_file() {
                return Err(format!("expected {DEMO}, which loads the data for sql demo blocks"));
            }
            self.create_database("demo");
            let output = Command::new("python3")
                .current_dir(root())
                .args([DEMO, &self.connection("demo")])
                .stdin(Stdio::null())
                .output()
                .map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(format!("expected {DEMO} to succeed:\n{said}")) }
        };
        self.demo.get_or_init(make).clone()
    }
}

/// What is wrong with a block that psql would go on waiting for.
fn unfinished(block: &Block) -> Option<String> {
    let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("--");
    let last = block.sql.lines().rfind(code)?;
    let statement = last.split(" --").next().unwrap_or_default().trim();
    let ends = statement.ends_with(';') || statement.contains('\\');
    (!ends).then(|| format!("line {}: expected the last statement to end with a semicolon", block.line))
}

/// Output without blanks at the ends of lines, nor empty lines around it.
fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}
