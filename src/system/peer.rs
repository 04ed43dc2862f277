//! Who is on the other side of a Unix socket.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

/// A process on the other side of a connected Unix socket, allowed to hand over to this one or to take from it.
///
/// It is held by a pidfd, so a later process that gets the same pid is never mistaken for it.
#[derive(Debug)]
pub struct Peer {
    pid: u32,
    pidfd: OwnedFd,
}

/// Why a peer is not trusted.
#[derive(Debug)]
pub enum PeerError {
    /// It runs as another user.
    User {
        /// The peer's pid.
        pid: u32,
        /// The peer's user.
        uid: u32,
    },
    /// The kernel did not say who it is, or it has ended already.
    Unknown(io::Error),
}

impl Peer {
    /// Checks the peer of a connected socket: its user is ours or root (`SO_PEERCRED`).
    ///
    /// # Errors
    /// [`PeerError`] when it is someone else or cannot be told.
    pub fn of(socket: impl AsFd) -> Result<Self, PeerError> {
        Self::of_user(socket, None)
    }

    /// As [`of`](Self::of); the peer may also be of the user `also`, which this process is to become.
    ///
    /// # Errors
    /// As above.
    pub fn of_user(socket: impl AsFd, also: Option<u32>) -> Result<Self, PeerError> {
        let credentials = socket_peercred(socket).map_err(|error| PeerError::Unknown(error.into()))?;
        let pid = credentials.pid.as_raw_nonzero().get().unsigned_abs();
        let ours = geteuid();
        let expected = also == Some(credentials.uid.as_raw());
        if credentials.uid != ours && !credentials.uid.is_root() && !expected {
            return Err(PeerError::User { pid, uid: credentials.uid.as_raw() });
        }
        let pidfd = pidfd_open(credentials.pid, PidfdFlags::NONBLOCK)
            .map_err(|error| PeerError::Unknown(error.into()))?;
        // A user that is not this process's own could have left a socket of a process that has ended, whose pid is
        // another's by now.
        if expected && effective_user(pid) != Some(credentials.uid.as_raw()) {
            return Err(PeerError::Unknown(Errno::SRCH.into()));
        }
        Ok(Self { pid, pidfd })
    }

    /// The peer's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The peer's pidfd, which becomes readable when the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Tells it to hand over, as an operator does with SIGQUIT.
    ///
    /// # Errors
    /// When it has ended, or this process may not signal it.
    pub fn tell_to_hand_over(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::QUIT)?)
    }

    /// Tells it to drain and end, as an operator does with SIGTERM.
    ///
    /// # Errors
    /// When it has ended, or this process may not signal it.
    pub fn tell_to_end(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::TERM)?)
    }

    /// The peer's pid and its pidfd, to wait for its end.
    pub fn into_parts(self) -> (u32, OwnedFd) {
        (self.pid, self.pidfd)
    }
}

/// Whether the process of a pidfd has ended, as far as the kernel says so at this moment.
pub fn has_ended(pidfd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(ready) if ready > 0)
}

/// Whom root speaks to at the Unix socket `path` besides root: the user to whom the file belongs, as an instance that
/// was started by root may have become that user. None for other users than root.
pub fn owner_for_root(path: &Path) -> Option<u32> {
    let owner = fs::symlink_metadata(path).ok()?.uid();
    geteuid().is_root().then_some(owner)
}

/// Whom root speaks to at the Unix socket `path` when nobody said so: the user who has both the file and its directory,
/// and so decides alone what stands there. None for other users than root.
pub fn master_of(path: &Path) -> Option<u32> {
    let owner = owner_for_root(path)?;
    let directory = fs::metadata(path.parent()?).ok()?.uid();
    (directory == owner).then_some(owner)
}

/// The effective user of the process `pid`, as the kernel says (proc_pid_status(5)).
fn effective_user(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

impl PeerError {
    /// Whether the peer's process has ended already, so that nothing is to be refused.
    pub fn is_gone(&self) -> bool {
        let gone = std::io::Error::from(Errno::SRCH).raw_os_error();
        matches!(self, Self::Unknown(error) if error.raw_os_error() == gone)
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { pid, uid } => {
                write!(
                    f,
                    "pid {pid} runs as user {uid}, which is neither root nor this process's user or the one of its configuration"
                )
            }
            Self::Unknown(_) => f.write_str("the process on the other side cannot be identified"),
        }
    }
}

impl std::error::Error for PeerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::User { .. } => None,
            Self::Unknown(cause) => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn this_process_trusts_itself() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&a).unwrap().pid(), std::process::id());
        assert_eq!(Peer::of_user(&a, effective_user(std::process::id())).unwrap().pid(), std::process::id());
        assert_eq!(effective_user(std::process::id()), Some(geteuid().as_raw()));
    }
}
