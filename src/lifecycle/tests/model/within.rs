//! Views into a machine in whichever state it is, and what makes one a value of the model's state.

use std::hash::{Hash, Hasher};

use super::peers::{Giver, Taker};
use super::place::Place;
use crate::lifecycle::machine::Machine;

pub(super) fn place(machine: &Machine<Place>) -> &Place {
    match machine {
        Machine::Meeting(instance, _) => &instance.core.world,
        Machine::Awaiting(instance) => &instance.core.world,
        Machine::Accepting(instance) => &instance.core.world,
        Machine::Serving(instance) => &instance.core.world,
        Machine::Handing(instance) => &instance.core.world,
        Machine::Committed(instance) => &instance.core.world,
        Machine::Draining(instance) => &instance.core.world,
        Machine::Exited(instance) => &instance.core.world,
    }
}

pub(super) fn place_mut(machine: &mut Machine<Place>) -> &mut Place {
    match machine {
        Machine::Meeting(instance, _) => &mut instance.core.world,
        Machine::Awaiting(instance) => &mut instance.core.world,
        Machine::Accepting(instance) => &mut instance.core.world,
        Machine::Serving(instance) => &mut instance.core.world,
        Machine::Handing(instance) => &mut instance.core.world,
        Machine::Committed(instance) => &mut instance.core.world,
        Machine::Draining(instance) => &mut instance.core.world,
        Machine::Exited(instance) => &mut instance.core.world,
    }
}

pub(super) fn successor(machine: &Machine<Place>) -> Option<&Giver> {
    match machine {
        Machine::Handing(instance) => Some(&instance.state.successor),
        Machine::Committed(instance) => Some(&instance.state.successor),
        Machine::Draining(instance) => instance.state.successor.as_ref(),
        _ => None,
    }
}

pub(super) fn successor_mut(machine: &mut Machine<Place>) -> Option<&mut Giver> {
    match machine {
        Machine::Handing(instance) => Some(&mut instance.state.successor),
        Machine::Committed(instance) => Some(&mut instance.state.successor),
        Machine::Draining(instance) => instance.state.successor.as_mut(),
        _ => None,
    }
}

pub(super) fn formers(machine: &Machine<Place>) -> &[Giver] {
    match machine {
        Machine::Serving(instance) => &instance.state.formers,
        Machine::Handing(instance) => &instance.state.formers,
        Machine::Committed(instance) => &instance.state.formers,
        _ => &[],
    }
}

pub(super) fn formers_mut(machine: &mut Machine<Place>) -> Option<&mut Vec<Giver>> {
    match machine {
        Machine::Serving(instance) => Some(&mut instance.state.formers),
        Machine::Handing(instance) => Some(&mut instance.state.formers),
        Machine::Committed(instance) => Some(&mut instance.state.formers),
        _ => None,
    }
}

pub(super) fn taker(machine: &Machine<Place>) -> Option<&Taker> {
    match machine {
        Machine::Meeting(_, incumbent) => Some(incumbent),
        Machine::Awaiting(instance) => Some(&instance.state.incumbent),
        Machine::Accepting(instance) => Some(&instance.state.incumbent),
        Machine::Serving(instance) => instance.state.predecessor.as_ref(),
        Machine::Handing(instance) => instance.state.predecessor.as_ref(),
        Machine::Committed(instance) => instance.state.predecessor.as_ref(),
        Machine::Draining(_) | Machine::Exited(_) => None,
    }
}

pub(super) fn taker_mut(machine: &mut Machine<Place>) -> Option<&mut Taker> {
    match machine {
        Machine::Meeting(_, incumbent) => Some(incumbent),
        Machine::Awaiting(instance) => Some(&mut instance.state.incumbent),
        Machine::Accepting(instance) => Some(&mut instance.state.incumbent),
        Machine::Serving(instance) => instance.state.predecessor.as_mut(),
        Machine::Handing(instance) => instance.state.predecessor.as_mut(),
        Machine::Committed(instance) => instance.state.predecessor.as_mut(),
        Machine::Draining(_) | Machine::Exited(_) => None,
    }
}

/// Every conversation with a successor that the instance holds: while it does, its end is open.
pub(super) fn givers(machine: &Machine<Place>) -> impl Iterator<Item = &Giver> {
    let desk = place(machine).desk.as_ref();
    let waiting = desk.into_iter().flat_map(|desk| desk.greeters.iter().chain(&desk.waiter));
    let kept: &[Giver] = match machine {
        Machine::Draining(instance) => &instance.state.formers,
        _ => &[],
    };
    successor(machine).into_iter().chain(formers(machine)).chain(kept).chain(waiting)
}

impl Clone for Machine<Place> {
    fn clone(&self) -> Self {
        match self {
            Self::Meeting(instance, incumbent) => Self::Meeting(instance.clone(), incumbent.clone()),
            Self::Awaiting(instance) => Self::Awaiting(instance.clone()),
            Self::Accepting(instance) => Self::Accepting(instance.clone()),
            Self::Serving(instance) => Self::Serving(instance.clone()),
            Self::Handing(instance) => Self::Handing(instance.clone()),
            Self::Committed(instance) => Self::Committed(instance.clone()),
            Self::Draining(instance) => Self::Draining(instance.clone()),
            Self::Exited(instance) => Self::Exited(instance.clone()),
        }
    }
}

impl PartialEq for Machine<Place> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Meeting(one, at), Self::Meeting(two, its)) => one == two && at == its,
            (Self::Awaiting(one), Self::Awaiting(two)) => one == two,
            (Self::Accepting(one), Self::Accepting(two)) => one == two,
            (Self::Serving(one), Self::Serving(two)) => one == two,
            (Self::Handing(one), Self::Handing(two)) => one == two,
            (Self::Committed(one), Self::Committed(two)) => one == two,
            (Self::Draining(one), Self::Draining(two)) => one == two,
            (Self::Exited(one), Self::Exited(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Machine<Place> {}

impl Hash for Machine<Place> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Meeting(instance, incumbent) => (instance, incumbent).hash(state),
            Self::Awaiting(instance) => instance.hash(state),
            Self::Accepting(instance) => instance.hash(state),
            Self::Serving(instance) => instance.hash(state),
            Self::Handing(instance) => instance.hash(state),
            Self::Committed(instance) => instance.hash(state),
            Self::Draining(instance) => instance.hash(state),
            Self::Exited(instance) => instance.hash(state),
        }
    }
}
