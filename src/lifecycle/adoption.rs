//! The way from listeners as configured to listeners that listen: bound here, or inherited and checked.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Cause, Exit, Settings};
use crate::base::{Address, Label, ListenerId};
use crate::handoff::with_cause;
use crate::listen::ListenerSpec;
use crate::system::{Account, BecomeError, Bound, Inherited, Listening, OwnedPath, PidFile};

/// The listeners that are on their way.
///
/// What the incumbent does not have is bound before anything is asked of it, and listens only after the offer: so
/// an address that is in use is found while the incumbent is undisturbed, and nobody connects to an instance that
/// does not answer yet.
#[derive(Debug)]
pub(super) struct Adoption {
    settings: Arc<Settings>,
    bound: Vec<Bound>,
    inherited: Vec<Listening>,
}

impl Adoption {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, bound: Vec::new(), inherited: Vec::new() }
    }

    /// Takes or binds every listener but those that will be inherited, and becomes the configured user on the way:
    /// after the addresses, which may be for root alone, and before the paths, which are to be that user's.
    ///
    /// # Errors
    /// When an address or a path is not to be had, or the user cannot be become or cannot make its files.
    pub(super) fn bind_all_but(&mut self, inherited: &[ListenerId]) -> Result<(), Cause> {
        let inherited: HashSet<_> = inherited.iter().collect();
        let mut fresh = Vec::new();
        for spec in self.settings.listeners.iter().filter(|spec| !inherited.contains(&spec.id)) {
            let name = spec.activation.as_deref();
            let passed = self
                .settings
                .activation
                .claim(&spec.id, &spec.address, name)
                .map_err(|mismatch| Cause::new(Exit::Unavailable, with_cause(&mismatch)))?;
            match passed {
                Some(listening) => self.inherited.push(listening),
                None => fresh.push(spec),
            }
        }
        self.settings.activation.finish();
        let (paths, addresses): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|spec| matches!(spec.address, Address::Unix(_)));
        let bind = |spec: &ListenerSpec| {
            Bound::bind(spec.id.clone(), &spec.address, spec.mode)
                .map_err(|error| Cause::new(Exit::Unavailable, with_cause(&error)))
        };
        for spec in addresses {
            self.bound.push(bind(spec)?);
        }
        if let Some(account) = &self.settings.account {
            let already = account.is_current();
            become_user(account)?;
            // Who was that user before has checked them.
            if !already {
                check_files(&self.settings)?;
            }
        }
        for spec in paths {
            self.bound.push(bind(spec)?);
        }
        Ok(())
    }

    /// Checks a batch of inherited listeners, and says which of them the configuration does not have.
    ///
    /// # Errors
    /// When one is not what it is said to be, or comes twice.
    pub(super) fn inherit(&mut self, batch: Vec<(Label, OwnedFd)>) -> Result<Vec<ListenerId>, Cause> {
        let mut unwanted = Vec::new();
        for (label, fd) in batch {
            let Some(spec) = self.settings.listeners.iter().find(|spec| spec.id == label.id) else {
                unwanted.push(label.id);
                continue;
            };
            let known = self.inherited.iter().map(|one| &one.id).chain(self.bound.iter().map(Bound::id));
            if known.into_iter().any(|id| *id == label.id) {
                return Err(Cause::new(
                    Exit::Software,
                    format!("the listener {} was offered twice", label.id),
                ));
            }
            let listening = Inherited::verify(fd, &label, &spec.address)
                .map_err(|mismatch| Cause::new(Exit::Software, with_cause(&mismatch)))?;
            self.inherited.push(listening);
        }
        Ok(unwanted)
    }

    /// Listens on what was bound, and gives all listeners in the order of the configuration.
    ///
    /// # Errors
    /// When a listener was announced and not offered, or cannot listen. No path is left behind.
    pub(super) fn listen(&mut self) -> Result<Vec<Listening>, Cause> {
        let mut all = std::mem::take(&mut self.inherited);
        let result = self.listen_bound(&mut all);
        if result.is_err() {
            for path in all.iter().filter_map(Listening::fresh_path) {
                let _ = path.remove_if_ours();
            }
        }
        result?;
        let mut sorted = Vec::with_capacity(all.len());
        for spec in &self.settings.listeners {
            sorted.extend(all.iter().position(|one| one.id == spec.id).map(|at| all.swap_remove(at)));
        }
        Ok(sorted)
    }

    fn listen_bound(&mut self, all: &mut Vec<Listening>) -> Result<(), Cause> {
        for bound in std::mem::take(&mut self.bound) {
            let listening =
                bound.listen().map_err(|error| Cause::new(Exit::Unavailable, with_cause(&error)))?;
            all.push(listening);
        }
        match self.settings.listeners.iter().find(|spec| all.iter().all(|one| one.id != spec.id)) {
            Some(missing) => Err(Cause::new(
                Exit::Software,
                format!("the listener {} was announced, but not offered", missing.id),
            )),
            None => Ok(()),
        }
    }
}

/// Finds out early what would fail late: whether pidfile and upgrade socket can be made, as the user that this is now.
///
/// # Errors
/// What is in the way.
pub(super) fn check_files(settings: &Settings) -> Result<(), Cause> {
    let cannot = |error: &dyn std::error::Error| Cause::new(Exit::CannotCreate, with_cause(error));
    if let Some(path) = &settings.pid_file {
        PidFile::check(path).map_err(|error| cannot(&error))?;
    }
    if let Some(path) = &settings.upgrade_socket {
        OwnedPath::check(path).map_err(|error| cannot(&error))?;
    }
    Ok(())
}

fn become_user(account: &Account) -> Result<(), Cause> {
    account.become_it().map_err(|error| {
        let exit = match error {
            BecomeError::NotRoot { .. } | BecomeError::Refused(..) | BecomeError::RootInReach { .. } => {
                Exit::Config
            }
            BecomeError::NotDropped(_) => Exit::Software,
        };
        Cause::new(exit, with_cause(&error))
    })
}
