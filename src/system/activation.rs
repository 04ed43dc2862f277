//! Sockets that the service manager opened and passed on (socket activation, sd_listen_fds(3)).

use std::env;
use std::fs;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use listenfd::ListenFd;
use rustix::net::sockopt;

use super::socket::{Listening, Origin, socket_name};
use super::verify::{Inherited, Mismatch};
use crate::base::{Address, Label, ListenerId};

/// How many sockets a manager may pass; systemd's own limit for a unit is of the same order.
const MAX_SOCKETS: usize = 4096;

/// The sockets that the manager passed and that no listener has taken yet.
#[derive(Debug, Default)]
pub struct Activation(Mutex<Passed>);

#[derive(Debug, Default)]
struct Passed {
    sockets: Vec<Socket>,
    /// What could not be used, to be said once somebody listens to the log.
    problems: Vec<String>,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    /// `FileDescriptorName=`.
    name: Option<String>,
    address: Address,
}

impl Activation {
    /// Takes what `LISTEN_FDS` says was passed to this process, close-on-exec from now on, and removes the variables.
    ///
    /// To be called before the process opens any descriptor: a variable that lies would else give it one of its own,
    /// and before it starts a thread, for the environment is changed. `LISTEN_PID` must name this process, so a
    /// process that inherited the variables takes nothing.
    pub fn take() -> Self {
        let meant = |name: &str| env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(count) =
            meant("LISTEN_FDS").filter(|_| meant("LISTEN_PID") == Some(std::process::id() as usize))
        else {
            return Self::default();
        };
        let mut passed = Passed::default();
        if count > MAX_SOCKETS {
            let closed = close_from_third(count);
            passed.problems.push(format!(
                "LISTEN_FDS says {count}; at most {MAX_SOCKETS} sockets are taken from the manager, so none is, and the \
                 {closed} that were passed are closed"
            ));
            return Self(Mutex::new(passed));
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = ListenFd::from_env();
        for index in 0..fds.len() {
            let name = names.next().filter(|name| !matches!(*name, "" | "unknown")).map(str::to_owned);
            passed.take(&mut fds, index, name);
        }
        Self(Mutex::new(passed))
    }

    /// The socket for a listener on `address`: the first of the name `name` whose address fits, or, where the listener
    /// asks for no name, the first that has exactly this address. `None` where the manager passed none of that name,
    /// or at that address.
    ///
    /// # Errors
    /// When what was passed is no listening stream socket, or those of that name have other addresses.
    pub fn claim(
        &self,
        id: &ListenerId,
        address: &Address,
        name: Option<&str>,
    ) -> Result<Option<Listening>, Mismatch> {
        let mut passed = self.passed();
        let named = |socket: &Socket| name.is_none() || socket.name.as_deref() == name;
        // A port that the kernel chose says nothing; it takes a name to tell which of them is meant.
        let fits = |socket: &Socket| match (address, &socket.address) {
            (Address::Tcp(wanted), Address::Tcp(actual)) if name.is_some() && wanted.port() == 0 => {
                wanted.ip() == actual.ip()
            }
            (wanted, actual) => wanted == actual,
        };
        let found = passed.sockets.iter().position(|socket| named(socket) && fits(socket));
        // One of the name that does not fit is a mistake, and the check says which.
        let Some(at) = found.or_else(|| name.and_then(|_| passed.sockets.iter().position(named))) else {
            return Ok(None);
        };
        let socket = passed.sockets.remove(at);
        let label = Label { id: id.clone(), address: socket.address, file: None };
        let mut listening = Inherited::verify(socket.fd, &label, address)?;
        listening.origin = Origin::Activated;
        if matches!(address, Address::Tcp(_))
            && let Err(error) = sockopt::set_tcp_nodelay(&listening.fd, true)
        {
            tracing::warn!(target: "river::system", %id, %error, "cannot set TCP_NODELAY on a socket of the manager");
        }
        Ok(Some(listening))
    }

    /// Whether nothing was passed, or all of it is taken.
    pub fn is_empty(&self) -> bool {
        self.passed().sockets.is_empty()
    }

    /// Closes the sockets that no listener has taken, and says which they were.
    pub fn finish(&self) {
        let Passed { sockets, problems } = std::mem::take(&mut *self.passed());
        for problem in problems {
            tracing::warn!(target: "river::system", "{problem}");
        }
        for Socket { name, address, .. } in sockets {
            tracing::warn!(
                target: "river::system", %address, name,
                "a socket that the service manager passed belongs to no listener and is closed"
            );
        }
    }

    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes those of `count` descriptors from the third on that are open, so that nobody inherits them; how many they
/// were.
fn close_from_third(count: usize) -> usize {
    // The number may be anything, so what is open decides and not what is said.
    let names = fs::read_dir("/proc/self/fd").into_iter().flatten().map_while(Result::ok);
    let open: Vec<RawFd> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let passed = |fd: &RawFd| usize::try_from(*fd).is_ok_and(|fd| (3..count.saturating_add(3)).contains(&fd));
    // The one by which the directory was read is among them, and is closed already.
    open.into_iter().filter(passed).filter(|fd| nix::unistd::close(*fd).is_ok()).count()
}

impl Passed {
    fn take(&mut self, fds: &mut ListenFd, index: usize, name: Option<String>) {
        let socket = match fds.take_tcp_listener(index) {
            Ok(tcp) => tcp.map(OwnedFd::from),
            Err(_) => fds.take_unix_listener(index).ok().flatten().map(OwnedFd::from),
        };
        let shown = name.as_deref().unwrap_or("no name");
        let problem = match socket.map(|fd| (socket_name(&fd), fd)) {
            Some((Ok(address), fd)) => {
                self.sockets.push(Socket { fd, name, address });
                return;
            }
            Some((Err(error), _)) => format!("has no address that a listener can have ({error})"),
            None => {
                // Taken as a number, so that it is closed all the same; that it was none is no news.
                let _ = fds.take_raw_fd(index).ok().flatten().map(nix::unistd::close);
                "is no stream socket".to_owned()
            }
        };
        let number = index + 3;
        self.problems.push(format!(
            "the descriptor {number} ({shown}) that the service manager passed {problem} and is closed"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    fn socket(name: Option<&str>) -> (Socket, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Socket { fd: listener.into(), name: name.map(str::to_owned), address: address.into() }, address)
    }

    fn activation(sockets: Vec<Socket>) -> Activation {
        Activation(Mutex::new(Passed { sockets, problems: Vec::new() }))
    }

    fn claim(
        activation: &Activation,
        address: SocketAddr,
        name: Option<&str>,
    ) -> Result<Option<Listening>, Mismatch> {
        let address = Address::Tcp(address);
        activation.claim(&ListenerId::fixed(&address), &address, name)
    }

    #[test]
    fn a_socket_is_found_by_its_address_once() {
        let (one, at) = socket(None);
        let (other, elsewhere) = socket(Some("web"));
        let activation = activation(vec![one, other]);
        let found = claim(&activation, at, None).unwrap().unwrap();
        assert_eq!((found.origin, &found.address), (Origin::Activated, &Address::Tcp(at)));
        assert!(sockopt::tcp_nodelay(&found.fd).unwrap());
        assert!(claim(&activation, at, None).unwrap().is_none());
        assert!(claim(&activation, elsewhere, None).unwrap().is_some());
    }

    #[test]
    fn a_name_decides_where_a_port_does_not() {
        let any = "127.0.0.1:0".parse().unwrap();
        let (one, _) = socket(Some("admin"));
        let (other, at) = socket(Some("web"));
        let activation = activation(vec![one, other]);
        assert!(claim(&activation, any, None).unwrap().is_none());
        assert!(claim(&activation, any, Some("api")).unwrap().is_none());
        let found = claim(&activation, any, Some("web")).unwrap().unwrap();
        assert_eq!(found.address, Address::Tcp(at));
    }

    #[test]
    fn a_name_with_another_address_is_a_mistake() {
        let (one, _) = socket(Some("web"));
        let error = claim(&activation(vec![one]), "127.0.0.1:1".parse().unwrap(), Some("web")).unwrap_err();
        assert!(matches!(error, Mismatch::Configured { .. }), "{error}");
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let (one, at) = socket(None);
        let client = TcpStream::connect(at).unwrap();
        let local = client.local_addr().unwrap();
        let connected = Socket { fd: client.into(), name: None, address: local.into() };
        let activation = activation(vec![one, connected]);
        assert!(matches!(claim(&activation, local, None), Err(Mismatch::NotListening(_))));
        activation.finish();
        assert!(TcpStream::connect(at).is_err());
    }
}
