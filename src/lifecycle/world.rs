//! What a transition does to the world, as a trait, so that the typestate runs on the real one and on fakes.

use std::fmt::Debug;

use super::twin::{Action, Event, Illegal};
use super::{Cause, DrainTally, Phase, Tidings, twin};
use crate::base::ListenerId;
use crate::listen::Ending;

/// The effects of transitions. Each method is one [`Action`](super::Action) or a question.
///
/// None of them waits.
pub trait World {
    /// Listeners that are checked and listen, not yet accepted on.
    type Sockets: Debug;
    /// The conversation with a successor.
    type Successor: Debug;
    /// The conversation with an incumbent or predecessor.
    type Incumbent: Debug;

    /// What follows from `event` in `phase`: the table. Only the model has others, with a mistake in each, to show that
    /// it would find them.
    ///
    /// # Errors
    /// [`Illegal`] for an event that cannot happen in the phase.
    fn step(&self, phase: Phase, event: Event) -> Result<(Phase, Vec<Action>), Illegal> {
        twin::step(phase, event)
    }

    /// Holds all listeners, which are not accepted on yet.
    fn hold_listeners(&mut self, sockets: Self::Sockets);
    /// Starts the workers on the listeners that are held.
    ///
    /// # Errors
    /// When they cannot be started; none runs then.
    fn start_workers(&mut self) -> Result<(), Cause>;
    /// Stops accepting, sweeps the queues, and drains and closes the unwanted listeners.
    fn stop_accepting(&mut self, unwanted: &[ListenerId]);
    /// Accepts again on the listeners that are held, and on those that were given up for a successor that did not want
    /// them; logs which of these cannot be bound again.
    fn resume_accepting(&mut self);
    /// Closes the listeners that are held.
    fn close_listeners(&mut self);
    /// Moves connections to the successor as they fall idle; where that cannot be, tells clients to leave.
    fn move_out(&mut self, successor: &mut Self::Successor);
    /// Tells clients to leave with their next response.
    fn drain(&mut self);
    /// Keeps the connections, and tells clients nothing.
    fn undrain(&mut self);
    /// Closes these of the connections that are left and returns how many they were.
    fn close_connections(&mut self, what: Ending) -> usize;
    /// How many connections there are.
    fn connections(&self) -> usize;
    /// Tells those outside of a transition, which may be told twice.
    fn announce(&mut self, _tidings: &Tidings<'_>) {}
    /// What has become of the connections since this instance began to drain.
    fn tally(&self) -> DrainTally;
    /// Whether this instance is to guard a successor that serves, to take the service back if that dies.
    fn guards(&self) -> bool;

    /// Takes pidfile, upgrade socket and listener paths: from `incumbent`, or from nobody.
    ///
    /// # Errors
    /// When one cannot be taken, such as when yet another instance has them by now.
    fn take_files(&mut self, generation: u64, incumbent: Option<&Self::Incumbent>) -> Result<(), Cause>;
    /// Takes again those that a successor took which failed; logs what fails, for the service goes on. What another
    /// instance has that is in service is left to it.
    fn restore_files(&mut self, generation: u64);
    /// Whether another instance is in service by now, as the upgrade socket tells.
    fn another_serves(&self) -> bool {
        false
    }
    /// The process that was let to take the service over last.
    fn heir(&self) -> Option<u32> {
        None
    }
    /// Leaves them to the successor.
    fn forget_files(&mut self);
    /// Leaves to the incumbent what is the incumbent's.
    fn yield_files(&mut self);
    /// Dismisses a waiter and removes the upgrade socket if it is still ours.
    fn close_desk(&mut self);
    /// Removes what is still ours.
    fn remove_files(&mut self);

    /// The waiting successor, to hand over to it.
    fn take_waiter(&mut self) -> Option<Self::Successor>;
    /// The successor that was taken failed: another may wait.
    fn free_desk(&mut self);

    /// Offers all listeners.
    fn offer(&mut self, successor: &mut Self::Successor);
    /// Lets the successor take over.
    fn commit(&mut self, successor: &mut Self::Successor);
    /// Says no to a successor that nothing was offered to, and lets another wait.
    fn refuse_successor(&mut self, successor: Self::Successor, why: &str);
    /// The successor, which may have been let to take the files, touches nothing any more.
    fn forget_heir(&mut self, successor: &Self::Successor);
    /// Calls the hand-over off, because this instance ends.
    fn dismiss_successor(&mut self, successor: &mut Self::Successor, why: &str);
    /// Tells the successor that nothing is left of this instance.
    fn say_drained(&mut self, successor: &mut Self::Successor);

    /// Tells the incumbent that this instance accepts on everything.
    fn say_ready(&mut self, incumbent: &mut Self::Incumbent);
    /// Tells the incumbent that this instance serves.
    fn say_owned(&mut self, incumbent: &mut Self::Incumbent);
    /// Tells the incumbent that this instance wants nothing of it.
    fn refuse_incumbent(&mut self, incumbent: &mut Self::Incumbent, why: &str);
    /// Tells the predecessor that this instance ends on purpose.
    fn say_released(&mut self, predecessor: &mut Self::Incumbent);
}
