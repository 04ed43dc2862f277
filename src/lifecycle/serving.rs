//! Serving: the instance is in service.

use super::instance::Hands;
use super::twin::Event;
use super::{Draining, Exit, Exited, Handing, Instance, World};

/// How many successors that failed may be there still when another is handed over to.
const MAX_FORMERS: usize = 8;

/// In service: pidfile, upgrade socket and listeners are this instance's.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Serving<W: World> {
    /// Who handed over to this instance, until it has drained.
    pub(super) predecessor: Option<W::Incumbent>,
    /// Successors whose hand-over failed after the commit, until they have closed their connections.
    pub(super) formers: Vec<W::Successor>,
}

impl<W: World> Instance<W, Serving<W>> {
    /// SIGQUIT: offers the listeners to the waiting successor, and serves on meanwhile.
    ///
    /// # Errors
    /// When nobody waits, or 8 successors that failed are there still; the instance serves on.
    pub fn hand_over(self) -> Result<Instance<W, Handing<W>>, Self> {
        self.hand_over_for("SIGQUIT")
    }

    /// As [`hand_over`](Self::hand_over), for the reason `why`, such as SIGHUP when its successor waits.
    ///
    /// # Errors
    /// As above.
    pub fn hand_over_for(mut self, why: &str) -> Result<Instance<W, Handing<W>>, Self> {
        let Some(mut successor) = self.core.world.take_waiter() else {
            self.core.go(Event::Quit { waiter: false }, why, Hands::default());
            return Err(self);
        };
        if self.state.formers.len() >= MAX_FORMERS {
            let why = format!("{MAX_FORMERS} successors that failed have not ended yet; end them first");
            tracing::error!(target: "river::lifecycle", why, "the hand-over is refused; this instance serves on");
            self.core.world.refuse_successor(successor, &why);
            self.core.go(Event::Quit { waiter: false }, why.as_str(), Hands::default());
            return Err(self);
        }
        self.core.go(Event::Quit { waiter: true }, why, Hands::default().successor(&mut successor));
        Ok(self.becomes(|state| Handing {
            successor,
            predecessor: state.predecessor,
            formers: state.formers,
        }))
    }

    /// Drains, because the predecessor took the service back.
    pub fn step_down(mut self, why: &str) -> Instance<W, Draining<W>> {
        self.core.go(Event::StepDown, why, Hands::default());
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit: Exit::TryAgain })
    }

    /// Drains, because another instance took the service over at the same moment, when the one before both died.
    pub fn give_way(mut self, exit: Exit) -> Instance<W, Draining<W>> {
        self.core.go(Event::StepDown, "another instance serves", Hands::default());
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit })
    }

    /// Whether another instance has upgrade socket and pidfile.
    pub fn is_doubled(&self) -> bool {
        self.core.world.another_serves()
    }

    /// Forgets a predecessor that has ended or will say no more, and looks at what it may have left in the queues.
    pub fn predecessor_gone(mut self) -> Self {
        self.core.go(Event::PredecessorGone, "the predecessor has gone", Hands::default());
        self.state.predecessor = None;
        self
    }

    /// Makes sure of pidfile, socket and queues, now that a successor that failed, the `nth` of them, will touch nothing
    /// any more.
    pub fn former_gone(mut self, nth: usize) -> Self {
        self.core.go(Event::SuccessorGone, "the failed successor has gone", Hands::default());
        forget(&mut self.core.world, &mut self.state.formers, nth);
        self
    }

    /// Drains and ends, by SIGTERM.
    pub fn terminate(mut self) -> Instance<W, Draining<W>> {
        let hands = Hands::default().incumbent(self.state.predecessor.as_mut());
        self.core.go(Event::Terminate, "SIGTERM", hands);
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit: Exit::Success })
    }

    /// Ends at once, by SIGINT.
    pub fn interrupt(mut self) -> Instance<W, Exited> {
        let hands = Hands::default().incumbent(self.state.predecessor.as_mut());
        self.core.go(Event::Interrupt, "SIGINT", hands);
        self.becomes(|_| Exited { exit: Exit::Success })
    }
}

/// Lets go of the `nth` of the successors that failed.
pub(super) fn forget<W: World>(world: &mut W, formers: &mut Vec<W::Successor>, nth: usize) {
    if nth < formers.len() {
        world.forget_heir(&formers.remove(nth));
    }
}
