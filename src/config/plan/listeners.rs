//! Listeners: addresses resolved, none twice over all services.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use crate::base::{Address, ListenerId};
use crate::config::address::{self, Written};
use crate::config::diagnostics::{Place, Report};
use crate::config::names::Names;
use crate::config::node::Spanned;
use crate::config::{draft, paths};
use crate::listen::ListenerSpec;
use crate::proxy::Terms;
use crate::tls::{Credentials, Offer};

use super::{System, tcp, tls};

/// A port for examples of what to write.
const EXAMPLE_PORT: u16 = 8080;

/// The mode of a Unix socket's path where the file gives none.
const DEFAULT_MODE: u32 = 0o666;

/// The longest name of a socket that systemd knows.
const MAX_NAME: usize = 255;

/// A listener with the place of its address.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) spec: ListenerSpec,
    pub(super) at: Place,
}

pub(super) fn plan(
    services: &[(Spanned<String>, draft::Service)],
    system: &System,
    names: &Names<'_>,
    report: &mut Report<'_>,
) -> Vec<Placed> {
    let mut listeners: Vec<Placed> = Vec::new();
    let mut taken = Taken::default();
    for (name, service) in services {
        let name: Arc<str> = name.value.as_str().into();
        let mut ephemeral: HashMap<IpAddr, usize> = HashMap::new();
        for listener in &service.listeners {
            let Some(bind) = &listener.bind else { continue };
            let Some(address) = bind_address(bind, names, report) else { continue };
            check_mode(listener, &address, report);
            check_files(&address, bind, system, report);
            taken.check(&address, bind, &listeners, report);
            let id = match &address {
                Address::Tcp(tcp) if tcp.port() == 0 => {
                    let nth = ephemeral.entry(tcp.ip()).or_default();
                    *nth += 1;
                    ListenerId::ephemeral(&address, &name, *nth - 1)
                }
                _ => ListenerId::fixed(&address),
            };
            taken.insert(&address, listeners.len());
            let mode = mode(listener, &address);
            let activation = activation(listener, report);
            let offer = offer(listener, service);
            let tls = listener.tls.as_ref().and_then(|tls| tls::plan(tls, &name, offer, report));
            if let Some(tcp) = &service.tcp {
                tcp::check_listener(listener, tcp, report);
            }
            let terms = terms(&id, tls.as_ref(), offer == Offer::Http2);
            let spec = ListenerSpec {
                id,
                service: Arc::clone(&name),
                address,
                mode,
                activation,
                terms: Arc::new(terms),
                tls,
            };
            listeners.push(Placed { spec, at: bind.at.clone() });
        }
    }
    listeners
}

/// What holds for the connections of a listener with these certificates, or with none.
fn terms(id: &ListenerId, tls: Option<&Arc<Credentials>>, offer_h2: bool) -> Terms {
    Terms {
        listener: id.to_string().into(),
        offer_h2,
        tls: tls.map(|credentials| Arc::clone(credentials.acceptor())),
        client_auth: tls.and_then(|credentials| credentials.settings().client_auth.clone()),
    }
}

/// The protocols that a listener's clients may choose from.
fn offer(listener: &draft::Listener, service: &draft::Service) -> Offer {
    match (&service.tcp, listener.offers_h2()) {
        (Some(_), _) => Offer::Nothing,
        (None, true) => Offer::Http2,
        (None, false) => Offer::Http1,
    }
}

/// The address to bind: of a name's addresses the first of IPv4, or else the first.
fn bind_address(bind: &Spanned<String>, names: &Names<'_>, report: &mut Report<'_>) -> Option<Address> {
    match address::parse(bind, EXAMPLE_PORT) {
        Ok(Written::Numeric(address)) => Some(Address::Tcp(address)),
        Ok(Written::Name(host, port)) => match names.lookup(host, port) {
            Ok(addresses) => {
                let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
                first.copied().map(Address::Tcp)
            }
            Err(message) => {
                report.error(&bind.at, message);
                None
            }
        },
        Ok(Written::Unix(written)) => {
            let path = paths::absolute(report.source.directory(), Path::new(written));
            if let Err(message) = paths::check_socket(written, &path) {
                report.error(&bind.at, message);
            }
            Some(Address::Unix(path))
        }
        Err(mistake) => {
            let problem = report.error(&bind.at, mistake.message);
            if let Some(help) = mistake.help {
                problem.help(help);
            }
            None
        }
    }
}

