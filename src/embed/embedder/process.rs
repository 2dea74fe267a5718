//! The embedder process as a child of the supervisor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use vector_tools_core::embed::supervision::End;

/// Where the child finds the socket that it accepts connections on.
const SOCKET: RawFd = 3;
/// The exit code of a child that was started in a way that it can do nothing with.
const UNFIT: i32 = 2;

/// What a process is started with; another choice needs another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The executable.
    pub program: PathBuf,
    /// Threads that run models.
    pub threads: usize,
    /// Megabytes it may use, 0 for any number.
    pub memory_limit: usize,
    /// Seconds without a request after which it ends, 0 for never.
    pub idle_timeout: usize,
    /// The ONNX Runtime library, when the setting names one.
    pub configured_library: Option<PathBuf>,
    /// Where the library is looked for otherwise.
    pub usual_libraries: Vec<PathBuf>,
}

/// A running process. Dropping it kills it.
pub struct Process {
    child: Child,
    started: Instant,
}

impl Process {
    /// Starts a process that accepts connections on `socket`.
    ///
    /// # Errors
    /// Those of starting a program.
    pub fn start(choice: &Choice, socket: BorrowedFd, restarts: u64) -> io::Result<Process> {
        let mut command = Command::new(&choice.program);
        command
            .args(arguments(choice, restarts))
            .env_clear()
            // Official builds of ONNX Runtime send usage reports unless told not to.
            .env("ORT_DISABLE_TELEMETRY", "1")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let socket = socket.as_raw_fd();
        // SAFETY: between fork and exec only system calls on descriptors are made.
        unsafe { command.pre_exec(move || hand_over(socket)) };
        // Held until the child runs, lest a pipe that `spawn` opens lie where the socket shall be.
        let _occupied = occupy_up_to(SOCKET)?;
        Ok(Process { child: command.spawn()?, started: Instant::now() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How long it has lived.
    pub fn lived(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<(End, ExitStatus)> {
        let status = match self.child.try_wait() {
            Ok(status) => status?,
            // A child that cannot be waited for is none.
            Err(_) => ExitStatus::from_raw(libc::SIGKILL),
        };
        let end = match status.code() {
            Some(0) => End::Done,
            Some(UNFIT) => End::Unfit,
            Some(_) => End::Failed,
            None => End::Killed,
        };
        Some((end, status))
    }

    /// Has it finish the requests it has, and then end.
    pub fn drain(&mut self) {
        if let Some(control) = &mut self.child.stdin {
            // A process that does not read any more has ended.
            let _ = control.write_all(b"drain\n");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(choice: &Choice, restarts: u64) -> Vec<std::ffi::OsString> {
    let number = |option: &str, value: u64| [option.into(), value.to_string().into()];
    let path = |option: &str, path: &Path| [option.into(), path.into()];
    let mut arguments = Vec::new();
    arguments.extend(number("--threads", choice.threads as u64));
    arguments.extend(number("--memory-limit-mb", choice.memory_limit as u64));
    arguments.extend(number("--idle-timeout-s", choice.idle_timeout as u64));
    arguments.extend(number("--restarts", restarts));
    for library in &choice.usual_libraries {
        arguments.extend(path("--library", library));
    }
    if let Some(library) = &choice.configured_library {
        arguments.extend(path("--configured-library", library));
    }
    arguments
}

/// Runs in the child: gives it the socket, and takes every other descriptor of the server away.
fn hand_over(socket: RawFd) -> io::Result<()> {
    // SAFETY: system calls on descriptors of this process, which is about to become another
    // program. Descriptors are marked to close at that moment, because std still needs one.
    unsafe {
        let given =
            if socket == SOCKET { libc::fcntl(socket, libc::F_SETFD, 0) } else { libc::dup2(socket, SOCKET) };
        if given < 0 {
            return Err(io::Error::last_os_error());
        }
        let rest = (SOCKET + 1) as libc::c_uint;
        let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
        if libc::syscall(libc::SYS_close_range, rest, libc::c_uint::MAX, flags) < 0 {
            // Before Linux 5.11, one by one.
            for descriptor in SOCKET + 1..libc::sysconf(libc::_SC_OPEN_MAX).min(1 << 16) as RawFd {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
    Ok(())
}

/// Opens files until no descriptor up to `last` is free.
fn occupy_up_to(last: RawFd) -> io::Result<Vec<File>> {
    let mut files: Vec<File> = Vec::new();
    while files.last().is_none_or(|file| file.as_fd().as_raw_fd() <= last) {
        files.push(File::open("/dev/null")?);
    }
    Ok(files)
}
