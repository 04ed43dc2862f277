//! Listening sockets: a type for each step, so that nobody accepts on what was not checked.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
};

use super::{OwnedPath, PathError, StagedPath};
use crate::base::{Address, FileId, Label, ListenerId};

/// The length of the accept queue asked for; the kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The mode of a Unix listener's path when the configuration gives none: any local user may connect, as with nginx.
const DEFAULT_MODE: u32 = 0o666;

/// Where a listening socket came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process bound it.
    Fresh,
    /// Another instance passed it.
    Inherited,
    /// The service manager bound it and passed it.
    Activated,
}

/// A socket that listens, nonblocking and close-on-exec.
///
/// It comes only from [`Bound::listen`] or [`Inherited::verify`](super::Inherited::verify).
#[derive(Clone, Debug)]
pub struct Listening {
    /// Which listener it is.
    pub id: ListenerId,
    /// Where clients reach it: for TCP with the port that the kernel chose, for a Unix socket the configured path.
    pub address: Address,
    /// The socket.
    pub fd: Arc<OwnedFd>,
    /// Where it came from.
    pub origin: Origin,
    name: Address,
    path: Option<OwnedPath>,
    file: Option<FileId>,
}

/// A socket that has its address and does not listen yet, so the kernel refuses connections to it.
#[derive(Debug)]
pub struct Bound {
    id: ListenerId,
    address: Address,
    fd: OwnedFd,
    staged: Option<StagedPath>,
}

/// Why a listener has no socket.
#[derive(Debug)]
pub enum BindError {
    /// The kernel refused the address.
    Address(Address, io::Error),
    /// A Unix socket's path cannot be taken.
    Path(Address, PathError),
}

impl Bound {
    /// Binds a stream socket to `address`; `mode` is that of a Unix socket's path (0666 if none is given).
    ///
    /// TCP sockets get `SO_REUSEADDR`, so that a restart does not wait for `TIME_WAIT`; never `SO_REUSEPORT`, which
    /// would split the accept queue between instances; `IPV6_V6ONLY`, so that `[::]` and `0.0.0.0` are two listeners;
    /// and `TCP_NODELAY`, which accepted sockets inherit.
    ///
    /// # Errors
    /// [`BindError`] with the address. Nothing is left behind.
    pub fn bind(id: ListenerId, address: &Address, mode: Option<u32>) -> Result<Self, BindError> {
        let failed = |error: rustix::io::Errno| BindError::Address(address.clone(), error.into());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = match address {
            Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Address::Unix(_) => AddressFamily::UNIX,
        };
        let fd = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
        let staged = match address {
            Address::Tcp(tcp) => {
                sockopt::set_socket_reuseaddr(&fd, true).map_err(failed)?;
                if tcp.is_ipv6() {
                    sockopt::set_ipv6_v6only(&fd, true).map_err(failed)?;
                }
                sockopt::set_tcp_nodelay(&fd, true).map_err(failed)?;
                bind(&fd, tcp).map_err(failed)?;
                None
            }
            Address::Unix(path) => Some(
                StagedPath::bind(&fd, path, mode.unwrap_or(DEFAULT_MODE), &[])
                    .map_err(|error| BindError::Path(address.clone(), error))?,
            ),
        };
        Ok(Self { id, address: address.clone(), fd, staged })
    }

    /// Which listener it is.
    pub fn id(&self) -> &ListenerId {
        &self.id
    }

    /// Listens; a Unix socket then appears at its path.
    ///
    /// # Errors
    /// [`BindError`], such as when another socket began to listen on the same address first.
    pub fn listen(self) -> Result<Listening, BindError> {
        let failed = |error: rustix::io::Errno| BindError::Address(self.address.clone(), error.into());
        listen(&self.fd, BACKLOG).map_err(failed)?;
        let name = socket_name(&self.fd).map_err(failed)?;
        let (address, path) = match self.staged {
            None => (name.clone(), None),
            Some(staged) => {
                let path = staged.publish().map_err(|error| BindError::Path(self.address.clone(), error))?;
                (self.address, Some(path))
            }
        };
        let file = path.as_ref().map(OwnedPath::file);
        Ok(Listening { id: self.id, address, fd: Arc::new(self.fd), origin: Origin::Fresh, name, path, file })
    }
}

impl Listening {
    /// What the socket is said to be when it is passed to another process.
    pub fn label(&self) -> Label {
        Label { id: self.id.clone(), address: self.name.clone(), file: self.file }
    }

    /// The file of a Unix socket, as the process that bound it knew it.
    pub fn file(&self) -> Option<FileId> {
        self.file
    }

    /// Whether it is a Unix socket that some other program bound, at its very path: River binds to a temporary name.
    pub fn is_foreign(&self) -> bool {
        matches!(self.address, Address::Unix(_)) && self.file.is_none() && self.name == self.address
    }

