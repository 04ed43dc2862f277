//! Exited: nothing is left but an exit code.

use super::{Exit, Instance};

/// The last state.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Exited {
    pub(super) exit: Exit,
}

impl<W> Instance<W, Exited> {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        self.state.exit
    }

    /// Gives the world back, to join its workers.
    pub fn into_world(self) -> W {
        self.core.world
    }
}
