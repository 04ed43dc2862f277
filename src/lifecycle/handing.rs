//! Handing: the instance serves on while its successor gets ready and takes over.

use super::instance::Hands;
use super::serving::forget;
use super::twin::Event;
use super::{Draining, Exit, Exited, Instance, Phase, Serving, World};
use crate::base::ListenerId;

/// The listeners are offered.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Handing<W: World> {
    pub(super) successor: W::Successor,
    pub(super) predecessor: Option<W::Incumbent>,
    pub(super) formers: Vec<W::Successor>,
}

/// The successor may take over at any moment; until it says that it did, this instance accepts.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Committed<W: World> {
    pub(super) successor: W::Successor,
    pub(super) predecessor: Option<W::Incumbent>,
    pub(super) formers: Vec<W::Successor>,
}

impl<W: World> Instance<W, Handing<W>> {
    /// The successor accepts on everything: lets it take over.
    pub fn commit(mut self) -> Instance<W, Committed<W>> {
        let hands = Hands::default().successor(&mut self.state.successor);
        self.core.go(Event::SuccessorReady, "the successor is ready", hands);
        self.becomes(|state| Committed {
            successor: state.successor,
            predecessor: state.predecessor,
            formers: state.formers,
        })
    }

    /// Serves on, because the successor refused, failed or took too long.
    pub fn roll_back(mut self, why: &str) -> Instance<W, Serving<W>> {
        self.core.go(Event::SuccessorFailed, why, Hands::default());
        self.core.world.free_desk();
        // It may be stopped, and still be told of connections.
        self.becomes(|mut state| {
            state.formers.push(state.successor);
            Serving { predecessor: state.predecessor, formers: state.formers }
        })
    }

    /// Makes sure of pidfile, socket and queues, now that an earlier successor that failed, the `nth` of them, will touch
    /// nothing any more.
    pub fn former_gone(mut self, nth: usize) -> Self {
        self.core.go(Event::SuccessorGone, "the failed successor has gone", Hands::default());
        forget(&mut self.core.world, &mut self.state.formers, nth);
        self
    }

    /// Forgets a predecessor that has ended or will say no more, and looks at what it may have left in the queues.
    pub fn predecessor_gone(mut self) -> Self {
        self.core.go(Event::PredecessorGone, "the predecessor has gone", Hands::default());
        self.state.predecessor = None;
        self
    }

    /// Calls the hand-over off and drains, because the predecessor took the service back.
    pub fn step_down(mut self, why: &str) -> Instance<W, Draining<W>> {
        self.core.go(Event::StepDown, why, Hands::default().successor(&mut self.state.successor));
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit: Exit::TryAgain })
    }

    /// Calls the hand-over off, drains and ends, by SIGTERM.
    pub fn terminate(mut self) -> Instance<W, Draining<W>> {
        let state = &mut self.state;
        let hands = Hands::default().successor(&mut state.successor).incumbent(state.predecessor.as_mut());
        self.core.go(Event::Terminate, "SIGTERM: the incumbent ends", hands);
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit: Exit::Success })
    }

    /// Calls the hand-over off and ends at once, by SIGINT.
    pub fn interrupt(mut self) -> Instance<W, Exited> {
        let state = &mut self.state;
        let hands = Hands::default().successor(&mut state.successor).incumbent(state.predecessor.as_mut());
        self.core.go(Event::Interrupt, "SIGINT: the incumbent ends", hands);
        self.becomes(|_| Exited { exit: Exit::Success })
    }
}

/// Where a committed hand-over that failed leads.
#[derive(Debug)]
pub enum RolledBack<W: World> {
    /// The instance is in service as before.
    Serving(Instance<W, Serving<W>>),
    /// It had been asked to end meanwhile.
    Draining(Instance<W, Draining<W>>),
}

impl<W: World> Instance<W, Committed<W>> {
    /// The successor serves: accepts no more, and drains; connections move to it. `unwanted` are listeners that nobody
    /// will serve.
    pub fn pass(mut self, unwanted: &[ListenerId]) -> Instance<W, Draining<W>> {
        let state = &mut self.state;
        let hands = Hands::default()
            .unwanted(unwanted)
            .successor(&mut state.successor)
            .incumbent(state.predecessor.as_mut());
        let guard = self.core.world.guards();
        self.core.go(Event::SuccessorOwned { guard }, "the successor serves", hands);
        self.becomes(|state| Draining {
            successor: Some(state.successor),
            formers: state.formers,
            exit: Exit::Success,
        })
    }

    /// Serves on with pidfile and socket restored, because the successor failed; or drains, if it was asked to end.
    pub fn roll_back(mut self, why: &str) -> RolledBack<W> {
        let ending = self.is_ending();
        let hands = Hands::default().incumbent(self.state.predecessor.as_mut());
        self.core.go(Event::SuccessorFailed, why, hands);
        self.core.world.free_desk();
        if ending {
            return RolledBack::Draining(self.becomes(|_| Draining {
                successor: None,
                formers: Vec::new(),
                exit: Exit::Success,
            }));
        }
        RolledBack::Serving(self.becomes(|mut state| {
            state.formers.push(state.successor);
            Serving { predecessor: state.predecessor, formers: state.formers }
        }))
    }

    /// Looks at the queues, now that an earlier successor that failed, the `nth` of them, will touch nothing any more.
    /// Pidfile and socket are about to change hands, so nothing is restored; should the hand-over fail, everything is.
    pub fn former_gone(mut self, nth: usize) -> Self {
        self.core.go(Event::SuccessorGone, "the failed successor has gone", Hands::default());
        // It may have left the files as its own, and stays an heir until they are restored or the successor has them.
        if nth < self.state.formers.len() {
            self.state.formers.remove(nth);
        }
        self
    }

    /// Forgets a predecessor that has ended or will say no more, and looks at what it may have left in the queues.
    pub fn predecessor_gone(mut self) -> Self {
        self.core.go(Event::PredecessorGone, "the predecessor has gone", Hands::default());
        self.state.predecessor = None;
        self
    }

    /// The successor, which may serve already, did not say so soon after this instance was asked to end: leaves the
    /// service to it, and drains.
    pub fn let_go(mut self) -> Instance<W, Draining<W>> {
        let hands = Hands::default().incumbent(self.state.predecessor.as_mut());
        self.core.go(
            Event::PatienceEnded,
            "the successor, which was let to take over, does not say that it serves",
            hands,
        );
        self.becomes(|_| Draining { successor: None, formers: Vec::new(), exit: Exit::Success })
    }

    /// Whether it was asked to end.
    pub fn is_ending(&self) -> bool {
        self.core.phase == Phase::Committed { ending: true }
    }

    /// SIGTERM: the hand-over is completed, and if it fails the instance drains all the same.
    pub fn terminate(mut self) -> Self {
        self.core.go(Event::Terminate, "SIGTERM", Hands::default());
        self
    }

    /// The predecessor took the service back: completes the hand-over, and drains all the same if it fails.
    pub fn step_down(mut self, why: &str) -> Self {
        self.core.go(Event::StepDown, why, Hands::default());
        self
    }

    /// Ends at once, by SIGINT. The successor, which was let to, takes over.
    pub fn interrupt(mut self) -> Instance<W, Exited> {
        let hands = Hands::default().incumbent(self.state.predecessor.as_mut());
        self.core.go(Event::Interrupt, "SIGINT", hands);
        self.becomes(|_| Exited { exit: Exit::Success })
    }
}
