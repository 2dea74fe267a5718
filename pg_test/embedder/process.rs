//! An embedding process started as its supervisor starts it, and clients of it.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vector_tools_core::embed::protocol::ProcessStatistics;
use vector_tools_core::embed::shared::{Client, Connector, Transport, greet};
use vector_tools_core::error::{Error, Result};

/// Long enough for a slow machine; passing tests never wait so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The executable that cargo built.
pub const EXECUTABLE: &str = env!("CARGO_BIN_EXE_vector_tools_embedder");

/// A running process, its socket, and the supervisor's end of its control pipe.
pub struct Process {
    child: Child,
    control: Option<ChildStdin>,
    folder: TempDir,
    listener: UnixListener,
}

impl Process {
    /// Starts the process that cargo built.
    pub fn start(library: &Path, options: &[&str]) -> Process {
        Process::start_file(Path::new(EXECUTABLE), library, options)
    }

    /// Starts another file.
    pub fn start_file(executable: &Path, library: &Path, options: &[&str]) -> Process {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket");
        let (child, control) = spawn(executable, library, options, &listener);
        Process { child, control: Some(control), folder, listener }
    }

    /// Starts it again on the same socket, as a supervisor does after a crash.
    pub fn restart(&mut self, library: &Path, options: &[&str]) {
        let (child, control) = spawn(Path::new(EXECUTABLE), library, options, &self.listener);
        (self.child, self.control) = (child, Some(control));
    }

    /// A client that has not connected yet.
    pub fn client(&self) -> Client<SocketConnector> {
        Client::new(self.connector())
    }

    /// What makes connections to it.
    pub fn connector(&self) -> SocketConnector {
        SocketConnector { path: self.socket_path(), connections: 0 }
    }

    /// A socket that nothing was said on.
    pub fn socket(&self) -> UnixStream {
        UnixStream::connect(self.socket_path()).expect("the process listens")
    }

    /// Where its socket is.
    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// What the process counted.
    pub fn statistics(&self) -> ProcessStatistics {
        self.client().statistics().expect("the process answers")
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line on the control pipe.
    pub fn say(&mut self, line: &str) {
        let control = self.control.as_mut().expect("the pipe is open");
        writeln!(control, "{line}").expect("the process reads");
    }

    /// Closes the control pipe, as the end of the supervisor does.
    pub fn close_control(&mut self) {
        self.control = None;
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        wait_until("the process ends", || self.child.try_wait().expect("it can be asked"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    executable: &Path,
    library: &Path,
    options: &[&str],
    listener: &UnixListener,
) -> (Child, ChildStdin) {
    let mut command = Command::new(executable);
    command.arg("--library").arg(library).args(options);
    command.env_clear().env("ORT_DISABLE_TELEMETRY", "1").current_dir("/").stdin(Stdio::piped());
    let socket = listener.as_raw_fd();
    // SAFETY: only calls that are allowed between fork and exec are made.
    unsafe {
        command.pre_exec(move || {
            // By way of another descriptor, because one that is 3 already would be closed.
            let copy = libc::fcntl(socket, libc::F_DUPFD_CLOEXEC, 10);
            if copy < 0 || libc::dup2(copy, 3) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().expect("the process starts");
    let control = child.stdin.take().expect("it has a control pipe");
    (child, control)
}

/// Connects by path, and counts how often.
pub struct SocketConnector {
    path: PathBuf,
    pub connections: usize,
}

impl Connector for SocketConnector {
    type Transport = SocketTransport;

    fn connect(&mut self) -> Result<SocketTransport> {
        self.connections += 1;
        let socket = UnixStream::connect(&self.path)
            .map_err(|error| Error::EmbedderUnavailable { reason: error.to_string() })?;
        // A test that waits for a process that is not there is to fail, not to hang.
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut transport = SocketTransport(socket);
        greet(&mut transport)?;
        Ok(transport)
    }
}

/// A connection that waits in the simplest way.
pub struct SocketTransport(pub UnixStream);

impl Transport for SocketTransport {
    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(lost)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.0.read_exact(buffer).map_err(lost)
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::EmbedderLost { reason: error.to_string() }
}

/// Asks until there is an answer.
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
