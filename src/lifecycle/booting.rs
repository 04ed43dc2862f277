//! Booting: the configuration is read; nothing of this instance is visible yet.

use super::instance::{Core, Hands};
use super::twin::Event;
use super::{Awaiting, Cause, Exit, Exited, Fallback, Instance, Phase, Serving, Transition, World};

/// The first state.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
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
            Ok(()) => Ok(self.becomes(|Booting| Serving { predecessor: None, formers: Vec::new() })),
            Err(cause) => Err(Fallback { instance: self.fail(&cause), cause }),
        }
    }

    /// Learns the incumbent's generation; this one's is one more.
    pub fn follows(&mut self, generation: u64) {
        self.core.generation = generation.saturating_add(1);
    }

    /// Waits for another instance, which has welcomed this one, to hand over.
    pub fn await_handoff(mut self, incumbent: W::Incumbent) -> Instance<W, Awaiting<W>> {
        self.core.go(Event::Upgrade, "welcomed by the incumbent", Hands::default());
        self.becomes(|Booting| Awaiting { incumbent })
    }

    /// Ends, because booting failed.
    pub fn fail(self, cause: &Cause) -> Instance<W, Exited> {
        self.end(Event::BootFailed, &cause.why, cause.exit)
    }

    /// Ends by SIGTERM.
    pub fn terminate(self) -> Instance<W, Exited> {
        self.end(Event::Terminate, "SIGTERM", Exit::Success)
    }

    /// Ends by SIGINT.
    pub fn interrupt(self) -> Instance<W, Exited> {
        self.end(Event::Interrupt, "SIGINT", Exit::Success)
    }

    fn end(mut self, event: Event, why: &str, exit: Exit) -> Instance<W, Exited> {
        self.core.go(event, why, Hands::default());
        self.becomes(|Booting| Exited { exit })
    }
}
