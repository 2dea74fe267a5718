//! The limits the process puts on itself: it reads files and serves one socket, and can do nothing
//! else, whatever a model's file makes the native code do.
//!
//! Each limit is applied where the kernel has it: an old kernel is no reason not to embed.

use std::fs;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getrlimit, set_dumpable_behavior, setrlimit,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// Enters the sandbox, for this thread and those it starts.
pub fn enter() {
    // The kernel is to take this process before one of PostgreSQL's when memory is short.
    let _ = fs::write("/proc/self/oom_score_adj", "500");
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // Besides the end of the control pipe: it works even while this process is stopped.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // Texts of users are in its memory.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    restrict();
}

/// The limits that cannot be taken back.
pub fn restrict() {
    let _ = rustix::thread::set_no_new_privs(true);
    let _ = read_only();
    if let Some(filter) = forbidden_calls() {
        let _ = seccompiler::apply_filter(&filter);
    }
}

/// Files may be read, and neither written, made, removed nor executed.
fn read_only() -> Result<(), landlock::RulesetError> {
    let root = PathFd::new("/").ok();
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .create()?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let ruleset = match root {
        Some(root) => ruleset.add_rule(PathBeneath::new(root, reading))?,
        None => return Ok(()),
    };
    ruleset.restrict_self().map(|_| ())
}

/// What the filter answers with EPERM: new sockets and connections, other programs and processes,
/// and the parts of the kernel that a loaded model has no use for.
fn forbidden_calls() -> Option<BpfProgram> {
    let mut calls = vec![
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_open_by_handle_at,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_kexec_load,
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_fork, libc::SYS_vfork]);
    let rules = calls.into_iter().map(|call| (call, vec![])).collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let forbidden = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, forbidden, architecture).ok()?;
    filter.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    // trust: the process runs with the least it needs. The limits hold for one thread of the tests.
    #[test]
    fn nothing_can_be_opened_but_files_to_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, "text").expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let checks = std::thread::spawn(move || {
            restrict();
            assert!(TcpStream::connect(address).is_err(), "a connection");
            assert!(UdpSocket::bind("127.0.0.1:0").is_err(), "a datagram socket");
            assert!(UnixStream::pair().is_err(), "a Unix socket");
            assert!(Command::new("/bin/true").spawn().is_err(), "a program");
            assert_eq!(fs::read_to_string(&path).expect("readable"), "text");
            // Only where the kernel has Landlock.
            let status = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
            if status.contains("landlock") {
                assert!(fs::write(&path, "other").is_err(), "a file to write");
                assert!(fs::remove_file(&path).is_err(), "a file to remove");
            }
        });
        checks.join().expect("all is forbidden");
    }
}
