//! One worker's way to the servers of a group.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::balance::RoundRobin;
use super::pool::Pool;
use super::{ConnectError, Group, Server};
use crate::base::Address;
use crate::runtime::{Handle, Stream, Timer};

/// The servers of a group, as one worker sees them: whose turn it is, and the idle connections to each.
#[derive(Debug)]
pub struct Upstreams {
    handle: Handle,
    group: Group,
    turn: RoundRobin,
    /// One for each server, in the group's order.
    pools: Vec<Pool>,
    /// Wakes the sweeper; set by its first poll.
    sweeper: RefCell<Option<Waker>>,
    /// The sweeper has a deadline; without one it sleeps until it is woken.
    sweeping: Cell<bool>,
}

/// A connection to a server, for one request at a time.
#[derive(Debug)]
pub struct Connection {
    /// The byte stream.
    pub stream: Stream,
    server: usize,
    requests: u64,
}

/// An idle connection to a server on its way between workers, in no epoll instance.
#[derive(Debug)]
pub struct Spare {
    /// The socket, nonblocking.
    pub fd: OwnedFd,
    /// Who it is connected to, where that is known.
    pub peer: Option<SocketAddr>,
    /// How many requests it has carried.
    pub requests: u64,
}

/// The servers that a request has tried without getting a connection.
#[derive(Debug, Default)]
pub struct Tried(SmallVec<[usize; 4]>);

impl Upstreams {
    /// `worker` shifts the begin of the round, so that the workers do not all begin with the same server.
    pub fn new(handle: Handle, group: Group, worker: usize) -> Rc<Self> {
        let turn = RoundRobin::new(&group.servers, worker % group.servers.len().max(1));
        let pools = group.servers.iter().map(|_| Pool::default()).collect();
        let this = Rc::new(Self {
            handle: handle.clone(),
            group,
            turn,
            pools,
            sweeper: RefCell::default(),
            sweeping: Cell::new(false),
        });
        handle.spawn(sweep(Rc::downgrade(&this), handle.timer())).detach();
        this
    }

    /// A connection to the next server in turn: an idle one where there is one, else a new one.
    ///
    /// A server that refuses or does not answer within `connect` is passed over and noted in `tried`. Not later than
    /// `until` in any case. Dropping the future closes a connection that is being made.
    pub async fn acquire(
        &self,
        tried: &mut Tried,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let chosen = self.turn.choose(|_| true).ok_or(ConnectError::Exhausted)?;
        match self.take_idle(chosen) {
            Some(connection) => Ok(connection),
            None => self.connect_from(chosen, tried, connect, until, timer).await,
        }
    }

    /// A new connection in place of `stale`, which turned out to be closed: to its server, or to the next in turn
    /// where that one refuses.
    pub async fn reconnect(
        &self,
        stale: Connection,
        tried: &mut Tried,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let server = stale.server;
        drop(stale);
        self.connect_from(server, tried, connect, until, timer).await
    }

    /// Takes back a connection on which nothing is outstanding.
    pub fn release(&self, connection: Connection) {
        let Connection { stream, server, requests } = connection;
        self.keep(server, stream, requests + 1);
    }

    /// Gives an idle connection away, if there is one, for a worker of another instance. Servers on Unix sockets are
    /// left out: where such a socket leads to cannot be checked.
    pub fn take_spare(&self) -> Option<Spare> {
        let tcp = |server: &Server| matches!(server.addresses.first(), Some(Address::Tcp(_)));
        let servers = self.group.servers.iter().zip(&self.pools).filter(|(server, _)| tcp(server));
        let now = self.handle.now();
        let (stream, requests) =
            servers.into_iter().find_map(|(_, pool)| pool.take(&self.group.pool, now))?;
        Some(Spare { fd: stream.into_fd().ok()?, peer: None, requests })
    }

