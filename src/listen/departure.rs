//! Connections on their way out, to another instance.

use std::fmt;
use std::io;
use std::iter::once;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smol::channel::{Receiver, Sender, bounded};
use smol::lock::Semaphore;

use crate::base::{ListenerId, Moved, MovedState};
use crate::proxy::{Parting, Resting};
use crate::runtime;

/// The most connections that are on their way out at a time.
pub const WINDOW: usize = 64;

/// A connection on its way out, which goes to another instance or comes back.
///
/// It counts as a connection until it is settled, by [`gone`](Self::gone) or [`stay`](Self::stay). Nobody reads its
/// sockets meanwhile, and what its peers send waits in the kernel. Dropping it unsettled is `stay`.
pub struct Departure {
    moved: Moved,
    fds: Vec<Arc<OwnedFd>>,
    settle: Option<Settle>,
}

/// What became of a connection on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Another instance has it.
    Gone,
    /// It goes on where it was.
    Stay,
}

type Settle = Box<dyn FnOnce(Settled) + Send>;

impl Departure {
    /// A connection as `moved` describes it, with its sockets in that order. `settle` is called once, after the sockets
    /// here are let go of.
    pub fn new(moved: Moved, fds: Vec<Arc<OwnedFd>>, settle: impl FnOnce(Settled) + Send + 'static) -> Self {
        Self { moved, fds, settle: Some(Box::new(settle)) }
    }

    /// What the other instance has to know of it.
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Its sockets: the client's, a tunnel's server's behind it, and last the spare's. A clone that outlives the settling keeps a socket
    /// open.
    pub fn fds(&self) -> &[Arc<OwnedFd>] {
        &self.fds
    }

    /// The other instance has taken it: its sockets here are closed, and it no longer counts.
    pub fn gone(mut self) {
        self.settle(Settled::Gone);
    }

    /// It goes on in its worker. A client that waits for nothing is told to close with its next response, unless the
    /// fleet is told [`Leave::Stay`](super::Leave::Stay).
    pub fn stay(mut self) {
        self.settle(Settled::Stay);
    }

    fn settle(&mut self, how: Settled) {
        if let Some(settle) = self.settle.take() {
            self.fds.clear();
            settle(how);
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        self.settle(Settled::Stay);
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure")
            .field("moved", &self.moved)
            .field("fds", &self.fds)
            .finish_non_exhaustive()
    }
}

/// The way from the workers to whoever passes connections on.
#[derive(Debug)]
pub(super) struct Way {
    /// Each holds one while it is on its way out.
    pub(super) permits: Arc<Semaphore>,
    /// Departures are wanted.
    open: AtomicBool,
    sender: Sender<Departure>,
    receiver: Receiver<Departure>,
}

impl Way {
    pub(super) fn new() -> Self {
        let (sender, receiver) = bounded(WINDOW);
        Self { permits: Arc::new(Semaphore::new(WINDOW)), open: AtomicBool::new(false), sender, receiver }
    }

    /// Where departures arrive.
    pub(super) fn receiver(&self) -> Receiver<Departure> {
        self.receiver.clone()
    }

    /// Departures are wanted, or no longer: then those that nobody has taken up go back.
    pub(super) fn open(&self, open: bool) {
        self.open.store(open, Ordering::SeqCst);
        self.send_back();
    }

    /// Sends a connection out, and waits until it is settled; what comes back is to be served again. Dropping the future
    /// leaves the connection to whoever has it, and closes it should it come back.
    pub(super) async fn depart(&self, listener: &ListenerId, parting: Parting) -> Option<Resting> {
        let Parting {
            connection: Resting { client, peer, requests, pipelines, tunnel, spare, offered, shared },
            permit,
        } = parting;
        let (server, tunnel) = tunnel.map(|tunnel| *tunnel).unzip();
        let (spare, carried) = spare.map(|spare| (spare.fd, spare.requests)).unzip();
        let moved = Moved {
            listener: listener.clone(),
            peer,
            requests,
            state: tunnel.clone().map_or(MovedState::Idle, MovedState::Tunnel),
            spare: carried,
        };
        let fds: Vec<_> = once(client).chain(server).chain(spare).map(Arc::new).collect();
        let (answer, settled) = bounded(1);
        let sockets = fds.clone();
        self.leave(Departure::new(moved, fds, move |how| {
            // If it is gone, the end of the channel says so. If nobody waits for it any more, it is closed.
            if how == Settled::Stay {
                drop(answer.try_send(Back(sockets)));
            }
            drop(permit);
        }));
        let sockets: Result<Vec<_>, _> = settled.recv().await.ok()?.take().into_iter().map(own).collect();
        let mut sockets = sockets
            .inspect_err(|error| {
                tracing::error!(target: "river::listen", %error, "a connection that came back is lost");
            })
            .ok()?
            .into_iter();
        let client = sockets.next()?;
        // A spare that came back is closed: few requests are left to want it.
        let tunnel = tunnel.and_then(|tunnel| Some(Box::new((sockets.next()?, tunnel))));
        Some(Resting { client, peer, requests, pipelines, tunnel, spare: None, offered, shared })
    }

    /// Hands a departure over. Where none is wanted, it goes back.
    fn leave(&self, departure: Departure) {
        // There is room for as many as there are permits.
        drop(self.sender.try_send(departure));
        // Looked at afterwards: whoever closes the exit may have looked before it was in.
        self.send_back();
    }

    fn send_back(&self) {
        while !self.open.load(Ordering::SeqCst)
            && let Ok(departure) = self.receiver.try_recv()
        {
            departure.stay();
        }
    }
}

/// The sockets of a connection that comes back. Where nobody waits for them any more it has ended, and its peers are to
/// hear of it although the other instance may hold copies.
struct Back(Vec<Arc<OwnedFd>>);

impl Back {
    fn take(mut self) -> Vec<Arc<OwnedFd>> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.0.iter().for_each(runtime::end);
    }
}

/// The socket for oneself; a duplicate of it where somebody else holds on to it.
fn own(socket: Arc<OwnedFd>) -> io::Result<OwnedFd> {
    Arc::try_unwrap(socket).or_else(|shared| shared.try_clone())
}
