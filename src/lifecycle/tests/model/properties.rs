//! What must hold in every state, and in those where nothing can happen any more.
//!
//! A connection that breaks between two processes that live is more than a Unix socket does. It makes two instances serve
//! (err to two), and who of them has the files is not asked then; that somebody serves is.
//!
//! What has to come about "in the end" is asked of the last states of all paths, which are finite (a test of its own):
//! so nothing depends on how `eventually` treats paths that meet.

use stateright::Property;

use super::outside::{INSTANCES, LISTENERS};
use super::peers::Giver;
use super::state::{Duty, State};
use super::within::{formers, place, successor, taker};
use super::{Handover, moves};
use crate::lifecycle::Phase;
use crate::lifecycle::machine::Machine;

pub(super) const ACCEPTED: &str = "somebody accepts on every listener";
pub(super) const HANDS: &str = "somebody serves, or is about to take the service back";
pub(super) const FILE: &str = "the pidfile names an instance that is in service and accepts";
pub(super) const SOCKET: &str = "the upgrade socket leads to an instance that is in service";
pub(super) const OWNERS: &str = "no two instances are in service for good";
pub(super) const DROPPED: &str = "no queue is closed with a connection in it";
pub(super) const SERVED: &str = "in the end one instance serves, with all that belongs to it";
pub(super) const QUEUED: &str = "in the end no connection is queued";
pub(super) const ENDED: &str = "in the end no instance is between two states";

pub(super) fn all() -> Vec<Property<Handover>> {
    vec![
        Property::always(ACCEPTED, |_, state| is_accepted(state)),
        Property::always(HANDS, |_, state: &State| state.excused || state.is_in_good_hands()),
        Property::always(FILE, |_, state| is_file_right(state)),
        Property::always(SOCKET, |_, state| is_socket_right(state)),
        Property::always(OWNERS, |_, state| is_owned_once(state)),
        Property::always(DROPPED, |_, state: &State| !state.dropped),
        Property::always(SERVED, |_, state: &State| !is_last(state) || state.excused || is_served(state)),
        Property::always(QUEUED, |_, state| !is_last(state) || is_answered(state)),
        Property::always(ENDED, |_, state| !is_last(state) || is_settled(state)),
    ]
}

/// Whether nothing can happen any more.
pub(super) fn is_last(state: &State) -> bool {
    let mut next = Vec::new();
    moves::all(state, &mut next);
    next.is_empty()
}

/// Those who owe service, and may count on it that nobody tells them to stop.
fn servants(state: &State) -> impl Iterator<Item = usize> {
    (0..INSTANCES).filter(|who| {
        let refused = || state.machine(*who).and_then(taker).is_some_and(|it| it.is_refused(&state.outside));
        state.seats[*who].duty == Duty::Service && !refused()
    })
}

fn accepts(state: &State, who: usize, listener: usize) -> bool {
    state.place(who).is_some_and(|place| place.accepts(listener))
}

fn is_accepted(state: &State) -> bool {
    (0..LISTENERS)
        .filter(|listener| state.is_owed(*listener))
        .all(|listener| (0..INSTANCES).any(|who| accepts(state, who, listener)))
}

/// The waiting instance is not, however much it accepts.
fn is_in_service(state: &State, who: usize) -> bool {
    matches!(state.phase(who), Some(Phase::Serving | Phase::Offered | Phase::Committed { .. }))
}

/// Whether an instance that has to repair something has something to hear that makes it do so: the end of another.
fn repairs(state: &State) -> bool {
    (0..INSTANCES).filter(|who| state.seats[*who].duty != Duty::None).any(|who| {
        let Some(machine) = state.machine(who) else { return false };
        let other = successor(machine).into_iter().chain(formers(machine));
        state.seats[who].stalled
            || other.into_iter().any(|giver| giver.will_hear_the_end(&state.outside))
            || taker(machine).is_some_and(|taker| taker.will_hear_the_end(&state.outside))
    })
}

/// Whether a successor that failed has the files, while the incumbent has let another take them. Should that fail too,
/// the incumbent restores them.
fn is_passing(state: &State, owner: Option<usize>) -> bool {
    (0..INSTANCES).any(|who| match state.machine(who) {
        Some(machine @ Machine::Committed(_)) => {
            let next = successor(machine).map(Giver::peer);
            // One that was asked to end meanwhile has removed them.
            (0..INSTANCES).any(|former| {
                place(machine).heirs[former]
                    && Some(former) != next
                    && owner.is_none_or(|owner| owner == former)
            })
        }
        _ => false,
    })
}

fn is_file_right(state: &State) -> bool {
    let owner = state.outside.pid_file;
    let excused = || repairs(state) || is_passing(state, owner);
    let right = owner.is_some_and(|who| is_in_service(state, who) && accepts(state, who, 0));
    state.broken || servants(state).next().is_none() || right || excused()
}

fn is_socket_right(state: &State) -> bool {
    let owner = state.outside.upgrade_path;
    let excused = || repairs(state) || is_passing(state, owner);
    let right = owner.is_some_and(|who| is_in_service(state, who) && state.outside.desks[who]);
    state.broken || servants(state).next().is_none() || right || excused()
}

/// Between `Commit` and `Owned` there are two, and until one that was refused has read so.
fn is_owned_once(state: &State) -> bool {
    let in_service = |who: &usize| matches!(state.phase(*who), Some(Phase::Serving | Phase::Offered));
    state.broken || servants(state).filter(in_service).count() <= 1
}

fn is_served(state: &State) -> bool {
    let mut serving = (0..INSTANCES).filter(|who| state.phase(*who) == Some(Phase::Serving));
    let (file, at) = (state.outside.pid_file, state.outside.upgrade_path);
    let serves = |who: usize| {
        let place = state.place(who);
        place.is_some_and(|place| {
            (0..LISTENERS).all(|one| place.accepts(one) || !place.wants[one] || place.missing[one])
        })
    };
    if state.broken {
        return serving.any(serves);
    }
    let whole = |who: usize| serves(who) && file == Some(who) && at == Some(who) && state.outside.desks[who];
    serving.next().is_some_and(whole) && serving.next().is_none()
}

/// Whoever's connection to another is broken does not hear that it ends, and leaves something in the queue.
fn is_answered(state: &State) -> bool {
    (0..LISTENERS).all(|one| {
        let someone = (0..INSTANCES).any(|who| accepts(state, who, one));
        let unknown = state.unheard || state.broken && state.crashed;
        state.outside.queues[one].waiting == 0 || !someone && state.excused || unknown
    })
}

/// Waiting for SIGQUIT has no end but the operator's; everything else has.
fn is_settled(state: &State) -> bool {
    (0..INSTANCES).all(|who| match state.machine(who) {
        None | Some(Machine::Serving(_)) => true,
        Some(machine @ Machine::Awaiting(_)) => taker(machine).is_some_and(|taker| {
            let host = state.place(taker.peer).and_then(|place| place.desk.as_ref());
            let waiter = host.and_then(|desk| desk.waiter.as_ref());
            waiter.is_some_and(|waiter| waiter.peer() == who)
        }),
        Some(_) => false,
    })
}
