//! The machine as a pure function: what may happen in which phase, and what has to be done then.
//!
//! The typestate ([`Instance`](super::Instance)) is the only executor of these actions. It asks [`step`] at every
//! transition, so that the table that is tested here is the table that runs.

use std::fmt;

use super::Phase;
use crate::listen::Ending;

/// What can happen to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Everything is bound and nobody else is in service.
    ColdStart,
    /// The configuration is good, and another instance is to hand over.
    Upgrade,
    /// Booting failed.
    BootFailed,
    /// The incumbent's listeners are checked and the new ones listen.
    Adopted,
    /// The incumbent lets this instance take over.
    Commit,
    /// The incumbent refused, timed out or went away; or this instance cannot do what it should.
    Lost,
    /// The incumbent's process ended, so nobody else serves.
    IncumbentDied,
    /// The predecessor, which this instance took over from, has ended, or will say no more.
    PredecessorGone,
    /// The incumbent took the service back after it had let this instance take over.
    StepDown,
    /// SIGQUIT.
    Quit {
        /// Whether a successor waits.
        waiter: bool,
    },
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// The successor accepts on everything.
    SuccessorReady,
    /// The successor serves.
    SuccessorOwned {
        /// Whether this instance guards it for a time.
        guard: bool,
    },
    /// The successor refused, timed out or went away before it owned the service.
    SuccessorFailed,
    /// A successor that failed earlier has closed its connection: it touches nothing any more.
    SuccessorGone,
    /// The successor that serves ends on purpose.
    SuccessorReleased,
    /// The process of the successor that served ended without saying so.
    SuccessorDied,
    /// The successor, which serves, takes no more connections.
    MovesEnded,
    /// The successor did not say soon that it serves, and this instance was asked to end.
    PatienceEnded,
    /// The time in which the listeners can be taken back is over.
    GuardEnded,
    /// No connection is left.
    Idle,
    /// The time to drain is over for these connections; for all once both times are over.
    DrainEnded(Ending),
    /// The instance in service wants this one, which drains, to end.
    Displaced,
}

/// What has to be done at a transition, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Hold all listeners, which listen and are not accepted on yet.
    HoldListeners,
    /// Start the workers on them. May fail.
    StartWorkers,
    /// Take pidfile, upgrade socket and the paths of Unix listeners. May fail.
    TakeFiles,
    /// Take again those of them that are not this instance's any more.
    RestoreFiles,
    /// They are the successor's from now on: forget them.
    ForgetFiles,
    /// They are the incumbent's: forget what was inherited or taken from it.
    YieldFiles,
    /// Tell a waiting instance to go, and remove the upgrade socket if it is still ours.
    CloseDesk,
    /// Tell the incumbent that this instance accepts on everything.
    SayReady,
    /// Tell the incumbent that this instance serves.
    SayOwned,
    /// Tell the incumbent that this instance wants nothing of it.
    RefuseIncumbent,
    /// Tell the predecessor, if there is one, that this instance ends on purpose.
    SayReleased,
    /// Offer all listeners to the waiting successor.
    SayOffer,
    /// Let the successor take over.
    SayCommit,
    /// Tell the successor that the hand-over is off, because this instance ends.
    DismissSuccessor,
    /// Tell the successor, if there is one, that nothing is left of this instance.
    SayDrained,
    /// Accept no more, but what is queued; drain listeners that the successor does not want.
    StopAccepting,
    /// Accept on the listeners that are held, and look at once at what is queued on them.
    ResumeAccepting,
    /// Move connections to the successor as they fall idle; where that cannot be, as `Drain`.
    MoveOut,
    /// Tell clients to leave with their next response.
    Drain,
    /// Keep the connections, and tell clients nothing.
    Undrain,
    /// Close the listeners that are held.
    CloseListeners,
    /// Close these of the connections that are left, and count them.
    CloseConnections(Ending),
    /// Remove pidfile, upgrade socket and socket paths that are still this instance's.
    RemoveFiles,
}

/// An event that has no place in a phase: a mistake in the program, never in its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    /// Where the instance was.
    pub phase: Phase,
    /// What cannot happen there.
    pub event: Event,
}

