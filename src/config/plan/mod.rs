//! What a configuration comes to: only valid values, names resolved, paths absolute.

mod listeners;
mod respond;
mod server_tls;
mod service;
mod system;
mod tcp;
mod tls;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::system::Account;
use crate::tls::{Connector, Store};
use crate::{listen, proxy};

use super::diagnostics::{Errors, Report};
use super::draft::Draft;
use super::names::{Names, Resolve};
use super::node::Spanned;
use super::paths;
use super::source::Source;

/// Everything that River needs to know before it does anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The file that it was read from, as it was named.
    pub file: String,
    /// The file's SHA-256, in hexadecimal.
    pub sha256: String,
    /// Settings of the process.
    pub system: System,
    /// Every listener of every service, each identity once.
    pub listeners: Vec<listen::ListenerSpec>,
    /// The services, in the order of the file; at least one.
    pub services: Vec<Arc<proxy::Service>>,
}

/// Settings of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// Where the instance in service leaves its process id; absolute.
    pub pid_file: Option<PathBuf>,
    /// Where the instance in service can be asked to hand over; absolute, and short enough for a socket.
    pub upgrade_socket: Option<PathBuf>,
    /// Whether to go on in the background; there is a pid file then.
    pub daemonize: bool,
    /// The user to become once everything is bound.
    pub account: Option<Account>,
    /// Deadlines of a hand-over.
    pub handoff: Handoff,
    /// How long requests and idle connections may go on after the last accept.
    pub drain_timeout: Duration,
    /// How long tunnels may, where they cannot move to the successor.
    pub tunnel_drain_timeout: Duration,
    /// How often the files of certificates are looked at; zero is only when asked.
    pub certificate_check: Duration,
}

/// How a hand-over goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// For the successor, from the offer of the listeners until it is ready.
    pub ready_timeout: Duration,
    /// How long after the commitment the incumbent can take the listeners back; zero is not at all.
    pub guard: Duration,
    /// How many instances may drain at a time; the oldest ends first.
    pub max_draining: NonZeroUsize,
    /// Whether connections without a request, and tunnels, go to the successor.
    pub move_connections: bool,
}

impl Default for Handoff {
    fn default() -> Self {
        Self {
            ready_timeout: Duration::from_secs(30),
            guard: Duration::from_secs(10),
            max_draining: NonZeroUsize::MIN.saturating_add(7),
            move_connections: true,
        }
    }
}

/// How long connections may go on after the last accept, where nothing else is said.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long tunnels may, where nothing else is said.
pub const DEFAULT_TUNNEL_DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// How often the files of certificates are looked at, where nothing else is said.
const DEFAULT_CERTIFICATE_CHECK: Duration = Duration::from_secs(5);

/// What flags and environment variables say; each beats what the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Worker threads.
    pub workers: Option<NonZeroUsize>,
    /// Where to leave the process id; absolute.
    pub pid_file: Option<PathBuf>,
    /// Where to be asked to hand over; absolute.
    pub upgrade_socket: Option<PathBuf>,
}

impl Plan {
    /// Checks the text of a configuration and everything it refers to; binds and changes nothing.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, as far as it can be told at once.
    pub fn from_source(source: &Source, overrides: &Overrides, resolve: Resolve<'_>) -> Result<Self, Errors> {
        let mut report = Report::new(source);
        let draft = Draft::read(&mut report);
        let names = Names::of(&draft, resolve);
        let system = system::plan(&draft.system, overrides, &mut report);
        let listeners = listeners::plan(&draft.services, &system, &names, &mut report);
        let services = service::plan_all(&draft.services, &listeners, &names, &mut report);
        report.finish()?;
        let listeners = listeners.into_iter().map(|listener| listener.spec).collect();
        let (file, sha256) = (source.name().to_owned(), source.sha256().to_owned());
        Ok(Self { file, sha256, system, listeners, services })
    }

    /// What is right and may still not be meant; said at every start.
    pub fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for service in &self.services {
            let proxy::Handler::Proxy { group, .. } = &service.handler else { continue };
            let unverified = |tls: &Connector| !tls.verifies();
            for server in group.servers.iter().filter(|server| server.tls.as_ref().is_some_and(unverified)) {
                found.push(format!(
                    "service {:?}: the certificate of {} is not verified (tls_verify: false): whoever is on the way to \
                     the server can read and change what is sent",
                    service.name, server.name
                ));
            }
        }
        found
    }

    /// The certificates of all listeners.
    pub fn certificates(&self) -> Store {
        listen::certificates(&self.listeners)
    }

    /// The pidfile alone; see [`super::pid_file`].
    pub(super) fn pid_file_in(source: &Source) -> Option<PathBuf> {
        let written = Draft::read(&mut Report::new(source)).system.pid_file?;
        Some(super::absolute(source.directory(), Path::new(&written.value)))
    }

    /// The upgrade socket alone; see [`super::upgrade_socket`].
    pub(super) fn upgrade_socket_in(source: &Source) -> Result<Option<PathBuf>, Errors> {
        let mut report = Report::new(source);
        let draft = Draft::read(&mut report);
        if let Some(written) = draft.system.upgrade_socket {
            let path = super::absolute(source.directory(), Path::new(&written.value));
            // Its directory may be made when an instance is started.
            return match paths::check_socket_name(&written.value, &path) {
                Ok(()) => Ok(Some(path)),
                Err(message) => {
                    report.error(&written.at, message);
                    report.finish().map(|()| None)
                }
            };
        }
        // It is not there; or it, or something around it, could not be read.
        match report.is_about(&["", "system", "system.upgrade_socket"]) {
            true => report.finish().map(|()| None),
            false => Ok(None),
        }
    }
}

fn or<T: Clone>(given: &Option<Spanned<T>>, default: T) -> T {
    given.as_ref().map_or(default, |given| given.value.clone())
}
