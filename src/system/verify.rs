//! Whether a descriptor that came from another process is what it is said to be.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::Listening;
use super::owned_path::is_name_of;
use super::socket::socket_name;
use crate::base::{Address, Label};

/// The check of an inherited descriptor.
#[derive(Debug)]
pub struct Inherited;

/// What is wrong with a descriptor.
#[derive(Debug)]
pub enum Mismatch {
    /// It is no socket, or the kernel does not say what it is.
    NotASocket(Label, io::Error),
    /// It is no stream socket.
    NotAStream(Label),
    /// It does not listen.
    NotListening(Label),
    /// It is a socket of another family than the label says.
    Family(Label),
    /// It is bound to another address than the label says.
    Name {
        /// What it is said to be.
        label: Box<Label>,
        /// What it is.
        actual: Address,
    },
    /// It is what the label says, but not what the configuration asks for.
    Configured {
        /// What it is.
        label: Box<Label>,
        /// What the configuration says.
        expected: Address,
    },
}

impl Inherited {
    /// Checks that `fd` is a listening stream socket, that it has the name its label gives, and that this fits the
    /// configured address `expected` (where port 0 fits any port, and a Unix path also its temporary name).
    ///
    /// # Errors
    /// [`Mismatch`]; the descriptor is closed.
    pub fn verify(fd: OwnedFd, label: &Label, expected: &Address) -> Result<Listening, Mismatch> {
        let unclear = |error: rustix::io::Errno| Mismatch::NotASocket(label.clone(), error.into());
        if sockopt::socket_type(&fd).map_err(unclear)? != SocketType::STREAM {
            return Err(Mismatch::NotAStream(label.clone()));
        }
        let family = match &label.address {
            Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Address::Unix(_) => AddressFamily::UNIX,
        };
        if sockopt::socket_domain(&fd).map_err(unclear)? != family {
            return Err(Mismatch::Family(label.clone()));
        }
        if !sockopt::socket_acceptconn(&fd).map_err(unclear)? {
            return Err(Mismatch::NotListening(label.clone()));
        }
        let actual = socket_name(&fd).map_err(unclear)?;
        if actual != label.address {
            return Err(Mismatch::Name { label: Box::new(label.clone()), actual });
        }
        let Some(address) = reached_at(&actual, expected) else {
            return Err(Mismatch::Configured { label: Box::new(label.clone()), expected: expected.clone() });
        };
        // The flag belongs to the description, so it is as the other process left it.
        let flags = fcntl_getfl(&fd).map_err(unclear)?;
        if !flags.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(unclear)?;
        }
        Ok(Listening::inherited(label, address, fd))
    }
}

/// Where clients reach a socket of the name `actual`, if that fits the configured address.
fn reached_at(actual: &Address, expected: &Address) -> Option<Address> {
    match (actual, expected) {
        (Address::Tcp(actual), Address::Tcp(expected)) => (actual.ip() == expected.ip()
            && (expected.port() == 0 || expected.port() == actual.port()))
        .then_some(Address::Tcp(*actual)),
        (Address::Unix(actual), Address::Unix(expected)) => {
            is_name_of(actual, expected).then(|| Address::Unix(expected.clone()))
        }
        _ => None,
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASocket(label, _) => {
                write!(f, "the descriptor passed as {} is no usable socket", label.id)
            }
            Self::NotAStream(label) => {
                write!(f, "the descriptor passed as {} is no stream socket", label.id)
            }
            Self::NotListening(label) => write!(f, "the socket passed as {} does not listen", label.id),
            Self::Family(label) => {
                write!(f, "the socket passed as {} is of another family than {}", label.id, label.address)
            }
            Self::Name { label, actual } => write!(
                f,
                "the socket passed as {} is bound to {actual}, but is said to be bound to {}",
                label.id, label.address
            ),
            Self::Configured { label, expected } => write!(
                f,
                "the socket passed as {} is bound to {}, but the configuration says {expected}",
                label.id, label.address
            ),
        }
    }
}

impl std::error::Error for Mismatch {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotASocket(_, cause) => Some(cause),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ListenerId;
    use crate::system::{Bound, Origin};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    fn label(address: SocketAddr) -> Label {
        Label { id: ListenerId::fixed(&address.into()), address: address.into(), file: None }
    }

    #[test]
    fn a_true_label_is_accepted_and_made_nonblocking() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let any_port = Address::Tcp("127.0.0.1:0".parse().unwrap());
        for expected in [Address::Tcp(address), any_port] {
            let fd = OwnedFd::from(listener.try_clone().unwrap());
            let listening = Inherited::verify(fd, &label(address), &expected).unwrap();
            assert_eq!((listening.origin, listening.address), (Origin::Inherited, Address::Tcp(address)));
            assert!(fcntl_getfl(&listening.fd).unwrap().contains(OFlags::NONBLOCK));
        }
    }

    #[test]
    fn a_foreign_socket_is_refused() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (own, own_label) = (one.local_addr().unwrap(), label(one.local_addr().unwrap()));
        let clone = || OwnedFd::from(one.try_clone().unwrap());
        let expected = Address::Tcp(own);
        let wrong =
            |fd, label: &Label, expected: &Address| Inherited::verify(fd, label, expected).unwrap_err();
        assert!(matches!(wrong(clone(), &label(other), &expected), Mismatch::Name { .. }));
        assert!(matches!(wrong(clone(), &own_label, &Address::Tcp(other)), Mismatch::Configured { .. }));
        assert!(matches!(
            wrong(clone(), &own_label, &Address::Unix("/run/x".into())),
            Mismatch::Configured { .. }
        ));
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(wrong(udp.into(), &own_label, &expected), Mismatch::NotAStream(_)));
        let connected = TcpStream::connect(own).unwrap();
        assert!(matches!(wrong(connected.into(), &own_label, &expected), Mismatch::NotListening(_)));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(wrong(file.into(), &own_label, &expected), Mismatch::NotASocket(..)));
        let v6 = label("[::1]:1".parse().unwrap());
        assert!(matches!(wrong(clone(), &v6, &expected), Mismatch::Family(_)));
    }

    #[test]
    fn a_unix_listener_is_known_by_its_temporary_name() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("web.sock"));
        let fresh = Bound::bind(ListenerId::fixed(&address), &address, None).unwrap().listen().unwrap();
        let label = fresh.label();
        assert_ne!(label.address, address);
        let passed = rustix::io::fcntl_dupfd_cloexec(&fresh.fd, 0).unwrap();
        let listening = Inherited::verify(passed, &label, &address).unwrap();
        assert_eq!(listening.address, address);
        assert_eq!(listening.label(), label);
    }
}
