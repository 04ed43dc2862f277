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
/// What else is wrong with the configuration does not matter where that can be told, and no name is resolved: so who
/// edits a configuration can still ask after the instance that runs with the former one.
///
/// # Errors
///
/// What is wrong with the file, where it keeps this from being told.
pub fn upgrade_socket(path: &Path) -> Result<Option<PathBuf>, Errors> {
    match Source::read(path) {
        Ok(source) => Plan::upgrade_socket_in(&source),
        Err(message) => Err(Errors::unreadable(path.display().to_string(), message)),
    }
}