/// The mode of a Unix socket's path. Who may connect is decided by its directory where nothing is said.
fn mode(listener: &draft::Listener, address: &Address) -> Option<u32> {
    let given = listener.mode.as_ref().and_then(|mode| u32::try_from(mode.value).ok());
    match address {
        Address::Unix(_) => Some(given.unwrap_or(DEFAULT_MODE)),
        Address::Tcp(_) => None,
    }
}

/// The name of a socket of the service manager, as systemd.socket(5) has it in `FileDescriptorName=`.
fn activation(listener: &draft::Listener, report: &mut Report<'_>) -> Option<Arc<str>> {
    let name = listener.activation.as_ref()?;
    let printable = name.value.chars().all(|c| matches!(c, ' '..='~') && c != ':');
    if name.value.is_empty() || name.value.len() > MAX_NAME || !printable {
        report.error(
            &name.at,
            "the name of a socket has 1 to 255 printable ASCII characters, none of them a colon",
        );
        return None;
    }
    Some(name.value.as_str().into())
}

fn check_mode(listener: &draft::Listener, address: &Address, report: &mut Report<'_>) {
    if let (Some(mode), Address::Tcp(_), Some(bind)) = (&listener.mode, address, &listener.bind) {
        report.error(&mode.at, "only a Unix socket has a mode").related(&bind.at, "this is a TCP address");
    }
}

/// A listener's path cannot be one of the process's own files.
fn check_files(address: &Address, bind: &Spanned<String>, system: &System, report: &mut Report<'_>) {
    let Address::Unix(path) = address else { return };
    for (file, what) in [(&system.pid_file, "pid_file"), (&system.upgrade_socket, "upgrade_socket")] {
        if file.as_ref() == Some(path) {
            report.error(&bind.at, format!("is the same path as system.{what}"));
        }
    }
}

/// Which addresses are taken: as places in the list of listeners.
#[derive(Debug, Default)]
struct Taken {
    exact: HashMap<Address, usize>,
    /// The first listener on any address of a port, and the one on all addresses, by family.
    ports: HashMap<(bool, u16), (usize, Option<usize>)>,
}

impl Taken {
    /// Reports that a listener on `address` cannot be bound beside those there are.
    fn check(
        &self,
        address: &Address,
        bind: &Spanned<String>,
        listeners: &[Placed],
        report: &mut Report<'_>,
    ) {
        let (other, message) = match (self.exact.get(address), address) {
            (Some(at), Address::Tcp(_)) => (*at, format!("{address} has a listener already")),
            (Some(at), Address::Unix(_)) => (*at, "this path has a listener already".to_owned()),
            (None, Address::Tcp(tcp)) => match self.overlap(tcp) {
                Some(at) => (at, format!("{address} overlaps with another listener on the same port")),
                None => return,
            },
            (None, Address::Unix(_)) => return,
        };
        let Some(other) = listeners.get(other) else { return };
        let label = format!("the listener of service {:?}", other.spec.service);
        report.error(&bind.at, message).related(&other.at, label);
    }

    /// The listener that the kernel would not bind this one beside: one of them is on all addresses of the family.
    fn overlap(&self, address: &SocketAddr) -> Option<usize> {
        let (any, wildcard) =
            self.ports.get(&(address.is_ipv4(), address.port())).filter(|_| address.port() != 0)?;
        if address.ip().is_unspecified() { Some(*any) } else { *wildcard }
    }

    fn insert(&mut self, address: &Address, at: usize) {
        if let Address::Tcp(tcp) = address {
            if tcp.port() == 0 {
                return;
            }
            let (_, wildcard) = self.ports.entry((tcp.is_ipv4(), tcp.port())).or_insert((at, None));
            if tcp.ip().is_unspecified() {
                wildcard.get_or_insert(at);
            }
        }
        self.exact.entry(address.clone()).or_insert(at);
    }
}
