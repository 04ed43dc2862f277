//! The instance as a typestate: a type for each state, and a method for each transition that it has.
//!
//! A transition takes `self` and gives the next state, so an instance is never in two states and never in a state
//! whose resources it lacks. One that can fail gives back the state to fall back to, with the cause.

use super::twin::{Action, Event};
use super::{Cause, Phase, Tidings, World};
use crate::base::ListenerId;

/// An instance in the state `S`.
///
/// What the types guarantee: nobody hands over but who serves; nobody commits before the successor is ready; nobody
/// stops accepting before the successor owns the service; nobody takes pidfile and socket before the incumbent's
/// commit; and an instance that has exited does nothing.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub struct Instance<W, S> {
    pub(super) core: Core<W>,
    pub(super) state: S,
}

/// The state to fall back to when a transition failed, and why it did.
#[derive(Debug)]
pub struct Fallback<W, S> {
    /// The instance in the state it is in now.
    pub instance: Instance<W, S>,
    /// What went wrong.
    pub cause: Cause,
}

/// What a transition that may fail comes to: the next state, or the one to fall back to.
pub type Transition<W, Next, Back> = Result<Instance<W, Next>, Fallback<W, Back>>;

/// What every state has.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(super) struct Core<W> {
    pub(super) world: W,
    pub(super) phase: Phase,
    pub(super) generation: u64,
}

/// What the actions of one transition work on.
pub(super) struct Hands<'a, W: World> {
    sockets: Option<W::Sockets>,
    unwanted: &'a [ListenerId],
    successor: Option<&'a mut W::Successor>,
    incumbent: Option<&'a mut W::Incumbent>,
}

impl<W, S> Instance<W, S> {
    /// Where the instance is, as its twin says.
    pub fn phase(&self) -> Phase {
        self.core.phase
    }

    /// How many instances took over from one another, this one included.
    pub fn generation(&self) -> u64 {
        self.core.generation
    }

    /// The world the instance acts on.
    pub fn world(&self) -> &W {
        &self.core.world
    }

    pub(super) fn becomes<T>(self, next: impl FnOnce(S) -> T) -> Instance<W, T> {
        Instance { core: self.core, state: next(self.state) }
    }
}

impl<W: World> Core<W> {
    /// Asks the twin, acts, and logs the transition.
    ///
    /// # Errors
    /// When an action that may fail did; the phase is then the old one, and the rest was not done.
    pub(super) fn advance(&mut self, event: Event, why: &str, mut hands: Hands<'_, W>) -> Result<(), Cause> {
        let (to, actions) = match self.world.step(self.phase, event) {
            Ok(next) => next,
            Err(illegal) => {
                // The types offer no such transition; if one slips through, doing nothing keeps the service.
                tracing::error!(target: "river::lifecycle", %illegal, "ignored");
                debug_assert!(false, "{illegal}");
                return Ok(());
            }
        };
        for action in actions {
            if action == Action::SayOwned {
                // The predecessor may end as soon as it hears that; who looks after the service has to know by then.
                self.announce(event, self.phase, to, why);
            }
            self.perform(action, why, &mut hands)?;
        }
        let from = std::mem::replace(&mut self.phase, to);
        self.log(from, why);
        self.announce(event, from, to, why);
        Ok(())
    }

    fn announce(&mut self, event: Event, from: Phase, to: Phase, why: &str) {
        self.world.announce(&Tidings { event, from, to, why, generation: self.generation });
    }

    /// One line for a change of state; a step within a state is told as such.
    fn log(&self, from: Phase, why: &str) {
        let (to, generation, pid) = (self.phase, self.generation, std::process::id());
        let connections = self.world.connections();
        if from.to_string() != to.to_string() {
            tracing::info!(
                target: "river::lifecycle", %from, %to, why, generation, pid, connections, "transition"
            );
        } else if from != to {
            tracing::info!(target: "river::lifecycle", state = %to, why, generation, pid, connections, "step");
        }
    }

    /// A transition none of whose actions may fail.
    pub(super) fn go(&mut self, event: Event, why: &str, hands: Hands<'_, W>) {
        if let Err(cause) = self.advance(event, why, hands) {
            tracing::error!(target: "river::lifecycle", %cause, "an action failed");
        }
    }

    fn perform(&mut self, action: Action, why: &str, hands: &mut Hands<'_, W>) -> Result<(), Cause> {
        let world = &mut self.world;
        let successor = hands.successor.as_deref_mut();
        let incumbent = hands.incumbent.as_deref_mut();
        match action {
            Action::HoldListeners => {
                if let Some(sockets) = hands.sockets.take() {
                    world.hold_listeners(sockets);
                }
            }
            Action::StartWorkers => world.start_workers()?,
            Action::TakeFiles => world.take_files(self.generation, incumbent.as_deref())?,
            Action::RestoreFiles => world.restore_files(self.generation),
            Action::ForgetFiles => world.forget_files(),
            Action::YieldFiles => world.yield_files(),
            Action::CloseDesk => world.close_desk(),
            Action::RemoveFiles => world.remove_files(),
            Action::StopAccepting => world.stop_accepting(hands.unwanted),
            Action::ResumeAccepting => world.resume_accepting(),
            Action::MoveOut => successor.into_iter().for_each(|peer| world.move_out(peer)),
            Action::Drain => world.drain(),
            Action::Undrain => world.undrain(),
            Action::CloseListeners => world.close_listeners(),
            Action::CloseConnections(what) => {
                let closed = world.close_connections(what);
                if closed > 0 {
                    tracing::warn!(target: "river::lifecycle", closed, why, "connections closed ungracefully");
                }
            }
            Action::SayOffer => successor.into_iter().for_each(|peer| world.offer(peer)),
            Action::SayCommit => successor.into_iter().for_each(|peer| world.commit(peer)),
            Action::DismissSuccessor => {
                successor.into_iter().for_each(|peer| world.dismiss_successor(peer, why));
            }
            Action::SayDrained => successor.into_iter().for_each(|peer| world.say_drained(peer)),
            Action::SayReady => incumbent.into_iter().for_each(|peer| world.say_ready(peer)),
            Action::SayOwned => incumbent.into_iter().for_each(|peer| world.say_owned(peer)),
            Action::RefuseIncumbent => {
                incumbent.into_iter().for_each(|peer| world.refuse_incumbent(peer, why));
            }
            Action::SayReleased => incumbent.into_iter().for_each(|peer| world.say_released(peer)),
        }
        Ok(())
    }
}

impl<W: World> Default for Hands<'_, W> {
    fn default() -> Self {
        Self { sockets: None, unwanted: &[], successor: None, incumbent: None }
    }
}

impl<'a, W: World> Hands<'a, W> {
    pub(super) fn sockets(mut self, sockets: W::Sockets) -> Self {
        self.sockets = Some(sockets);
        self
    }

    pub(super) fn unwanted(mut self, unwanted: &'a [ListenerId]) -> Self {
        self.unwanted = unwanted;
        self
    }

    pub(super) fn successor(mut self, successor: impl Into<Option<&'a mut W::Successor>>) -> Self {
        self.successor = successor.into();
        self
    }

    pub(super) fn incumbent(mut self, incumbent: impl Into<Option<&'a mut W::Incumbent>>) -> Self {
        self.incumbent = incumbent.into();
        self
    }
}
