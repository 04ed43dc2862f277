//! RON text to a draft (as written) to a plan (only valid values).
//!
//! [`load`] reads a file. Its text is taken apart piece by piece (a draft), so that each mistake has its place and
//! none hides another; what comes out is checked against itself and the machine, and becomes a [`Plan`].

mod address;
mod brackets;
mod diagnostics;
mod draft;
mod fields;
mod names;
mod nearest;
mod node;
mod paths;
mod plan;
mod scalar;
mod settings;
mod source;
mod syntax;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use diagnostics::Errors;
pub use names::{Lookup, Resolve, resolve};
pub use plan::{DEFAULT_DRAIN_TIMEOUT, DEFAULT_TUNNEL_DRAIN_TIMEOUT, Handoff, Overrides, Plan, System};
pub use settings::{SETTINGS, Setting};
pub use source::{MAX_SIZE, Source};

pub(crate) use nearest::nearest;
pub(crate) use paths::absolute;

/// Reads and checks the configuration at `path`, resolving names through the system.
///
/// Nothing is bound, made or changed, so this is all that `--validate-configs` does. It blocks the thread: on the file
/// system for as long as that takes, and on names for five seconds.
///
/// # Errors
///
/// Everything that is wrong with the file, as far as it can be told at once.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Plan, Errors> {
    match Source::read(path) {
        Ok(source) => Plan::from_source(&source, overrides, &resolve),
        Err(message) => Err(Errors::unreadable(path.display().to_string(), message)),
    }
}

/// Reads only where the upgrade socket is that the configuration at `path` names, if it names one.
///
/// What else is wrong with the configuration does not matter, and no name is resolved: so who edits a configuration can
/// still ask after the instance that runs with the former one. [`mistakes`] tells the rest.
///
/// # Errors
///
/// What is wrong with the file, where it keeps this from being told, as a wrong path does.
pub fn upgrade_socket(path: &Path) -> Result<Option<PathBuf>, Errors> {
    match Source::read(path) {
        Ok(source) => Plan::upgrade_socket_in(&source),
        Err(message) => Err(Errors::unreadable(path.display().to_string(), message)),
    }
}

/// The pidfile that the configuration at `path` names, as far as that can be read. It blocks the thread, on the file
/// system.
pub fn pid_file(path: &Path) -> Option<PathBuf> {
    Plan::pid_file_in(&Source::read(path).ok()?)
}

/// What is wrong with the configuration at `path`, if anything: what [`load`] would say, but that no name is resolved and
/// every name counts as one that has an address. It blocks the thread, on the file system.
pub fn mistakes(path: &Path) -> Option<Errors> {
    match Source::read(path) {
        Ok(source) => Plan::from_source(&source, &Overrides::default(), &stand_ins).err(),
        Err(message) => Some(Errors::unreadable(path.display().to_string(), message)),
    }
}

/// An address for each name that no machine has (RFC 3849), so that none is mistaken for another listener or server.
fn stand_ins(hosts: &[&str]) -> Vec<Lookup> {
    const DOCUMENTATION: u128 = 0x2001_0db8 << 96;
    let address = |nth: u128| Ipv6Addr::from_bits(DOCUMENTATION | nth);
    (1..).take(hosts.len()).map(|nth| Ok(vec![SocketAddr::from((address(nth), 0))])).collect()
}