    /// Takes an idle connection that another instance gave away; closes it if it is to no server of the group.
    pub fn add_spare(&self, spare: Spare) {
        let Spare { fd, peer, requests } = spare;
        let Some(address) = peer.map(Address::Tcp) else { return };
        let server = self.group.servers.iter().position(|server| server.addresses.contains(&address));
        // One that cannot be watched is no loss.
        if let (Some(server), Ok(stream)) = (server, self.handle.stream(fd)) {
            self.keep(server, stream, requests);
        }
    }

    fn keep(&self, server: usize, stream: Stream, requests: u64) {
        if requests >= self.group.pool.max_requests {
            return;
        }
        if let (Some(pool), Some(sweeper)) = (self.pools.get(server), &*self.sweeper.borrow()) {
            pool.put(stream, requests, &self.group.pool, self.handle.now(), sweeper);
            if !self.sweeping.replace(true) {
                sweeper.wake_by_ref();
            }
        }
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        self.pools.iter().for_each(Pool::clear);
    }

    /// The server of a connection, as the configuration names it.
    pub fn name(&self, connection: &Connection) -> &str {
        self.group.servers.get(connection.server).map_or("", |server| &server.name)
    }

    /// What a request that names no host is said to be for: the first server, as the configuration names it. A Unix
    /// socket's path is no host.
    pub fn default_host(&self) -> &str {
        match self.group.servers.first() {
            Some(Server { name, addresses, .. }) if !matches!(addresses.first(), Some(Address::Unix(_))) => {
                name
            }
            _ => "localhost",
        }
    }

    fn take_idle(&self, server: usize) -> Option<Connection> {
        let (stream, requests) = self.pools.get(server)?.take(&self.group.pool, self.handle.now())?;
        Some(Connection { stream, server, requests })
    }

    /// A new connection to `first`, or else to the next in turn that has not been tried.
    async fn connect_from(
        &self,
        first: usize,
        tried: &mut Tried,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let mut server = first;
        loop {
            let error = match self.connect(server, connect, until, timer).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            tried.0.push(server);
            if self.handle.now() >= until {
                return Err(error);
            }
            match self.turn.choose(|index| !tried.0.contains(&index)) {
                Some(next) => server = next,
                None => return Err(error),
            }
            if let Some(connection) = self.take_idle(server) {
                return Ok(connection);
            }
        }
    }

    async fn connect(
        &self,
        index: usize,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let Some(Server { name, addresses, .. }) = self.group.servers.get(index) else {
            return Err(ConnectError::Exhausted);
        };
        let mut last = ConnectError::Exhausted;
        for address in addresses {
            let deadline = until.min(self.handle.now() + connect);
            timer.set(deadline);
            let mut attempt = std::pin::pin!(self.handle.connect(address));
            let outcome = poll_fn(|cx| match attempt.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => timer.poll_expired(cx).map(|()| None),
            })
            .await;
            last = match outcome {
                Some(Ok(stream)) => return Ok(Connection { stream, server: index, requests: 0 }),
                Some(Err(source)) => ConnectError::Refused { server: name.clone(), source },
                None => ConnectError::TimedOut { server: name.clone() },
            };
        }
        Err(last)
    }

    fn sweep_pools(&self, cx: &Context<'_>) -> Option<Instant> {
        let mut sweeper = self.sweeper.borrow_mut();
        if sweeper.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *sweeper = Some(cx.waker().clone());
        }
        let now = self.handle.now();
        self.pools.iter().filter_map(|pool| pool.sweep(&self.group.pool, now, cx.waker())).min()
    }
}

impl Connection {
    /// It has carried a request before, so the server may have closed it while it was idle.
    pub fn is_reused(&self) -> bool {
        self.requests > 0
    }
}

/// Closes idle connections as they expire or as their servers close them; ends with the `Upstreams` it sweeps.
async fn sweep(upstreams: Weak<Upstreams>, timer: Timer) {
    poll_fn(|cx| {
        loop {
            let Some(upstreams) = upstreams.upgrade() else { return Poll::Ready(()) };
            let next = upstreams.sweep_pools(cx);
            upstreams.sweeping.set(next.is_some());
            match next {
                Some(at) => timer.set(at),
                None => timer.clear(),
            }
            // A deadline that has already passed means that a pool has more to close.
            if timer.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
