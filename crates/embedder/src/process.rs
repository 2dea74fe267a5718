//! What the process asks of the operating system and of the C library for itself.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Takes over the listening socket, descriptor 3, which the supervisor left open. To be called once.
pub fn take_listener() -> OwnedFd {
    // SAFETY: this program is given the descriptor, main.rs takes it before anything else could
    // open one, and where it is not open, the first use of it fails.
    unsafe { OwnedFd::from_raw_fd(3) }
}

/// Ends the process at once, without the destructors of libraries, whose threads still run.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: it may be called at any time, from any thread.
    unsafe { libc::_exit(code) }
}

/// Writes a line to the log of the server.
pub fn log(message: &str) {
    use std::io::Write;
    // A closed log is no reason to end.
    let _ = writeln!(std::io::stderr(), "LOG:  vector_tools embedder: {message}");
}

/// Lets the threads of other work go before this one, without starving it on a busy machine.
pub fn stand_back() {
    let usual = rustix::process::getpriority_process(None).unwrap_or(0);
    // Without it, bulk work takes its share from queries, which is no error.
    let _ = rustix::process::setpriority_process(None, (usual + STANDING_BACK).min(LEAST_URGENT));
}

/// Nice values: a tenth of the share of a thread that does not stand back.
const STANDING_BACK: i32 = 10;
const LEAST_URGENT: i32 = 19;

/// Makes the C library keep the memory that runs of few tokens work in, with a heap for each
/// thread that runs them, and give back what larger runs leave.
pub fn tune_memory(threads: usize) {
    #[cfg(target_env = "gnu")]
    // SAFETY: the options are known to the C library, which refuses values that it cannot use, and
    // no other thread runs yet.
    unsafe {
        // Both lanes, and the one of the main thread.
        libc::mallopt(libc::M_ARENA_MAX, 2 * threads as i32 + 1);
        // Each larger buffer is asked of the system anew, which costs a seventh of the time, but the
        // batches of the bulk lane have few of them.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 << 20);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = threads;
}

/// Gives the C library's free memory back to the system.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    trim_memory_of_thread();
}

/// Gives what is free at the end of this thread's heap back to the system, after larger runs some tens of megabytes.
/// [`trim_memory`] leaves it to each thread: the C library looks at the end of a heap only when a larger piece is freed
/// in it, and at no other thread's.
pub fn trim_memory_of_thread() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGER_PIECE)));
}

/// Twice what the C library takes for large here, and less than what it asks of the system by itself.
const LARGER_PIECE: usize = 128 << 10;

/// Has the kernel put the memory in use into large pages, where it may have such. Weights are read
/// from beginning to end in each run, and through pages of 4 kB that took a tenth to a fifth longer.
pub fn use_large_pages() {
    let allowed = fs::read_to_string(LARGE_PAGES.to_owned() + "enabled").unwrap_or_default();
    let size = fs::read_to_string(LARGE_PAGES.to_owned() + "hpage_pmd_size").unwrap_or_default();
    let Ok(size) = size.trim().parse::<usize>() else { return };
    if allowed.is_empty() || allowed.contains("[never]") || size > LARGEST_PAGE {
        return;
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(own_memory) {
        let (start, end) = (start.next_multiple_of(size), end - end % size);
        if start < end {
            let place = std::ptr::without_provenance_mut(start);
            // SAFETY: advice about pages changes nothing that is in them, and where they are mapped
            // no more, the kernel refuses it. Kernels before 6.1 know the first and get to it in time.
            unsafe {
                libc::madvise(place, end - start, libc::MADV_HUGEPAGE);
                libc::madvise(place, end - start, MADV_COLLAPSE);
            }
        }
    }
}

const LARGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/";
/// Larger ones would hold more than a model.
const LARGEST_PAGE: usize = 4 << 20;
/// From linux/mman.h; the C library's is too new for some.
const MADV_COLLAPSE: libc::c_int = 25;

/// The addresses in a line of /proc/self/maps, if it is memory of the process alone and of no file.
fn own_memory(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_private = fields.next() == Some("rw-p");
    let is_anonymous = fields.nth(2) == Some("0") && fields.next().is_none_or(|name| name == "[heap]");
    let number = |text| usize::from_str_radix(text, 16).ok();
    (is_private && is_anonymous).then_some((number(start)?, number(end)?))
}

/// The private memory of the process in bytes: what ending it would give back.
pub fn private_memory() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let mut pages = text.split_ascii_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
    let (_, resident, shared) = (pages.next(), pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The file that this process was started from.
pub struct Executable {
    path: PathBuf,
    identity: (u64, u64),
}

impl Executable {
    /// Remembers the file; `None` where the system does not say.
    pub fn current() -> Option<Executable> {
        let metadata = fs::metadata("/proc/self/exe").ok()?;
        let path = fs::read_link("/proc/self/exe").ok()?;
        Some(Executable { path, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Whether another file, or none, has its place now.
    pub fn is_replaced(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(metadata) => (metadata.dev(), metadata.ino()) != self.identity,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_told_from_files() {
        let heap = "55f15eb65000-55f15eba7000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(own_memory(heap), Some((0x55f1_5eb6_5000, 0x55f1_5eba_7000)));
        assert_eq!(own_memory("7f00-7f10 rw-p 00000000 00:00 0 "), Some((0x7f00, 0x7f10)));
        for other in [
            "55ddd0a6e000-55ddd0a70000 rw-p 00000000 fe:00 247282                     /usr/bin/head",
            "7ffc0000-7ffc1000 rw-p 00000000 00:00 0                          [stack]",
            "7f00-7f10 ---p 00000000 00:00 0 ",
            "",
        ] {
            assert_eq!(own_memory(other), None, "{other}");
        }
    }
}
