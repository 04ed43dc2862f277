//! What can happen next: what `Sources::poll` would find, and what operator, clients and misfortune do.

use super::Handover;
use super::outside::{INSTANCES, LISTENERS};
use super::state::{State, With};
use super::within::{formers, place, successor, taker};
use crate::lifecycle::Phase;
use crate::lifecycle::machine::{Happening, Machine};
use crate::listen::Ending;
use crate::system::Signal;

/// One thing that happens. Instances go by number, 0 is in service at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Start(usize),
    Signal(usize, Signal),
    Crash(usize),
    /// The connection of this successor ends, though both processes live.
    Break(usize),
    /// The instance's next action that may fail does.
    Fault(usize),
    Hear(usize, With),
    /// The other side has not done its next step in time.
    Late(usize, With),
    /// An instance that was stopped when it had read `Commit` goes on.
    Proceed(usize),
    PatienceEnds(usize),
    GuardEnds(usize),
    DrainEnds(usize),
    Idle(usize),
    /// A client connects to a listener, and this instance is told; nobody is where nobody accepts.
    Connect(usize, Option<usize>),
    Accept(usize, usize),
    /// A connection comes to its end.
    Finish(usize),
}

/// All that can happen in a state.
pub(super) fn all(state: &State, moves: &mut Vec<Move>) {
    by_others(state, moves);
    for who in 0..INSTANCES {
        let Some(machine) = state.machine(who) else { continue };
        by_misfortune(state, who, moves);
        if state.seats[who].stalled {
            moves.push(Move::Proceed(who));
            continue;
        }
        if state.left.stops > 0 {
            moves.extend([Signal::Terminate, Signal::Interrupt].map(|signal| Move::Signal(who, signal)));
        }
        by_itself(state, who, machine, moves);
        let place = place(machine);
        for listener in 0..LISTENERS {
            if state.outside.queues[listener].told[who] {
                moves.push(Move::Accept(who, listener));
            }
        }
        if place.connections > 0 {
            moves.push(Move::Finish(who));
        }
    }
}

fn by_others(state: &State, moves: &mut Vec<Move>) {
    // Whoever finds nobody at the upgrade socket ends at once. They start in the order of their numbers.
    let reachable = state.outside.upgrade_path.is_some_and(|host| state.outside.desks[host]);
    if state.left.starts > 0 && reachable {
        moves.extend((1..INSTANCES).find(|who| !state.seats[*who].started).map(Move::Start));
    }
    if state.left.clients > 0 {
        for listener in (0..LISTENERS).filter(|one| state.outside.listening[*one]) {
            let accepts = |who: &usize| state.place(*who).is_some_and(|place| place.accepts(listener));
            let before = moves.len();
            moves.extend((0..INSTANCES).filter(accepts).map(|who| Move::Connect(listener, Some(who))));
            if moves.len() == before {
                moves.push(Move::Connect(listener, None));
            }
        }
    }
    if state.left.breaks > 0 {
        let both = |one: &usize| {
            state.outside.channels[*one].as_ref().is_some_and(|one| one.open == [true; 2] && !one.broken)
        };
        moves.extend((0..INSTANCES - 1).filter(both).map(Move::Break));
    }
}

fn by_misfortune(state: &State, who: usize, moves: &mut Vec<Move>) {
    if state.left.crashes > 0 {
        moves.push(Move::Crash(who));
    }
    let may_fail = matches!(state.phase(who), Some(Phase::Awaiting | Phase::Accepting));
    if state.left.faults > 0 && may_fail && state.place(who).is_some_and(|place| !place.fails) {
        moves.push(Move::Fault(who));
    }
}

