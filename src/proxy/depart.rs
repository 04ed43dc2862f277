//! How a connection leaves its worker for another instance, and how it comes back or arrives from one.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smol::lock::futures::AcquireArc;
use smol::lock::{Semaphore, SemaphoreGuardArc};

use crate::base::MovedTunnel;
use crate::runtime;
use crate::upstream::Spare;

/// What the connections of a worker are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// Nothing.
    #[default]
    Stay,
    /// `Connection: close` with the next response.
    Close,
    /// To depart: tunnels at once, others when they wait for a request. Responses leave the connection open.
    Move,
}

/// What a worker's connections are told, and the permits that they need to depart.
#[derive(Debug)]
pub struct Leaving {
    told: Cell<Leave>,
    /// How often they were told to stay. A connection that came back is not offered again until it changes.
    stays: Cell<u64>,
    permits: Arc<Semaphore>,
}

/// The right to be on the way out; given back when it is dropped.
pub type Permit = SemaphoreGuardArc;

/// A client's connection that nobody serves at the moment: it was just accepted, or is on its way from or to another
/// instance.
#[derive(Debug)]
pub struct Resting {
    /// The client's socket, nonblocking and in no epoll instance.
    pub client: OwnedFd,
    /// The client's address; none on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// How many requests were answered on it.
    pub requests: u64,
    /// The client may send a request before it has the response to the last.
    pub pipelines: bool,
    /// The server's socket and what is on its way, if it is a tunnel.
    pub tunnel: Option<Box<(OwnedFd, MovedTunnel)>>,
    /// An idle connection to a server that goes along, so that the next request needs no new one.
    pub spare: Option<Spare>,
    /// How often this worker's connections had been told to stay when it was offered to another instance.
    pub offered: Option<u64>,
    /// Another instance may hold copies of its sockets, which would keep it open after it is closed here.
    pub shared: bool,
}

/// A connection that departs.
#[derive(Debug)]
pub struct Parting {
    /// The connection. It may be served again from where it stands.
    pub connection: Resting,
    /// What lets it go; to be kept until it is settled who serves it.
    pub permit: Permit,
}

/// Who counts a connection.
pub trait Keeper {
    /// The connection is a tunnel from now on.
    fn tunnels(&self);
}

/// A connection's wait for its permit, beside which it goes on.
#[derive(Default)]
pub(super) struct Offer(Option<Pin<Box<AcquireArc>>>);

impl Resting {
    /// A connection that was just accepted.
    pub fn fresh(client: OwnedFd, peer: Option<SocketAddr>) -> Self {
        Self {
            client,
            peer,
            requests: 0,
            pipelines: false,
            tunnel: None,
            spare: None,
            offered: None,
            shared: false,
        }
    }

    /// A connection that another instance passes on, with the server's socket if it is a tunnel, and an idle connection
    /// to a server that comes along.
    pub fn passed(
        client: OwnedFd,
        peer: Option<SocketAddr>,
        requests: u64,
        tunnel: Option<(OwnedFd, MovedTunnel)>,
        spare: Option<Spare>,
    ) -> Self {
        // Whether the client pipelines is not passed on. To think so costs a moment when the connection is closed, to
        // think otherwise might cost the client its last response.
        let pipelines = requests > 0;
        let tunnel = tunnel.map(Box::new);
        Self { client, peer, requests, pipelines, tunnel, spare, offered: None, shared: true }
    }

    /// Ends it for all who hold its sockets.
    pub fn end(self) {
        runtime::end(&self.client);
        if let Some((server, _)) = self.tunnel.as_deref() {
            runtime::end(server);
        }
    }
}

impl Leaving {
    /// Nothing is told yet. A connection takes one of `permits` to depart.
    pub fn new(permits: Arc<Semaphore>) -> Self {
        Self { told: Cell::default(), stays: Cell::new(0), permits }
    }

    /// Tells the connections. Those that wait have to be woken to hear it.
    pub fn tell(&self, leave: Leave) {
        self.told.set(leave);
        if leave == Leave::Stay {
            self.stays.set(self.stays.get().wrapping_add(1));
        }
    }

    /// Nobody is to leave.
    pub fn is_over(&self) -> bool {
        self.told.get() == Leave::Stay
    }

    /// A connection's next response is to say `Connection: close`. `offered` is when it was offered to another
    /// instance and came back.
    pub(super) fn closes(&self, offered: Option<u64>) -> bool {
        match self.told.get() {
            Leave::Stay => false,
            Leave::Close => true,
            Leave::Move => offered == Some(self.stays.get()),
        }
    }

    /// A connection may depart.
    pub(super) fn moves(&self, offered: Option<u64>) -> bool {
        self.told.get() == Leave::Move && offered != Some(self.stays.get())
    }

    /// Idle connections to servers are of use: here, or where the clients' connections go.
    pub(super) fn keeps_upstreams(&self) -> bool {
        self.told.get() != Leave::Close
    }

    /// A permit, if a connection may depart and there is one left.
    pub(super) fn permit_now(&self, offered: Option<u64>) -> Option<Permit> {
        self.moves(offered).then(|| self.permits.try_acquire_arc()).flatten()
    }

    /// What to remember of a connection that is offered now.
    pub(super) fn now(&self) -> Option<u64> {
        Some(self.stays.get())
    }
}

impl Offer {
    /// Waits for a permit while the connection is `willing`; gives its place in the queue up otherwise.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, leaving: &Leaving, willing: bool) -> Poll<Permit> {
        if !willing {
            self.0 = None;
            return Poll::Pending;
        }
        let acquire = self.0.get_or_insert_with(|| Box::pin(leaving.permits.acquire_arc()));
        let permit = acquire.as_mut().poll(cx);
        if permit.is_ready() {
            self.0 = None;
        }
        permit
    }
}
