//! Booting: the configuration is read; nothing of this instance is visible yet.

use super::instance::{Core, Hands};
use super::twin::Event;
use super::{Awaiting, Cause, Exited, Fallback, Instance, Phase, Serving, Transition, World};

/// The first state.
#[derive(Debug)]
pub struct Booting;

impl<W: World> Instance<W, Booting> {
    /// An instance that begins.
    pub fn new(world: W) -> Self {
        Self { core: Core { world, phase: Phase::Booting, generation: 1 }, state: Booting }
    }

    /// Serves on sockets of its own, when nobody else is in service.
    ///
    /// # Errors
    /// When workers, pidfile or upgrade socket are not to be had; the instance is over then.
    pub fn cold_start(mut self, sockets: W::Sockets) -> Transition<W, Serving<W>, Exited> {
        match self.core.advance(Event::ColdStart, "cold start", Hands::default().sockets(sockets)) {
            Ok(()) => Ok(self.becomes(|Booting| Serving { predecessor: None, former: None })),
            Err(cause) => Err(Fallback { instance: self.fail(&cause), cause }),
        }
    }

    /// Waits for another instance to hand over. `generation` is that instance's.
    pub fn await_handoff(mut self, incumbent: W::Incumbent) -> Instance<W, Awaiting<W>> {
        self.core.go(Event::Upgrade, "upgrade", Hands::default());
        self.becomes(|Booting| Awaiting { incumbent })
    }

    /// Ends, because booting failed.
    pub fn fail(mut self, cause: &Cause) -> Instance<W, Exited> {
        self.core.go(Event::BootFailed, &cause.why, Hands::default());
        self.becomes(|Booting| Exited { exit: cause.exit })
    }
}
