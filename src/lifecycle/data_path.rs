//! What the lifecycle asks of the workers.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use crate::base::{ListenerId, Moved};
use crate::listen::{Departure, Ending, Leave};
use crate::system::Listening;

/// Serves a connection that was admitted when it is called. Dropped instead, it closes the copies of its sockets.
pub type Admitted = Box<dyn FnOnce() + Send>;

/// The workers, their listeners and connections. None of the calls waits, but for [`stop`](Self::stop).
pub trait DataPath {
    /// Starts workers that accept on all listeners at once.
    ///
    /// # Errors
    /// When threads or pollers are not to be had; no worker runs then.
    fn start(&mut self, listeners: Vec<Listening>) -> io::Result<()>;

    /// Stops accepting. Listeners that are kept are deregistered, their queues swept once, and held for
    /// [`resume_accepting`](Self::resume_accepting). Unwanted ones are accepted on until their queue is empty and
    /// closed then; the data path must hold the last reference to them.
    fn stop_accepting(&mut self, unwanted: &[ListenerId]);

    /// Holds these listeners too, until [`resume_accepting`](Self::resume_accepting) accepts on them.
    ///
    /// # Errors
    /// When one belongs to no service; none is held then.
    fn add(&mut self, listeners: Vec<Listening>) -> io::Result<()>;

    /// Accepts again on the listeners that are held.
    fn resume_accepting(&mut self);

    /// Closes the listeners that are held, once the sweep of [`stop_accepting`](Self::stop_accepting) is done.
    fn close_listeners(&mut self);

    /// Tells connections how to leave, or to stay.
    fn leave(&mut self, how: Leave);

    /// The next connection that leaves, after [`Leave::Move`]. It counts as a connection until it is settled.
    fn poll_departure(&mut self, cx: &mut Context<'_>) -> Poll<Departure>;

    /// Checks a connection that another instance passes on, and counts it in.
    ///
    /// # Errors
    /// Why it is declined.
    fn admit(&mut self, moved: Moved, fds: Vec<OwnedFd>) -> Result<Admitted, String>;

    /// How many connections there have been, those there are included.
    fn begun(&self) -> u64;

    /// How many connections there are, also those of the queue being swept.
    fn connections(&self) -> usize;

    /// How many of them are tunnels.
    fn tunnels(&self) -> usize;

    /// Ready when every worker has swept, and no connection is left, for as long as that is so.
    ///
    /// Being ready too often is harmless, for the caller looks at [`connections`](Self::connections). It must wake the
    /// task within a few milliseconds of the last connection's end.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Asks every worker for a sign of life, and says whether each has given one since it was last asked.
    fn pulse(&self) -> bool;

    /// Closes these of the connections that are left and returns how many they were.
    fn close_connections(&mut self, what: Ending) -> usize;

    /// Ends the workers and joins their threads.
    ///
    /// # Errors
    /// What went wrong with a worker that had ended by a mistake in River.
    fn stop(self) -> Result<(), String>;
}
