//! What workers are told by the control thread and by each other.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::fleet::Ending;
use super::load::{Place, Sweep};
use crate::base::ListenerId;
use crate::proxy::{Leave, Resting, Terms};

/// A listening socket and the service it feeds, by the service's place in the configuration.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) id: Arc<ListenerId>,
    pub(super) fd: Arc<OwnedFd>,
    pub(super) service: usize,
    pub(super) terms: Arc<Terms>,
}

/// A connection that is to be served, and the listener that accepted it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) listener: Arc<ListenerId>,
    pub(super) terms: Arc<Terms>,
    pub(super) connection: Resting,
    pub(super) place: Place,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Serve this connection.
    Serve(Arrival),
    /// The service has room for connections again.
    Freed { service: usize },
    /// Hold these listeners too.
    Admit(Arc<[Door]>),
    /// Accept from every listener that is held, and look at once at what is queued.
    Accept,
    /// Accept no more. What is queued is accepted first, so that no connection waits for a worker that was woken for
    /// it and left. The sockets of `unwanted` are let go of then.
    StopAccepting { unwanted: Arc<[ListenerId]>, sweep: Sweep },
    /// Give all listeners up; what is queued is accepted first.
    CloseListeners { sweep: Sweep },
    /// Tell connections this.
    Leave(Leave),
    /// Close connections.
    CloseConnections(Ending),
    /// Give a sign of life.
    Beat,
    /// End.
    Stop,
}
