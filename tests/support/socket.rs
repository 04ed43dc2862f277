//! One type for the stream sockets that tests speak over: TCP, Unix, TLS over TCP.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, recv, sockopt};
use rustls::ServerConfig;

use super::tls::{TlsSocket, Trust};
use super::wait::PATIENCE;

/// Whom to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
    /// A TCP socket, over which TLS is spoken.
    Tls(SocketAddr, Trust),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls(address, _) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

/// A connected stream socket. Reads and writes that take longer than [`PATIENCE`] fail.
#[derive(Debug)]
pub enum Socket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A Unix connection.
    Unix(UnixStream),
    /// TLS over a TCP connection.
    Tls(Box<TlsSocket>),
}

impl Socket {
    /// Connects to `target`.
    pub fn connect(target: &Target) -> io::Result<Self> {
        let socket = match target {
            Target::Tcp(address) => Self::Tcp(TcpStream::connect_timeout(address, PATIENCE)?),
            Target::Unix(path) => Self::Unix(UnixStream::connect(path)?),
            Target::Tls(address, trust) => {
                let tcp = TcpStream::connect_timeout(address, PATIENCE)?;
                Self::Tls(Box::new(TlsSocket::client(tcp, trust)))
            }
        };
        socket.prepare()?;
        Ok(socket)
    }

    /// Shuts one or both directions down.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tls(stream) => stream.shutdown(how),
        }
    }

    /// Makes the close of this socket a reset (TCP RST) instead of an orderly end.
    pub fn reset_on_close(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(self, Some(Duration::ZERO))?)
    }

    /// Sets how long a read may take.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Tls(stream) => stream.tcp().set_read_timeout(Some(timeout)),
        }
    }

    /// Whether a read would return at once: bytes, the peer's end, or an error. Takes nothing from the socket.
    pub fn is_readable(&self) -> bool {
        let mut byte = [0];
        let seen = recv(self, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(seen, Err(error) if error == rustix::io::Errno::AGAIN)
    }

    /// The address of this end, of a TCP connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
            Self::Tls(stream) => stream.tcp().local_addr().ok(),
        }
    }

    /// The TLS connection; panics where it is none.
    #[track_caller]
    pub fn tls(&self) -> &TlsSocket {
        match self {
            Self::Tls(stream) => stream,
            other => panic!("no TLS: {other:?}"),
        }
    }

    fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => prepare(stream),
            Self::Tls(stream) => prepare(stream.tcp()),
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).read(buffer),
            Socket::Unix(stream) => (&mut &*stream).read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(bytes),
            Socket::Unix(stream) => (&mut &*stream).write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading side of a shared socket. A read that takes too long is `TimedOut`.
#[derive(Debug)]
pub struct ReadHalf(pub Arc<Socket>);

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&*self.0).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came before the deadline"))
            }
            other => other,
        }
    }
}

/// A listening stream socket.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP port.
    Tcp(TcpListener),
    /// On a Unix socket's path.
    Unix(UnixListener),
    /// On a TCP port, where TLS is spoken.
    Tls(TcpListener, Arc<ServerConfig>),
}

impl Listener {
    /// Waits for the next connection.
    pub fn accept(&self) -> io::Result<Socket> {
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(listener.accept()?.0),
            Self::Unix(listener) => Socket::Unix(listener.accept()?.0),
            Self::Tls(listener, config) => {
                Socket::Tls(Box::new(TlsSocket::server(listener.accept()?.0, config)))
            }
        };
        socket.prepare()?;
        Ok(socket)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
            Self::Tls(listener, _) => listener.as_fd(),
        }
    }
}