/// What follows from `event` in `phase`.
///
/// Signals are legal in every phase but `Exited`; what does not apply leaves the phase as it is, without actions.
///
/// # Errors
/// [`Illegal`] for an event that cannot happen in the phase.
pub fn step(phase: Phase, event: Event) -> Result<(Phase, Vec<Action>), Illegal> {
    use Action::*;
    use Event as E;
    use Phase as P;
    let guard = P::Draining { guard: true };
    let drain = P::Draining { guard: false };
    let committed = P::Committed { ending: false };
    let ending = P::Committed { ending: true };
    let close_all = CloseConnections(Ending::All);
    let next = match (phase, event) {
        // Booting
        // Files first: what cannot be taken is found before a client is accepted.
        (P::Booting, E::ColdStart) => (P::Serving, vec![HoldListeners, TakeFiles, StartWorkers]),
        (P::Booting, E::Upgrade) => (P::Awaiting, vec![]),
        (P::Booting, E::BootFailed | E::Terminate | E::Interrupt) => (P::Exited, vec![RemoveFiles]),

        // The successor's side
        (P::Awaiting, E::Adopted) => (P::Accepting, vec![HoldListeners, StartWorkers, SayReady]),
        (P::Awaiting, E::Lost | E::IncumbentDied | E::Terminate | E::Interrupt) => {
            (P::Exited, vec![RefuseIncumbent, RemoveFiles])
        }
        (P::Accepting, E::Commit) => (P::Serving, vec![TakeFiles, SayOwned]),
        // It holds every listener, and nobody else serves. Who accepted beside it may have been woken for connections
        // and not have accepted them, here as below.
        (P::Accepting, E::IncumbentDied) => (P::Serving, vec![RestoreFiles, ResumeAccepting]),
        // It may have taken the files back before it died.
        (P::Serving | P::Offered, E::PredecessorGone) => (phase, vec![RestoreFiles, ResumeAccepting]),
        (P::Committed { .. }, E::PredecessorGone) => (phase, vec![ResumeAccepting]),
        (P::Accepting, E::Lost | E::Terminate) => {
            (drain, vec![YieldFiles, RefuseIncumbent, StopAccepting, CloseListeners, Drain])
        }
        (P::Accepting, E::Interrupt) => (
            P::Exited,
            vec![YieldFiles, RefuseIncumbent, StopAccepting, CloseListeners, close_all, RemoveFiles],
        ),
        (P::Serving, E::StepDown) => (drain, vec![YieldFiles, StopAccepting, CloseListeners, Drain]),

        // The incumbent's side
        (P::Serving, E::Quit { waiter: true }) => (P::Offered, vec![SayOffer]),
        (P::Offered, E::SuccessorReady) => (committed, vec![SayCommit]),
        (P::Offered, E::SuccessorFailed) => (P::Serving, vec![ResumeAccepting]),
        (P::Committed { ending: false }, E::SuccessorOwned { guard: true }) => {
            (guard, vec![StopAccepting, ForgetFiles, SayReleased, MoveOut])
        }
        (P::Committed { .. }, E::SuccessorOwned { .. }) => {
            (drain, vec![StopAccepting, ForgetFiles, SayReleased, CloseListeners, MoveOut])
        }
        (P::Committed { ending: false }, E::SuccessorFailed) => {
            (P::Serving, vec![RestoreFiles, ResumeAccepting])
        }
        (P::Committed { ending: true }, E::SuccessorFailed) => {
            (drain, vec![RestoreFiles, CloseDesk, SayReleased, StopAccepting, CloseListeners, Drain])
        }
        // Closing the connection without a refusal lets the successor take over whenever it can.
        (P::Committed { ending: true }, E::PatienceEnded) => {
            (drain, vec![CloseDesk, SayReleased, StopAccepting, CloseListeners, Drain])
        }
        (P::Serving | P::Offered, E::SuccessorGone) => (phase, vec![RestoreFiles, ResumeAccepting]),
        // The files are about to change hands; should the hand-over fail, they are restored.
        (P::Committed { .. }, E::SuccessorGone) => (phase, vec![ResumeAccepting]),
        (P::Draining { guard: true }, E::SuccessorDied) => {
            (P::Serving, vec![ResumeAccepting, Undrain, RestoreFiles])
        }
        (P::Draining { guard: true }, E::SuccessorReleased) => (drain, vec![CloseListeners, Drain]),
        // The successor is there, and connections go on moving to it.
        (P::Draining { guard: true }, E::GuardEnded | E::Terminate) => (drain, vec![CloseListeners]),
        (P::Draining { guard: false }, E::SuccessorReleased | E::SuccessorDied) => (drain, vec![Drain]),
        (P::Draining { .. }, E::MovesEnded) => (phase, vec![Drain]),

        // The end
        (P::Serving, E::Terminate) => {
            (drain, vec![CloseDesk, SayReleased, StopAccepting, CloseListeners, Drain])
        }
        (P::Offered, E::Terminate) => {
            (drain, vec![DismissSuccessor, CloseDesk, SayReleased, StopAccepting, CloseListeners, Drain])
        }
        (P::Offered, E::StepDown) => {
            (drain, vec![DismissSuccessor, YieldFiles, StopAccepting, CloseListeners, Drain])
        }
        // The successor may serve already: whether it does is known when it says so or fails.
        (P::Committed { .. }, E::Terminate | E::StepDown) => (ending, vec![]),
        (P::Serving, E::Interrupt) => (P::Exited, vec![SayReleased, CloseListeners, close_all, RemoveFiles]),
        (P::Offered, E::Interrupt) => {
            (P::Exited, vec![DismissSuccessor, SayReleased, CloseListeners, close_all, RemoveFiles])
        }
        // As above.
        (P::Committed { .. }, E::Interrupt) => {
            (P::Exited, vec![SayReleased, CloseListeners, close_all, RemoveFiles])
        }
        // Nobody but this instance can take the service back, so it stays for as long as it may have to.
        (P::Draining { guard: true }, E::Idle) => (phase, vec![]),
        (P::Draining { guard: false }, E::Idle) => (P::Exited, vec![CloseListeners, SayDrained, RemoveFiles]),
        (P::Draining { guard: false }, E::DrainEnded(Ending::All))
        | (P::Draining { .. }, E::Displaced | E::Interrupt) => {
            (P::Exited, vec![CloseListeners, close_all, SayDrained, RemoveFiles])
        }
        (P::Draining { .. }, E::DrainEnded(what)) => (phase, vec![CloseConnections(what)]),

        // Signals that ask for nothing in this phase
        (P::Draining { guard: false }, E::Terminate) => (drain, vec![]),
        (P::Exited, _) => return Err(Illegal { phase, event }),
        (_, E::Quit { .. }) => (phase, vec![]),
        _ => return Err(Illegal { phase, event }),
    };
    Ok(next)
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} cannot happen in {}", self.event, self.phase)
    }
}

impl std::error::Error for Illegal {}
