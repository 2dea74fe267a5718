//! The client's end of a connection: whether it is still there, and whose it is.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use vector_tools_core::error::Error;

/// The socket of a connection.
pub struct Peer {
    socket: UnixStream,
}

/// No waiting.
pub const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

impl Peer {
    /// Takes over a socket.
    pub fn new(socket: UnixStream) -> Peer {
        Peer { socket }
    }

    /// Whether the client is a process of this process's own user.
    pub fn is_same_user(&self) -> bool {
        rustix::net::sockopt::socket_peercred(&self.socket)
            .is_ok_and(|credentials| credentials.uid == rustix::process::geteuid())
    }

    /// Whether the client has closed its end. Bytes that it sent before are no matter: nobody is there
    /// to read an answer.
    pub fn is_gone(&self) -> bool {
        let mut sockets = [PollFd::new(&self.socket, PollFlags::empty())];
        // An interrupted call tells nothing.
        poll(&mut sockets, Some(&AT_ONCE)).is_ok() && sockets[0].revents().contains(PollFlags::HUP)
    }

    /// What the work of a client that is gone ends with; nobody reads it.
    pub fn gone_error() -> Error {
        Error::EmbedderLost { reason: "the session is gone".to_owned() }
    }

    /// Lets no more requests in; those that have arrived can still be read.
    pub fn stop_reading(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Read);
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
