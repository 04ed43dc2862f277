//! The names of hosts that a configuration has, resolved all at once and with one deadline for all.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::FutureExt as _;

use super::address::{self, Written};
use super::draft::Draft;

/// The addresses of a host, whose ports mean nothing.
pub type Lookup = io::Result<Vec<SocketAddr>>;

/// Turns the names of hosts into their addresses: one answer per name, in their order. Numeric addresses never ask it.
pub type Resolve<'a> = &'a dyn Fn(&[&str]) -> Vec<Lookup>;

/// How long all names together may take to be resolved.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the system: `/etc/hosts`, DNS and whatever else it is set up with, for all names at the same time.
///
/// A name brings an error when it is unknown, or when nobody has answered after five seconds. This blocks the thread.
pub fn resolve(hosts: &[&str]) -> Vec<Lookup> {
    let deadline = Instant::now() + PATIENCE;
    let executor = smol::LocalExecutor::new();
    // Each is asked by a thread of its own; one that is late goes on to wait, and hinders nobody.
    let ask = |host: &&str| executor.spawn(async_net::resolve(((*host).to_owned(), 0)));
    let asked: Vec<_> = hosts.iter().map(ask).collect();
    smol::block_on(executor.run(async {
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            let late = async {
                Timer::at(deadline).await;
                Err(io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved within 5 seconds"))
            };
            answers.push(answer.or(late).await);
        }
        answers
    }))
}

/// What the names of a draft stand for.
#[derive(Debug)]
pub(super) struct Names<'d>(HashMap<&'d str, Lookup>);

impl<'d> Names<'d> {
    /// Asks for every name that the draft has.
    pub(super) fn of(draft: &'d Draft, resolve: Resolve<'_>) -> Self {
        let services = || draft.services.iter().map(|(_, service)| service);
        let binds = services().flat_map(|service| &service.listeners).filter_map(|one| one.bind.as_ref());
        let servers = services().filter_map(|service| service.connectors.as_ref());
        let addrs = servers.flat_map(|group| &group.servers).filter_map(|server| server.addr.as_ref());
        let servers = services().filter_map(|service| service.tcp.as_ref()).flat_map(|tcp| &tcp.servers);
        let addrs = addrs.chain(servers.filter_map(|server| server.addr.as_ref()));
        // Only the name matters here; that its port is wrong is found out later.
        let hosts: BTreeSet<&str> = binds
            .chain(addrs)
            .filter_map(|text| match address::parse(text, 0) {
                Ok(Written::Name(host, _)) => Some(host),
                _ => None,
            })
            .collect();
        let hosts: Vec<&str> = hosts.into_iter().collect();
        if hosts.is_empty() {
            return Self(HashMap::new());
        }
        let answers = resolve(&hosts);
        Self(hosts.into_iter().zip(answers).collect())
    }

    /// The addresses that `host` has, with this port, each once and in the resolver's order; at least one.
    ///
    /// # Errors
    ///
    /// A sentence that says why there is none.
    pub(super) fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = match self.0.get(host) {
            Some(Ok(found)) => found,
            Some(Err(error)) => return Err(format!("cannot resolve {host:?}: {error}")),
            None => return Err(format!("cannot resolve {host:?}: nobody has answered")),
        };
        let mut once = Vec::with_capacity(found.len());
        for address in found {
            let mut address = *address;
            address.set_port(port);
            // A resolver may say the same thing once per kind of socket.
            if !once.contains(&address) {
                once.push(address);
            }
        }
        if once.is_empty() { Err(format!("the name {host:?} has no address")) } else { Ok(once) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;

    use super::*;
    use crate::config::diagnostics::Report;
    use crate::config::source::Source;

    #[test]
    fn every_name_is_asked_for_once_and_all_at_once() {
        let text = r#"(services: {
            "a": (listeners: [(bind: "one:80"), (bind: "127.0.0.1:80")], respond: ()),
            "b": (listeners: [(bind: "one:81")], connectors: (servers: [(addr: "two:1"), (addr: "two:2")])),
        })"#;
        let source = Source::from_text("river.ron", Path::new("/"), text);
        let draft = Draft::read(&mut Report::new(&source));
        let asked = RefCell::new(Vec::new());
        let names = Names::of(&draft, &|hosts| {
            asked.borrow_mut().push(hosts.join(" "));
            vec![Ok(vec![([127, 0, 0, 1], 0).into(); 3]), Ok(Vec::new())]
        });
        assert_eq!(*asked.borrow(), ["one two"]);
        assert_eq!(names.lookup("one", 81), Ok(vec![([127, 0, 0, 1], 81).into()]));
        assert_eq!(names.lookup("two", 1), Err("the name \"two\" has no address".to_owned()));
    }

    #[test]
    fn the_system_knows_this_host() {
        let answers = resolve(&["localhost", "no such name"]);
        assert!(
            matches!(&answers[..], [Ok(found), Err(_)] if found.iter().all(|one| one.ip().is_loopback()))
        );
    }
}
