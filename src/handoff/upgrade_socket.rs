//! The upgrade socket: where the instance in service is found by the next one.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use async_io::Async;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, connect as connect_socket, listen,
    socket_with,
};

use super::Channel;
use crate::system::{OwnedPath, PathError, Peer, PeerError, StagedPath};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 16;

/// The listening end, with its path in the file system (mode 0600).
#[derive(Debug)]
pub struct UpgradeSocket {
    listener: Async<OwnedFd>,
    path: OwnedPath,
}

/// Why the instance in service cannot be reached.
#[derive(Debug)]
pub enum ConnectError {
    /// Nothing accepts at the path: no instance is in service, or it has another upgrade socket.
    Nobody(PathBuf, io::Error),
    /// The socket cannot be reached for another reason.
    Io(PathBuf, io::Error),
    /// What accepts there is not to be trusted.
    Peer(PathBuf, PeerError),
}

impl UpgradeSocket {
    /// Makes the socket at `path` by rename.
    ///
    /// A live socket at the path is an error, unless one of the processes `may_replace` listens on it.
    ///
    /// # Errors
    /// [`PathError`]; what stood at the path is then still there.
    pub fn take(path: &Path, may_replace: &[u32]) -> Result<Self, PathError> {
        let failed = |error: io::Error| PathError::Io(path.to_owned(), error);
        let socket = new_socket().map_err(failed)?;
        let staged = StagedPath::bind(&socket, path, 0o600, may_replace)?;
        listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
        let listener = Async::new(socket).map_err(failed)?;
        Ok(Self { listener, path: staged.publish()? })
    }

    /// The next connection and who is there, or why it is not trusted (it is closed then).
    ///
    /// # Errors
    /// When the socket cannot accept, such as for want of descriptors; the caller should pause.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Result<(Channel, Peer), PeerError>>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match accept_with(&self.listener, flags) {
                Ok(socket) => {
                    let peer = match Peer::of(&socket) {
                        Ok(peer) => peer,
                        Err(error) => return Poll::Ready(Ok(Err(error))),
                    };
                    return Poll::Ready(Channel::new(socket).map(|channel| Ok((channel, peer))));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            ready!(self.listener.poll_readable(cx))?;
        }
    }

    /// Whether the path still leads to this socket.
    pub fn is_ours(&self) -> bool {
        self.path.is_ours()
    }

    /// Removes the path if it still leads to this socket, and says whether it did.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_if_ours(&self) -> io::Result<bool> {
        self.path.remove_if_ours()
    }
}

/// Connects to the instance in service, without waiting.
///
/// # Errors
/// [`ConnectError`] when nobody accepts at `path`, or someone who is not to be trusted.
pub fn connect(path: &Path) -> Result<(Channel, Peer), ConnectError> {
    connect_to(path, None)
}

/// As [`connect`]; the instance in service may also be of the user `user`: one that was started by root may have
/// become the user of the configuration, as this one is going to.
///
/// # Errors
/// As above.
pub fn connect_to(path: &Path, user: Option<u32>) -> Result<(Channel, Peer), ConnectError> {
    let failed = |error: io::Error| ConnectError::Io(path.to_owned(), error);
    let socket = new_socket().map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    connect_socket(&socket, &address).map_err(|error| match error {
        Errno::NOENT | Errno::CONNREFUSED => ConnectError::Nobody(path.to_owned(), error.into()),
        _ => failed(error.into()),
    })?;
    let peer = Peer::of_user(&socket, user).map_err(|error| ConnectError::Peer(path.to_owned(), error))?;
    let channel = Channel::new(socket).map_err(failed)?;
    Ok((channel, peer))
}

/// Whether an instance other than `known` accepts at `path`; `user` is as in [`connect_to`].
///
/// One that is there and cannot be spoken to, as its queue is full or its user another, is one. Where this process cannot
/// ask at all, for want of descriptors or of a right to the path, nothing is known of another, and there is none: two
/// that serve are better than nobody.
pub fn is_in_service(path: &Path, user: Option<u32>, known: &[u32]) -> bool {
    match connect_to(path, user) {
        Ok((_, peer)) => !known.contains(&peer.pid()),
        Err(ConnectError::Peer(_, PeerError::User { pid, .. })) => !known.contains(&pid),
        // The queue is full.
        Err(ConnectError::Io(_, error)) => error.kind() == io::ErrorKind::WouldBlock,
        // It has ended, or this process has no descriptors.
        Err(ConnectError::Peer(_, PeerError::Unknown(_)) | ConnectError::Nobody(..)) => false,
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody(path, _) => {
                write!(f, "no instance is in service at the upgrade socket {}", path.display())
            }
            Self::Io(path, _) => write!(f, "cannot reach the upgrade socket {}", path.display()),
            Self::Peer(path, _) => {
                write!(f, "the process behind the upgrade socket {} is not trusted", path.display())
            }
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Nobody(_, cause) | Self::Io(_, cause) => Some(cause),
            Self::Peer(_, cause) => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handoff::Message;
    use futures_lite::future;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn both_sides_know_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upgrade.sock");
        let socket = UpgradeSocket::take(&path, &[]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (mut near, incumbent) = connect(&path).unwrap();
        assert_eq!(incumbent.pid(), std::process::id());
        async_io::block_on(async {
            let accepted = future::poll_fn(|cx| socket.poll_accept(cx)).await.unwrap();
            let (mut far, successor) = accepted.unwrap();
            assert_eq!(successor.pid(), std::process::id());
            near.push(&Message::Ready, vec![]).unwrap();
            assert_eq!(far.next().await.unwrap().message, Message::Ready);
        });
        assert!(socket.remove_if_ours().unwrap());
    }

    #[test]
    fn nobody_there_is_told_from_a_broken_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upgrade.sock");
        assert!(matches!(connect(&path), Err(ConnectError::Nobody(..))));
        drop(UpgradeSocket::take(&path, &[]).unwrap());
        assert!(matches!(connect(&path), Err(ConnectError::Nobody(..))));
        UpgradeSocket::take(&path, &[]).unwrap();
    }

    #[test]
    fn an_instance_whose_queue_is_full_is_there_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upgrade.sock");
        assert!(!is_in_service(&path, None, &[]));
        let socket = UpgradeSocket::take(&path, &[]).unwrap();
        assert!(is_in_service(&path, None, &[]));
        assert!(!is_in_service(&path, None, &[std::process::id()]));
        let mut waiting = Vec::new();
        let full = loop {
            match connect(&path) {
                Ok(there) => waiting.push(there),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, ConnectError::Io(..)), "{full:?}");
        assert!(is_in_service(&path, None, &[]));
        drop(socket);
        assert!(!is_in_service(&path, None, &[]));
    }

    #[test]
    fn the_next_owner_s_path_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upgrade.sock");
        let first = UpgradeSocket::take(&path, &[]).unwrap();
        assert!(UpgradeSocket::take(&path, &[]).is_err());
        let second = UpgradeSocket::take(&path, &[std::process::id()]).unwrap();
        assert!(!first.is_ours() && !first.remove_if_ours().unwrap());
        assert!(second.is_ours() && path.exists());
    }
}
