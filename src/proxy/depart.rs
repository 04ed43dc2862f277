//! How a connection leaves its worker for another instance, and comes back.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::base::MovedTunnel;

/// What the connections of a worker are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// Nothing.
    #[default]
    Stay,
    /// `Connection: close` on the next response.
    Close,
    /// To depart when they are idle, and tunnels at once; responses leave the connection open.
    Move,
}

/// What a worker's connections are told, and what they need for it.
#[derive(Debug)]
pub struct Leaving {
    told: Cell<Leave>,
    /// How often they were told to stay. A connection that was declined is not offered again until it changes.
    stays: Cell<u64>,
    permits: Arc<Semaphore>,
}

/// The right to be on the way out; given back when it is dropped.
pub type Permit = SemaphoreGuardArc;

/// A client's connection that is not being served: it was accepted, or came from another instance, or is about to go
/// there.
#[derive(Debug)]
pub struct Resting {
    /// The client's socket, nonblocking.
    pub client: OwnedFd,
    /// The client's address; none on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// How many requests were answered on it.
    pub requests: u64,
    /// The server's socket, and what is on its way, if it is a tunnel.
    pub tunnel: Option<Box<(OwnedFd, MovedTunnel)>>,
}

impl Resting {
    /// A connection that was just accepted.
    pub fn fresh(client: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self { client, peer, requests: 0, tunnel: None }
    }
}

impl Leaving {
    /// Nothing is told yet. `permits` holds the permits that may be given out at a time.
    pub fn new(permits: Arc<Semaphore>) -> Self {
        Self { told: Cell::default(), stays: Cell::new(0), permits }
    }

    /// Tells the connections.
    pub fn tell(&self, leave: Leave) {
        self.told.set(leave);
        if leave == Leave::Stay {
            self.stays.set(self.stays.get().wrapping_add(1));
        }
    }

    /// What they were told last.
    pub fn told(&self) -> Leave {
        self.told.get()
    }
}
