//! What the kernel says about a process of the server.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds; `what` says what is waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "expected that {what}, within {} s", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the threads of a test whichever way it ends.
pub struct Ending<'a>(pub &'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The threads of a process.
pub fn threads_of(pid: i32) -> Vec<i32> {
    let folder = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap_or_else(|error| panic!("expected process {pid} to run: {error}"));
    folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The signals that a thread of a process has blocked, the first one as the lowest bit.
pub fn blocked_signals(pid: i32, thread: i32) -> u64 {
    let mask = status_field(&format!("/proc/{pid}/task/{thread}/status"), "SigBlk:");
    u64::from_str_radix(&mask, 16).expect("the kernel writes signal sets in hexadecimal")
}

/// The memory of a process that is in RAM, in kibibytes.
pub fn resident_kib(pid: i32) -> u64 {
    let size = status_field(&format!("/proc/{pid}/status"), "VmRSS:");
    size.trim_end_matches(" kB").parse().expect("the kernel writes sizes as numbers")
}

/// The most memory that a process has had in RAM, in kibibytes.
pub fn peak_kib(pid: i32) -> u64 {
    let size = status_field(&format!("/proc/{pid}/status"), "VmHWM:");
    size.trim_end_matches(" kB").parse().expect("the kernel writes sizes as numbers")
}

/// The memory that only this process holds, in kibibytes.
pub fn private_kib(pid: i32) -> u64 {
    private_kib_of(pid).unwrap_or_else(|| panic!("expected to read the memory of process {pid}"))
}

/// The memory that only this process holds, in kibibytes, while it is there.
pub fn private_kib_of(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    Some(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}

/// The processes that a process has started and that are there, dead ones that nobody has looked
/// after included.
pub fn children_of(pid: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("Linux has /proc").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|process| parent_of(*process) == Some(pid)).collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets that may hold blanks.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal by its name or number. A process that is gone is no error.
pub fn send_signal(pid: i32, signal: &str) {
    let command = format!("kill -{signal} {pid}");
    Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status().expect("a shell is needed");
}

/// The capabilities a process has in effect.
pub fn capabilities(pid: i32) -> u64 {
    let set = status_field(&format!("/proc/{pid}/status"), "CapEff:");
    u64::from_str_radix(&set, 16).expect("the kernel writes capabilities in hexadecimal")
}

/// Whether a process has ONNX Runtime in its memory.
pub fn has_onnxruntime(pid: i32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
        .unwrap_or_else(|error| panic!("expected to read the maps of process {pid}: {error}"));
    maps.contains("libonnxruntime")
}

/// The processor time of a process in clock ticks (usually a hundredth of a second).
pub fn processor_ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is a name in brackets that may hold blanks; user time is the 14th.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().nth(11).and_then(|ticks| ticks.parse().ok()).unwrap_or_default()
}

/// Whether a process is there.
pub fn is_alive(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}

fn status_field(path: &str, field: &str) -> String {
    let status = fs::read_to_string(path).unwrap_or_else(|error| panic!("expected to read {path}: {error}"));
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_else(|| panic!("expected {field} in {path}")).trim().to_owned()
}

/// The sockets a process has open.
pub fn open_sockets(pid: i32) -> Vec<String> {
    let mut sockets = descriptors(pid);
    sockets.retain(|target| target.starts_with("socket:"));
    sockets.sort_unstable();
    sockets
}

/// The files a process has open or mapped.
pub fn open_files(pid: i32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|start| line[start..].to_owned()));
    let mut files: Vec<String> = descriptors(pid).into_iter().chain(mapped).collect();
    files.sort_unstable();
    files.dedup();
    files
}

fn descriptors(pid: i32) -> Vec<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap_or_else(|error| panic!("expected process {pid} to run: {error}"));
    let targets = folder.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}
