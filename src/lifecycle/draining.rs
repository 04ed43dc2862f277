//! Draining: no more connections are accepted; those there are go on to their end.

use super::instance::Hands;
use super::twin::Event;
use super::{Exit, Exited, Instance, Phase, Serving, World};

/// On the way out.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Draining<W: World> {
    /// The successor that serves now, to take back from if it dies within the guard period.
    pub(super) successor: Option<W::Successor>,
    pub(super) exit: Exit,
}

impl<W: World> Instance<W, Draining<W>> {
    /// Whether the listeners are still held for the successor's sake.
    pub fn is_guarding(&self) -> bool {
        self.core.phase == Phase::Draining { guard: true }
    }

    /// Serves again, because the successor died within the guard period.
    ///
    /// # Errors
    /// When the guard period is over: the listeners are closed, and draining goes on.
    pub fn take_back(mut self) -> Result<Instance<W, Serving<W>>, Self> {
        let guarding = self.is_guarding();
        self.core.go(Event::SuccessorDied, "the successor died", Hands::default());
        if guarding {
            Ok(self.becomes(|_| Serving { predecessor: None, formers: Vec::new() }))
        } else {
            self.state.successor = None;
            Err(self)
        }
    }

    /// The successor ends on purpose: nothing is taken back.
    pub fn release(mut self) -> Self {
        self.core.go(Event::SuccessorReleased, "the successor ends on purpose", Hands::default());
        self.state.successor = None;
        self
    }

    /// The guard period is over.
    pub fn end_guard(mut self) -> Self {
        if self.is_guarding() {
            self.core.go(Event::GuardEnded, "the guard period is over", Hands::default());
        }
        self
    }

    /// SIGTERM: nothing is taken back any more.
    pub fn terminate(mut self) -> Self {
        self.core.go(Event::Terminate, "SIGTERM", Hands::default());
        self
    }

    /// No connection is left.
    pub fn idle(self) -> Instance<W, Exited> {
        self.end(Event::Idle, "no connection is left")
    }

    /// The drain time-out is over: what is left is closed.
    pub fn time_out(self) -> Instance<W, Exited> {
        self.end(Event::DrainEnded, "the drain time-out is over")
    }

    /// Ends at once, by SIGINT.
    pub fn interrupt(self) -> Instance<W, Exited> {
        self.end(Event::Interrupt, "SIGINT")
    }

    fn end(mut self, event: Event, why: &str) -> Instance<W, Exited> {
        self.core.go(event, why, Hands::default().successor(self.state.successor.as_mut()));
        self.becomes(|state| Exited { exit: state.exit })
    }
}
