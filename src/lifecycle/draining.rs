//! Draining: no more connections are accepted; those there are move to the successor or go on to their end.

use super::instance::Hands;
use super::twin::Event;
use super::{DrainTally, Exit, Exited, Instance, Phase, Serving, World};
use crate::listen::Ending;

/// On the way out.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Draining<W: World> {
    /// The successor that serves now, to take back from if it dies within the guard period.
    pub(super) successor: Option<W::Successor>,
    /// Successors that failed before, which may still touch the files: if the service is taken back, their ends count.
    pub(super) formers: Vec<W::Successor>,
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
        if let Some(successor) = &self.state.successor {
            self.core.world.forget_heir(successor);
        }
        if guarding {
            Ok(self.becomes(|state| Serving { predecessor: None, formers: state.formers }))
        } else {
            self.state.successor = None;
            Err(self)
        }
    }

    /// The successor ends on purpose, or has handed over itself: nothing is taken back.
    pub fn release(mut self) -> Self {
        let why = "the successor has said that it needs no guard any more";
        self.core.go(Event::SuccessorReleased, why, Hands::default());
        self.state.successor = None;
        self
    }

    /// The successor takes no more connections, though it serves: those that are left go on to their end here.
    pub fn end_moves(mut self) -> Self {
        self.core.go(Event::MovesEnded, "the successor takes no more connections", Hands::default());
        self
    }

    /// The successor died, but had handed over to another before it could say so: nothing is taken back.
    pub fn outlive(mut self) -> Self {
        self.core.go(Event::SuccessorReleased, "the successor died, and another serves", Hands::default());
        self.state.successor = None;
        self
    }

    /// Whether another instance than the successor is in service.
    pub fn is_outlived(&self) -> bool {
        self.core.world.another_serves()
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
    ///
    /// # Errors
    /// While it guards the successor: it goes on to.
    pub fn idle(self) -> Result<Instance<W, Exited>, Self> {
        self.end_unless_guarding(Event::Idle, "no connection is left")
    }

    /// The time to drain is over for these connections: they are closed. Once all are it ends.
    ///
    /// # Errors
    /// While it guards the successor, or others may go on: draining goes on.
    pub fn time_out(mut self, what: Ending) -> Result<Instance<W, Exited>, Self> {
        let (event, why) = (Event::DrainEnded(what), "the time to drain is over");
        if what == Ending::All {
            return self.end_unless_guarding(event, why);
        }
        self.core.go(event, why, Hands::default());
        Err(self)
    }

    /// Ends at once, by SIGINT.
    pub fn interrupt(self) -> Instance<W, Exited> {
        self.end(Event::Interrupt, "SIGINT")
    }

    /// Ends at once, because too many instances drain: what is left is closed.
    pub fn displace(self, why: &str) -> Instance<W, Exited> {
        self.end(Event::Displaced, why)
    }

    fn end_unless_guarding(mut self, event: Event, why: &str) -> Result<Instance<W, Exited>, Self> {
        if self.is_guarding() {
            self.core.go(event, why, Hands::default());
            return Err(self);
        }
        Ok(self.end(event, why))
    }

    fn end(mut self, event: Event, why: &str) -> Instance<W, Exited> {
        self.core.go(event, why, Hands::default().successor(self.state.successor.as_mut()));
        let DrainTally { moved, finished, cut } = self.core.world.tally();
        tracing::info!(target: "river::lifecycle", moved, finished, cut, "what became of the connections");
        self.becomes(|state| Exited { exit: state.exit })
    }
}
