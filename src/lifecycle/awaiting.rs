//! AwaitingHandoff: another instance serves; this one waits, adopts, and accepts beside it at last.

use super::instance::Hands;
use super::twin::Event;
use super::{Cause, Draining, Exit, Exited, Fallback, Instance, Serving, Transition, World};

/// Waiting and adopting: nothing that a client could notice is done.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Awaiting<W: World> {
    pub(super) incumbent: W::Incumbent,
}

/// The workers accept beside the incumbent's, who shares the queues and has not committed yet.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Accepting<W: World> {
    pub(super) incumbent: W::Incumbent,
}

impl<W: World> Instance<W, Awaiting<W>> {
    /// Starts the workers on everything that was adopted or bound, and says `Ready`.
    ///
    /// # Errors
    /// When the workers do not start: the incumbent is told, and serves on.
    pub fn adopt(mut self, sockets: W::Sockets) -> Transition<W, Accepting<W>, Exited> {
        let hands = Hands::default().sockets(sockets).incumbent(&mut self.state.incumbent);
        match self.core.advance(Event::Adopted, "all listeners adopted", hands) {
            Ok(()) => Ok(self.becomes(|state| Accepting { incumbent: state.incumbent })),
            Err(cause) => Err(Fallback { instance: self.lose(&cause), cause }),
        }
    }

    /// Ends, because the hand-over did not come about.
    pub fn lose(self, cause: &Cause) -> Instance<W, Exited> {
        self.end(Event::Lost, &cause.why, cause.exit)
    }

    /// Ends by SIGTERM. The incumbent does not mind.
    pub fn terminate(self) -> Instance<W, Exited> {
        self.end(Event::Terminate, "SIGTERM", Exit::Success)
    }

    /// Ends by SIGINT. The incumbent does not mind.
    pub fn interrupt(self) -> Instance<W, Exited> {
        self.end(Event::Interrupt, "SIGINT", Exit::Success)
    }

    fn end(mut self, event: Event, why: &str, exit: Exit) -> Instance<W, Exited> {
        self.core.go(event, why, Hands::default().incumbent(&mut self.state.incumbent));
        self.becomes(|_| Exited { exit })
    }
}

impl<W: World> Instance<W, Accepting<W>> {
    /// Takes the service over: pidfile, upgrade socket, `Owned`.
    ///
    /// # Errors
    /// When the files are not to be had: the incumbent is told and serves on; this instance drains what it accepted.
    pub fn commit(mut self) -> Transition<W, Serving<W>, Draining<W>> {
        let hands = Hands::default().incumbent(&mut self.state.incumbent);
        match self.core.advance(Event::Commit, "the incumbent committed", hands) {
            Ok(()) => {
                Ok(self.becomes(|state| Serving { predecessor: Some(state.incumbent), formers: Vec::new() }))
            }
            Err(cause) => Err(Fallback { instance: self.lose(&cause), cause }),
        }
    }

    /// Serves, because nobody else does: the incumbent's process has ended and this instance holds every listener.
    pub fn inherit(mut self) -> Instance<W, Serving<W>> {
        self.core.go(Event::IncumbentDied, "the incumbent died", Hands::default());
        self.becomes(|_| Serving { predecessor: None, formers: Vec::new() })
    }

    /// Drains what it accepted, because the hand-over did not come about.
    pub fn lose(self, cause: &Cause) -> Instance<W, Draining<W>> {
        self.leave(Event::Lost, &cause.why, cause.exit)
    }

    /// Drains what it accepted, by SIGTERM.
    pub fn terminate(self) -> Instance<W, Draining<W>> {
        self.leave(Event::Terminate, "SIGTERM", Exit::Success)
    }

    /// Ends at once by SIGINT.
    pub fn interrupt(mut self) -> Instance<W, Exited> {
        let hands = Hands::default().incumbent(&mut self.state.incumbent);
        self.core.go(Event::Interrupt, "SIGINT", hands);
        self.becomes(|_| Exited { exit: Exit::Success })
    }

    fn leave(mut self, event: Event, why: &str, exit: Exit) -> Instance<W, Draining<W>> {
        self.core.go(event, why, Hands::default().incumbent(&mut self.state.incumbent));
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit })
    }
}