/// `Sources::poll`, but for the order of what is ready at once: any is possible, except where the product's order
/// matters and is kept.
fn by_itself(state: &State, who: usize, machine: &Machine<super::place::Place>, moves: &mut Vec<Move>) {
    let outside = &state.outside;
    let before = moves.len();
    if let Some(giver) = successor(machine) {
        if giver.can_hear(outside) {
            moves.push(Move::Hear(who, With::Successor));
        } else if state.left.delays > 0 && giver.can_be_late(outside) {
            moves.push(Move::Late(who, With::Successor));
        }
    }
    if let Machine::Draining(_) = machine {
        // First what saves the service, then what ends the process.
        if moves.len() == before {
            // While it guards, that nothing is left makes no difference.
            match (machine.phase() == Phase::Draining { guard: true }, place(machine).connections) {
                (true, 0) => moves.push(Move::GuardEnds(who)),
                (true, _) => moves.extend([Move::GuardEnds(who), Move::DrainEnds(who)]),
                (false, 0) => moves.push(Move::Idle(who)),
                (false, _) => moves.push(Move::DrainEnds(who)),
            }
        }
        return;
    }
    if let Some(taker) = taker(machine) {
        if taker.can_hear(outside) {
            moves.push(Move::Hear(who, With::Incumbent));
        } else if state.left.delays > 0 && taker.can_be_late(outside) {
            moves.push(Move::Late(who, With::Incumbent));
        }
    }
    let gone = formers(machine).iter().enumerate().filter(|(_, former)| former.can_hear(outside));
    moves.extend(gone.map(|(nth, _)| Move::Hear(who, With::Former(nth))));
    if let Some(desk) = &place(machine).desk {
        let ready = desk.greeters.iter().enumerate().filter(|(_, greeter)| greeter.can_hear(outside));
        moves.extend(ready.map(|(nth, _)| Move::Hear(who, With::Greeter(nth))));
        if let Some(waiter) = &desk.waiter {
            if waiter.can_hear(outside) {
                moves.push(Move::Hear(who, With::Waiter));
            } else if state.left.delays > 0 && waiter.can_be_late(outside) {
                moves.push(Move::Late(who, With::Waiter));
            }
            // SIGQUIT does nothing where nobody waits, and in every other state.
            let waits = waiter.is_waiting() || waiter.can_hear(outside);
            if state.left.quits > 0 && waits && matches!(machine, Machine::Serving(_)) {
                moves.push(Move::Signal(who, Signal::Quit));
            }
        }
    }
    if machine.phase() == (Phase::Committed { ending: true }) {
        moves.push(Move::PatienceEnds(who));
    }
}

impl Move {
    /// Lets it happen.
    pub(super) fn make(self, model: &Handover, state: &mut State) {
        let left = &mut state.left;
        match self {
            Self::Start(who) => {
                left.starts -= 1;
                state.start(who, model.wants[who], model.table);
                state.settle();
            }
            Self::Signal(who, signal) => {
                match signal {
                    Signal::Quit => left.quits -= 1,
                    _ => left.stops -= 1,
                }
                state.turn(who, Happening::Signal(signal));
            }
            Self::Crash(who) => {
                left.crashes -= 1;
                state.crash(who);
            }
            Self::Break(channel) => {
                left.breaks -= 1;
                state.outside.channel_mut(channel).broken = true;
                state.broken = true;
                state.settle();
            }
            Self::Fault(who) => {
                left.faults -= 1;
                if let Some(place) = state.place_mut(who) {
                    place.fails = true;
                }
            }
            Self::Hear(who, with) => state.hear(who, with),
            Self::Late(who, with) => {
                left.delays -= 1;
                state.late(who, with);
            }
            Self::Proceed(who) => state.proceed(who),
            Self::PatienceEnds(who) => state.turn(who, Happening::PatienceEnded),
            Self::GuardEnds(who) => state.turn(who, Happening::GuardEnded),
            Self::DrainEnds(who) => state.turn(who, Happening::DrainEnded(Ending::All)),
            Self::Idle(who) => state.turn(who, Happening::Idle),
            Self::Connect(listener, told) => {
                left.clients -= 1;
                let queue = &mut state.outside.queues[listener];
                queue.waiting += 1;
                told.into_iter().for_each(|who| queue.told[who] = true);
            }
            Self::Accept(who, listener) => {
                state.outside.queues[listener].waiting -= 1;
                if let Some(place) = state.place_mut(who) {
                    place.connections += 1;
                }
                state.settle();
            }
            Self::Finish(who) => {
                if let Some(place) = state.place_mut(who) {
                    place.connections -= 1;
                }
            }
        }
    }
}
