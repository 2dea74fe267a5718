//! A private PostgreSQL server, started and stopped by tools/server.py.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The PostgreSQL that tests run, where `tools/test.py` has installed the extension.
fn postgresql() -> String {
    std::env::var("TEST_POSTGRESQL").unwrap_or_else(|_| ".local/postgresql-test/18".to_owned())
}

const USUAL_SETTINGS: [(&str, &str); 2] = [("fsync", "off"), ("shared_buffers", "64MB")];

/// A server that nobody else uses. It stops when this value is dropped, or when the test program
/// ends in whatever way; its data and log stay behind only after a failure.
pub struct Server {
    name: String,
    /// Host and port, as libpq reads them.
    address: String,
    keeper: Child,
}

impl Server {
    /// Makes a new server called `name` (`test-…`) with more settings than the usual ones.
    pub fn start(name: &str, settings: &[(&str, &str)]) -> Server {
        let mut arguments = vec!["--fresh".to_owned()];
        for (setting, value) in USUAL_SETTINGS.iter().chain(settings) {
            arguments.extend(["--set".to_owned(), format!("{setting}={value}")]);
        }
        Server::call_start(name, &arguments)
    }

    /// Starts a server on a data folder that is already there.
    #[allow(dead_code, reason = "the test docs shares this file")]
    pub fn start_on(name: &str, data: &Path, settings: &[(&str, &str)]) -> Server {
        let mut arguments = vec!["--data".to_owned(), data.display().to_string()];
        for (setting, value) in settings {
            arguments.extend(["--set".to_owned(), format!("{setting}={value}")]);
        }
        Server::call_start(name, &arguments)
    }

    fn call_start(name: &str, arguments: &[String]) -> Server {
        let output = server_py("start", name)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("python3 is needed to start a server");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "expected tools/server.py to start {name}, but it said:\n{errors}");
        let connection = said.trim_end().rsplit('\n').next().unwrap_or_default();
        let address = connection.split(" user=").next().unwrap_or_default().to_owned();
        Server { name: name.to_owned(), address, keeper: keep(name, arguments) }
    }

    /// The connection string for a database and a role.
    pub fn connection(&self, database: &str, role: &str) -> String {
        format!("{} user={role} dbname={database}", self.address)
    }

    /// The server's folder below .local.
    #[allow(dead_code, reason = "the test docs shares this file")]
    pub fn folder(&self) -> PathBuf {
        root().join(".local").join(&self.name)
    }

    /// Where it keeps its data, unless it was started on another folder.
    #[allow(dead_code, reason = "the test docs shares this file")]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Stops it in one of the ways of pg_ctl.
    #[allow(dead_code, reason = "the test docs shares this file")]
    pub fn stop(&self, mode: &str) {
        let output = Command::new("python3")
            .current_dir(root())
            .arg("tools/as_server_user.py")
            .arg(program("pg_ctl"))
            .args(["stop", "-w", "-m", mode, "-D"])
            .arg(self.data())
            .stdin(Stdio::null())
            .output()
            .expect("python3 is needed");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "expected a stop in the mode {mode}:\n{said}");
    }

    /// Starts it again after a stop or a crash, with the settings it had.
    #[allow(dead_code, reason = "the test docs shares this file")]
    pub fn start_again(&self, settings: &[(&str, &str)]) {
        let mut command = server_py("start", &self.name);
        for (setting, value) in USUAL_SETTINGS.iter().chain(settings) {
            command.args(["--set".to_owned(), format!("{setting}={value}")]);
        }
        let output = command.stdin(Stdio::null()).output().expect("python3 is needed to start a server");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "expected {} to start again:\n{errors}", self.name);
    }

    /// Everything the server has logged.
    #[allow(dead_code, reason = "the test docs shares this file")]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder().join("log")).expect("the server has a log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Keeps the data and the log after the stop, for whoever looks into a failure.
    pub fn keep_files(&self) {
        if let Some(mut stdin) = self.keeper.stdin.as_ref() {
            // A keeper that is gone has nothing to keep.
            let _ = stdin.write_all(b"keep\n");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep_files();
        }
        drop(self.keeper.stdin.take());
        // Nothing is left to do when the wait fails.
        let _ = self.keeper.wait();
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// One of PostgreSQL's own programs.
pub fn program(name: &str) -> PathBuf {
    root().join(postgresql()).join("bin").join(name)
}

fn server_py(verb: &str, name: &str) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(root()).args([
        "tools/server.py",
        verb,
        "--name",
        name,
        "--postgresql",
        &postgresql(),
    ]);
    // With it set, a detail would hold a backtrace that no user's server puts there.
    command.env_remove("RUST_BACKTRACE");
    // The extension itself must keep ONNX Runtime from reporting, on a server without this too.
    command.env_remove("ORT_DISABLE_TELEMETRY");
    command
}

/// Starts a process that stops the server when its standard input ends, which it does even when
/// this program is killed.
fn keep(name: &str, arguments: &[String]) -> Child {
    let script = r#"trap "" INT
        remove=--remove
        while read -r word; do remove=; done
        exec python3 tools/server.py stop "$@" $remove >/dev/null 2>&1"#;
    let data = arguments.iter().skip_while(|argument| *argument != "--data").take(2);
    Command::new("sh")
        .current_dir(root())
        .args(["-c", script, "sh", "--name", name, "--postgresql", &postgresql()])
        .args(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell is needed to stop the server in the end")
}
