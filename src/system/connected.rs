//! Whether a descriptor that came from another process is a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, getpeername, sockopt};

/// A connected stream socket, TCP or Unix, nonblocking, that another process passed.
///
/// It comes only from [`Connected::verify`].
#[derive(Debug)]
pub struct Connected {
    fd: OwnedFd,
    peer: Option<SocketAddr>,
}

/// Why a descriptor is no connection.
#[derive(Debug)]
pub enum NotConnected {
    /// It is no socket, or the kernel does not say what it is.
    NotASocket(io::Error),
    /// It is no stream socket, or of no family that River serves.
    NotAStream,
    /// It listens.
    Listens,
    /// It has no peer, or no longer has one.
    NoPeer(io::Error),
}

impl Connected {
    /// Checks that `fd` is a stream socket, TCP or Unix, that it does not listen, and that it has a peer.
    ///
    /// # Errors
    ///
    /// [`NotConnected`]; the descriptor is closed.
    pub fn verify(fd: OwnedFd) -> Result<Self, NotConnected> {
        let unclear = |error: Errno| NotConnected::NotASocket(error.into());
        if sockopt::socket_type(&fd).map_err(unclear)? != SocketType::STREAM {
            return Err(NotConnected::NotAStream);
        }
        let domain = sockopt::socket_domain(&fd).map_err(unclear)?;
        if ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&domain) {
            return Err(NotConnected::NotAStream);
        }
        if sockopt::socket_acceptconn(&fd).map_err(unclear)? {
            return Err(NotConnected::Listens);
        }
        let peer = peer_of(&fd).map_err(|error| NotConnected::NoPeer(error.into()))?;
        // The flag belongs to the description, so it is as the other process left it.
        let flags = fcntl_getfl(&fd).map_err(unclear)?;
        if !flags.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(unclear)?;
        }
        Ok(Self { fd, peer })
    }

    /// The peer's address; none for a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The socket.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

fn peer_of(fd: impl AsFd) -> rustix::io::Result<Option<SocketAddr>> {
    Ok(getpeername(fd)?.and_then(|peer| peer.try_into().ok()))
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotASocket(_) => "a descriptor is no usable socket",
            Self::NotAStream => "a socket is no TCP or Unix stream",
            Self::Listens => "a socket listens",
            Self::NoPeer(_) => "a socket is not connected",
        })
    }
}

impl std::error::Error for NotConnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotASocket(cause) | Self::NoPeer(cause) => Some(cause),
            Self::NotAStream | Self::Listens => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_connection_is_known_and_does_not_block_any_more() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = client.local_addr().unwrap();
        let connected = Connected::verify(listener.accept().unwrap().0.into()).unwrap();
        assert_eq!(connected.peer(), Some(peer));
        assert!(fcntl_getfl(connected.into_fd()).unwrap().contains(OFlags::NONBLOCK));
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(Connected::verify(one.into()).unwrap().peer(), None);
    }

    #[test]
    fn what_is_no_connection_is_refused() {
        let (datagram, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(matches!(Connected::verify(datagram.into()), Err(NotConnected::NotAStream)));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(Connected::verify(listener.into()), Err(NotConnected::Listens)));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Connected::verify(file.into()), Err(NotConnected::NotASocket(_))));
        let (flags, family) = (rustix::net::SocketFlags::CLOEXEC, AddressFamily::INET);
        let unbound = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
        assert!(matches!(Connected::verify(unbound), Err(NotConnected::NoPeer(_))));
    }
}
