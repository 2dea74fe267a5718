//! One psql that is fed block by block, as a reader would paste them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::server::program;

const MARKER: &str = "-- end of block --";

/// What a block gave.
pub struct Answer {
    /// Everything psql wrote, results and errors in their order.
    pub output: String,
    /// The SQLSTATE of the last error, if there was one.
    pub sqlstate: Option<String>,
}

/// A session that lasts for a whole file.
pub struct Psql {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Psql {
    /// Connects with psql's usual settings.
    pub fn connect(connection: &str) -> Psql {
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$0" -X -P pager=off "$1" 2>&1"#]).arg(program("psql")).arg(connection);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        let mut child = command
            .env("PGCLIENTENCODING", "UTF8")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell is needed to start psql");
        let stdin = child.stdin.take().expect("it was asked for");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        Psql { child, stdin, stdout }
    }

    /// Runs a block to its end or, unless it is meant to fail, to its first error.
    pub fn run(&mut self, sql: &str, may_fail: bool) -> Answer {
        let stop = if may_fail { "off" } else { "on" };
        let script = format!(
            "\\set ON_ERROR_STOP {stop}\n\\set LAST_ERROR_SQLSTATE none\n{sql}\n\\echo '{MARKER}' :LAST_ERROR_SQLSTATE\n"
        );
        // A psql that has ended is noticed by its output.
        let _ = self.stdin.write_all(script.as_bytes()).and_then(|()| self.stdin.flush());
        let mut output = String::new();
        let mut line = String::new();
        loop {
            line.clear();
            match self.stdout.read_line(&mut line) {
                Ok(0) | Err(_) => {
                    return Answer { output, sqlstate: Some("an error that ended psql".to_owned()) };
                }
                Ok(_) => match line.trim_end().split_once(MARKER) {
                    Some((rest, sqlstate)) => {
                        output.push_str(rest);
                        let sqlstate = Some(sqlstate.trim().to_owned()).filter(|state| state != "none");
                        return Answer { output, sqlstate };
                    }
                    None => output.push_str(&line),
                },
            }
        }
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        // It ends by itself once it has read everything; a failed wait leaves nothing to do.
        let _ = self.stdin.write_all(b"\\q\n");
        let _ = self.child.wait();
    }
}
