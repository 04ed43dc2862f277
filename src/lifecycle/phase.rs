//! The phases of an instance's life, as plain values.

use std::fmt;

use crate::base::InstanceState;

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It reads its configuration and binds.
    Booting,
    /// It waits for another instance to hand over and touches nothing.
    Awaiting,
    /// Its workers accept beside the incumbent's, which has not committed yet.
    Accepting,
    /// It is in service: pidfile, upgrade socket and listeners are its own.
    Serving,
    /// It offered its listeners to a successor and serves on.
    Offered,
    /// It let the successor take over and serves on until that says so.
    Committed {
        /// Whether it was asked to end meanwhile, so it will not take the service back.
        ending: bool,
    },
    /// It accepts no more and goes on with the connections it has.
    Draining {
        /// Whether it still holds the listeners, to take them back if the successor dies.
        guard: bool,
    },
    /// It is over.
    Exited,
}

impl Phase {
    /// Every phase there is.
    pub const ALL: [Self; 10] = [
        Self::Booting,
        Self::Awaiting,
        Self::Accepting,
        Self::Serving,
        Self::Offered,
        Self::Committed { ending: false },
        Self::Committed { ending: true },
        Self::Draining { guard: true },
        Self::Draining { guard: false },
        Self::Exited,
    ];

    /// The state of the design that the phase belongs to, which phases may share.
    pub fn state(self) -> InstanceState {
        match self {
            // Nobody is told of an instance that boots.
            Self::Booting | Self::Awaiting | Self::Accepting => InstanceState::AwaitingHandoff,
            Self::Serving => InstanceState::Serving,
            Self::Offered | Self::Committed { .. } => InstanceState::Handing,
            Self::Draining { .. } => InstanceState::Draining,
            Self::Exited => InstanceState::Exited,
        }
    }

    /// Whether the instance's workers accept connections in this phase.
    pub fn accepts(self) -> bool {
        matches!(self, Self::Accepting | Self::Serving | Self::Offered | Self::Committed { .. })
    }
}

/// The name of the state in the design, which phases may share.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Booting => f.write_str("Booting"),
            other => other.state().fmt(f),
        }
    }
}