    /// The path of a Unix socket that this process bound.
    pub fn fresh_path(&self) -> Option<&OwnedPath> {
        self.path.as_ref()
    }

    pub(super) fn inherited(label: &Label, address: Address, fd: OwnedFd) -> Self {
        Self {
            id: label.id.clone(),
            address,
            fd: Arc::new(fd),
            origin: Origin::Inherited,
            name: label.address.clone(),
            path: None,
            file: label.file,
        }
    }
}

/// The socket's own name, as getsockname(2) gives it.
pub(super) fn socket_name(fd: impl AsFd) -> rustix::io::Result<Address> {
    let name = getsockname(fd)?;
    if let Ok(tcp) = SocketAddr::try_from(name.clone()) {
        return Ok(Address::Tcp(tcp));
    }
    let unix = SocketAddrUnix::try_from(name)?;
    let bytes = unix.path_bytes().ok_or(rustix::io::Errno::ADDRNOTAVAIL)?;
    Ok(Address::Unix(PathBuf::from(OsStr::from_bytes(bytes))))
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Address(address, _) | Self::Path(address, _)) = self;
        write!(f, "cannot listen on {address}")?;
        match self {
            Self::Address(Address::Tcp(address), cause) => f.write_str(advice(address.port(), cause.kind())),
            _ => Ok(()),
        }
    }
}

/// What an operator can do about a TCP address, where that is not plain from the cause.
fn advice(port: u16, cause: io::ErrorKind) -> &'static str {
    match cause {
        io::ErrorKind::AddrInUse => {
            ", which another process has (`ss -ltnp` tells which; an instance of River is replaced with --upgrade)"
        }
        io::ErrorKind::PermissionDenied if (1..1024).contains(&port) => {
            ", a port below 1024 (that takes root, or the capability CAP_NET_BIND_SERVICE)"
        }
        io::ErrorKind::AddrNotAvailable => ", which is no address of this machine",
        _ => "",
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(_, cause) => Some(cause),
            Self::Path(_, cause) => Some(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(address: &Address) -> Result<Bound, BindError> {
        Bound::bind(ListenerId::fixed(address), address, None)
    }

    #[test]
    fn tcp_listens_with_the_options_that_a_hand_over_needs() {
        for text in ["127.0.0.1:0", "[::1]:0"] {
            let address = Address::Tcp(text.parse().unwrap());
            let listening = bound(&address).unwrap().listen().unwrap();
            let Address::Tcp(actual) = listening.address else { panic!("not tcp") };
            assert_ne!(actual.port(), 0);
            assert!(!sockopt::socket_reuseport(&listening.fd).unwrap());
            assert!(sockopt::tcp_nodelay(&listening.fd).unwrap());
            std::net::TcpStream::connect(actual).unwrap();
        }
    }

    #[test]
    fn a_bound_socket_refuses_until_it_listens() {
        let address = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = bound(&address).unwrap();
        let Address::Tcp(actual) = socket_name(&bound.fd).unwrap() else { panic!("not tcp") };
        assert!(std::net::TcpStream::connect(actual).is_err());
        bound.listen().unwrap();
    }

    #[test]
    fn an_address_in_use_is_found_at_bind() {
        let address = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let first = bound(&address).unwrap().listen().unwrap();
        let error = bound(&first.address).unwrap_err();
        let whose = "which another process has (`ss -ltnp` tells which; an instance of River is replaced with --upgrade)";
        assert_eq!(error.to_string(), format!("cannot listen on {}, {whose}", first.address));
    }

    #[test]
    fn what_to_do_about_an_address_is_said_where_it_helps() {
        let said = |text: &str, kind: io::ErrorKind| {
            BindError::Address(Address::Tcp(text.parse().unwrap()), kind.into()).to_string()
        };
        assert_eq!(
            said("127.0.0.1:80", io::ErrorKind::PermissionDenied),
            "cannot listen on 127.0.0.1:80, a port below 1024 (that takes root, or the capability CAP_NET_BIND_SERVICE)"
        );
        assert_eq!(
            said("127.0.0.1:8080", io::ErrorKind::PermissionDenied),
            "cannot listen on 127.0.0.1:8080"
        );
        assert_eq!(
            said("192.0.2.1:80", io::ErrorKind::AddrNotAvailable),
            "cannot listen on 192.0.2.1:80, which is no address of this machine"
        );
    }

    #[test]
    fn a_unix_listener_appears_when_it_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.sock");
        let address = Address::Unix(path.clone());
        let bound = bound(&address).unwrap();
        assert!(!path.exists());
        let listening = bound.listen().unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(listening.address, address);
        assert!(listening.fresh_path().unwrap().remove_if_ours().unwrap());
    }
}
