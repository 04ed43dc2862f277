//! The way from listeners as configured to listeners that listen: bound here, or inherited and checked.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use super::{Cause, Exit};
use crate::base::{Label, ListenerId};
use crate::handoff::with_cause;
use crate::listen::ListenerSpec;
use crate::system::{Bound, Inherited, Listening};

/// The listeners that are on their way.
///
/// What the incumbent does not have is bound before anything is asked of it, and listens only after the offer: so
/// an address that is in use is found while the incumbent is undisturbed, and nobody connects to an instance that
/// does not answer yet.
#[derive(Debug)]
pub(super) struct Adoption {
    specs: Vec<ListenerSpec>,
    bound: Vec<Bound>,
    inherited: Vec<Listening>,
}

impl Adoption {
    pub(super) fn new(specs: Vec<ListenerSpec>) -> Self {
        Self { specs, bound: Vec::new(), inherited: Vec::new() }
    }

    /// Binds every listener but those that will be inherited.
    ///
    /// # Errors
    /// When an address is not to be had.
    pub(super) fn bind_all_but(&mut self, inherited: &[ListenerId]) -> Result<(), Cause> {
        let inherited: HashSet<_> = inherited.iter().collect();
        for spec in &self.specs {
            if !inherited.contains(&spec.id) {
                let bound = Bound::bind(spec.id.clone(), &spec.address, spec.mode)
                    .map_err(|error| Cause::new(Exit::Unavailable, with_cause(&error)))?;
                self.bound.push(bound);
            }
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
            let Some(spec) = self.specs.iter().find(|spec| spec.id == label.id) else {
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
        for spec in &self.specs {
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
        match self.specs.iter().find(|spec| all.iter().all(|one| one.id != spec.id)) {
            Some(missing) => Err(Cause::new(
                Exit::Software,
                format!("the listener {} was announced, but not offered", missing.id),
            )),
            None => Ok(()),
        }
    }
}
