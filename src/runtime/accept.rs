//! Listening sockets that several workers share.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::reactor::Reactor;
use super::source::Source;

/// How many connections are accepted for one report of epoll. What is left is reported at the next turn,
/// unless another worker that is less busy has taken it.
const BATCH: u32 = 8;

/// A connection: its socket, non-blocking and close-on-exec, and the peer's address if it is a TCP socket.
pub type Accepted = (OwnedFd, Option<SocketAddr>);

/// One worker's share in a listening socket.
///
/// The socket is registered level-triggered with `EPOLLEXCLUSIVE`: of the workers that sleep, a new
/// connection wakes one. Level-triggered means that nothing is missed: as long as the queue is not empty,
/// every wait of a worker that was told of it reports it again. So that this cannot make a worker spin, the
/// reactor takes the socket out of epoll when it is reported a second time and nobody has accepted meanwhile,
/// and [`poll_accept`](Self::poll_accept) puts it back before it waits.
///
/// # The hazard of leaving
///
/// A worker that was woken for a connection is the only one that was. If it then stops accepting, by
/// [`pause`](Self::pause) or by dropping this, that connection waits in the queue until the next one wakes
/// somebody. So after `pause`, and before dropping, call [`try_accept`](Self::try_accept) until it returns
/// `None`.
pub struct Acceptor {
    fd: Arc<OwnedFd>,
    source: Rc<Source>,
    reactor: Rc<Reactor>,
    paused: Cell<bool>,
    /// How many attempts are left until epoll is asked again.
    left: Cell<u32>,
}

impl Acceptor {
    pub(super) fn register(reactor: &Rc<Reactor>, fd: Arc<OwnedFd>) -> io::Result<Self> {
        let source = reactor.register_listener(&fd)?;
        let (paused, left) = (Cell::new(false), Cell::new(BATCH));
        Ok(Self { fd, source, reactor: Rc::clone(reactor), paused, left })
    }

    /// Accepts a connection. While [`pause`](Self::pause)d, it waits for [`resume`](Self::resume).
    ///
    /// Connections that ended in the queue, and network errors that `accept(2)` passes on, are passed over.
    ///
    /// # Errors
    ///
    /// A [`Resource`](AcceptErrorKind::Resource) error if the process or the system has no room for another
    /// connection: pause, and try again later. A [`Fatal`](AcceptErrorKind::Fatal) one if the socket cannot
    /// be accepted from. The connection stays in the queue. See [`accept_error_kind`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        loop {
            ready!(self.poll_ready(cx))?;
            if let Some(accepted) = self.attempt()? {
                return Poll::Ready(Ok(accepted));
            }
        }
    }

    /// Resolves once an [`attempt`](Self::attempt) is worth its system call. While [`pause`](Self::pause)d, it waits for
    /// [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports: no memory or watch left.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.reactor.poll_budget(cx));
        if self.paused.get() {
            self.source.register_reader(cx);
            return Poll::Pending;
        }
        if !self.source.readable.get() {
            // Does nothing unless the reactor has taken the socket out of epoll. If the queue is not empty, it is
            // reported at the next turn.
            self.reactor.arm(&self.source)?;
        }
        self.source.poll_readable(cx).map(Ok)
    }

    /// Accepts a connection, if one is there and has not ended meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`poll_accept`](Self::poll_accept).
    pub fn attempt(&self) -> io::Result<Option<Accepted>> {
        let result = self.try_accept();
        let left = self.left.get().saturating_sub(1);
        if left == 0 || matches!(result, Ok(None)) {
            self.source.readable.set(false);
            self.left.set(BATCH);
        } else {
            self.left.set(left);
        }
        match result {
            Ok(accepted) => {
                self.reactor.spend();
                Ok(accepted)
            }
            Err(error) if accept_error_kind(&error) == AcceptErrorKind::Transient => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Accepts a connection, as [`poll_accept`](Self::poll_accept) does.
    ///
    /// # Errors
    ///
    /// As for [`poll_accept`](Self::poll_accept).
    pub async fn accept(&self) -> io::Result<Accepted> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Accepts a connection if one is there, paused or not; `None` if the queue is empty.
    ///
    /// # Errors
    ///
    /// What `accept(2)` reports, [`Transient`](AcceptErrorKind::Transient) errors included: the caller that
    /// sweeps the queue goes on after one.
    pub fn try_accept(&self) -> io::Result<Option<Accepted>> {
        match acceptfrom_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((fd, peer)) => Ok(Some((fd, peer.and_then(|peer| peer.try_into().ok())))),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops being told of connections: the socket leaves this worker's epoll, and others that share it are
    /// woken instead. See [the hazard of leaving](Self#the-hazard-of-leaving).
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports; nothing is known to make it fail.
    pub fn pause(&self) -> io::Result<()> {
        self.paused.set(true);
        self.reactor.disarm(&self.source)
    }

    /// Starts being told of connections again. Those that are in the queue are reported at once.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports, a lack of memory for one; the acceptor stays paused then.
    pub fn resume(&self) -> io::Result<()> {
        self.reactor.arm(&self.source)?;
        self.paused.set(false);
        self.source.wake_reader();
        Ok(())
    }

    /// Makes the accept queue as short as it can be, for everyone who shares the socket. For one that is about to be
    /// closed: a client whose handshake is not completed is refused when it tries again, one in the queue is reset.
    ///
    /// # Errors
    ///
    /// What `listen(2)` reports; nothing is known to make it fail.
    pub fn narrow(&self) -> io::Result<()> {
        Ok(rustix::net::listen(&self.fd, 0)?)
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // The socket lives on in other workers, and would go on waking this one.
        if let Err(error) = self.reactor.disarm(&self.source) {
            tracing::error!(%error, "cannot take a listener out of epoll");
        }
        self.reactor.forget(&self.source);
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor")
            .field("fd", &self.fd.as_raw_fd())
            .field("paused", &self.paused.get())
            .field("armed", &self.source.armed.get())
            .finish()
    }
}

/// What an error of `accept(2)` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptErrorKind {
    /// It was about one connection that is gone: try again.
    Transient,
    /// Descriptors or memory have run out: pause, and try again later.
    Resource,
    /// The socket cannot be accepted from: give it up.
    Fatal,
}

/// What an error of [`Acceptor::poll_accept`] or [`Acceptor::try_accept`] asks for.
pub fn accept_error_kind(error: &io::Error) -> AcceptErrorKind {
    let Some(error) = Errno::from_io_error(error) else { return AcceptErrorKind::Fatal };
    match error {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => AcceptErrorKind::Resource,
        // Ended while it was queued; interrupted; forbidden by a firewall; and what accept(2) says to treat
        // like EAGAIN, for Linux passes on the errors of the network that the new socket has met.
        Errno::CONNABORTED
        | Errno::INTR
        | Errno::AGAIN
        | Errno::PERM
        | Errno::TIMEDOUT
        | Errno::NETDOWN
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::OPNOTSUPP
        | Errno::NETUNREACH => AcceptErrorKind::Transient,
        _ => AcceptErrorKind::Fatal,
    }
}
