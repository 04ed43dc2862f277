//! One worker's way to the servers of a group.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::uri::Scheme;
use smallvec::SmallVec;

use super::balance::RoundRobin;
use super::pool::Pool;
use super::shared::Shared;
use super::{ConnectError, Group, Proto, Server};
use crate::base::Address;
use crate::h2::client::{Client, ConnectionId};
use crate::runtime::{Expired, Handle, Timer, with_deadline};
use crate::tls::{self, Connector};
use crate::wire::Wire;

/// The servers of a group, as one worker sees them: whose turn it is, and the idle connections to each.
#[derive(Debug)]
pub struct Upstreams {
    handle: Handle,
    group: Group,
    turn: RoundRobin,
    /// One for each server, in the group's order.
    pools: Vec<Pool>,
    /// Likewise; none for a server that is spoken to in HTTP/1.1 only.
    shared: Vec<Option<Shared>>,
    /// Wakes the sweeper; set by its first poll.
    sweeper: RefCell<Option<Waker>>,
    /// The sweeper has a deadline; without one it sleeps until it is woken.
    sweeping: Cell<bool>,
    /// It has one within a second, for there are more connections than are to be kept.
    trimming: Cell<bool>,
}

/// A connection to a server, for one request at a time.
#[derive(Debug)]
pub struct Connection {
    /// The byte stream.
    pub stream: Wire,
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

/// The servers that a request has tried without getting a connection, and what it needs of one.
#[derive(Debug, Default)]
pub struct Tried {
    servers: SmallVec<[usize; 2]>,
    websocket: bool,
}

/// A connection for a request, or what makes one.
#[derive(Debug)]
pub enum Acquired<F> {
    /// It was there.
    Ready(Connection),
    /// It is yet to be made.
    Connecting(Pin<Box<F>>),
}

impl<F: Future<Output = Result<Connection, ConnectError>>> Acquired<F> {
    /// Waits until it is made, without a look at anything else.
    #[cfg(test)]
    pub(super) async fn wait(self) -> Result<Connection, ConnectError> {
        match self {
            Self::Ready(connection) => Ok(connection),
            Self::Connecting(connecting) => connecting.await,
        }
    }
}

impl Tried {
    /// For a request that asks for a WebSocket, or that does not.
    pub fn new(websocket: bool) -> Self {
        Self { servers: SmallVec::new(), websocket }
    }
}

/// How many connections to a server may end before they have taken a request, until it is passed over.
const MOST_IN_VAIN: u32 = 3;

/// What is offered to a server that chooses HTTP/2 and does not allow WebSockets over it.
const HTTP_1: &[u8] = b"http/1.1";

impl Upstreams {
    /// `worker` shifts the begin of the round, so that the workers do not all begin with the same server.
    pub fn new(handle: Handle, group: Group, worker: usize) -> Rc<Self> {
        let turn = RoundRobin::new(&group.servers, worker % group.servers.len().max(1));
        let pools = group.servers.iter().map(|_| Pool::default()).collect();
        let shared = group
            .servers
            .iter()
            .map(|server| (server.proto != Proto::H1Only).then(Shared::default))
            .collect();
        let this = Rc::new(Self {
            handle: handle.clone(),
            group,
            turn,
            pools,
            shared,
            sweeper: RefCell::default(),
            sweeping: Cell::new(false),
            trimming: Cell::new(false),
        });
        handle.spawn(sweep(Rc::downgrade(&this), handle.timer())).detach();
        this
    }

    /// A connection to the next server in turn: an idle one where there is one, else a new one; or a stream on a shared one
    /// that has room.
    ///
    /// A server that refuses or does not answer within `connect` is passed over and noted in `tried`. Not later than
    /// `until` in any case. Dropping the future closes a connection that is being made.
    pub fn acquire(
        &self,
        tried: &mut Tried,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Acquired<impl Future<Output = Result<Connection, ConnectError>>> {
        let chosen = self.turn.choose(|_| true);
        if let Some(connection) = chosen.and_then(|server| self.take_idle(server, tried.websocket)) {
            return Acquired::Ready(connection);
        }
        // Rare where connections are kept, and larger than all that a request needs otherwise.
        Acquired::Connecting(Box::pin(async move {
            let chosen = chosen.ok_or(ConnectError::Exhausted)?;
            self.connect_from(chosen, None, tried, connect, until, timer).await
        }))
    }

    /// A new connection in place of `stale`, which turned out to be closed or took no request: to its server, or to the
    /// next in turn where that one refuses. In place of a stream it is one on another connection, if there may be another.
    /// It is to another server right away, if there is one, where it is wanted `elsewhere`.
    pub fn reconnect(
        &self,
        stale: Connection,
        elsewhere: bool,
        tried: &mut Tried,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Pin<Box<impl Future<Output = Result<Connection, ConnectError>>>> {
        let mut server = stale.server;
        if elsewhere {
            let other = |index| index != server && !tried.servers.contains(&index);
            server = self.turn.choose(other).unwrap_or(server);
        }
        let except = match &stale.stream {
            Wire::H2Client(stream) => Some(stream.connection()),
            _ => None,
        };
        drop(stale);
        Box::pin(self.connect_from(server, except, tried, connect, until, timer))
    }

    /// Takes back a connection on which nothing is outstanding.
    pub fn release(&self, connection: Connection) {
        let Connection { stream, server, requests } = connection;
        if let Wire::H2Client(stream) = stream {
            stream.finish();
            return;
        }
        self.keep(server, stream, requests + 1);
    }

    /// Gives an idle connection away, if there is one, for a worker of another instance. Servers on Unix sockets are
    /// left out, because where such a socket leads to cannot be checked, and those that are spoken to over TLS.
    pub fn take_spare(&self) -> Option<Spare> {
        let plain = |server: &Server| {
            server.tls.is_none() && matches!(server.addresses.first(), Some(Address::Tcp(_)))
        };
        let servers = self.group.servers.iter().zip(&self.pools).filter(|(server, _)| plain(server));
        let now = self.handle.now();
        let (stream, requests) =
            servers.into_iter().find_map(|(_, pool)| pool.take(&self.group.pool, now))?;
        Some(Spare { fd: stream.into_fd().ok()?, peer: None, requests })
    }

    /// Takes an idle connection that another instance gave away; closes it if it is to no server of the group that is
    /// spoken to in the same way.
    pub fn add_spare(&self, spare: Spare) {
        let Spare { fd, peer, requests } = spare;
        let Some(address) = peer.map(Address::Tcp) else { return };
        let fits = |server: &Server| {
            server.tls.is_none() && server.proto == Proto::H1Only && server.addresses.contains(&address)
        };
        let server = self.group.servers.iter().position(fits);
        // One that cannot be watched is no loss.
        if let (Some(server), Ok(stream)) = (server, self.handle.stream(fd)) {
            self.keep(server, stream.into(), requests);
        }
    }

    fn keep(&self, server: usize, stream: Wire, requests: u64) {
        if requests >= self.group.pool.max_requests {
            return;
        }
        if let (Some(pool), Some(sweeper)) = (self.pools.get(server), &*self.sweeper.borrow()) {
            pool.put(stream, requests, &self.group.pool, self.handle.now(), sweeper);
            let sweeping = self.sweeping.replace(true);
            let trimming = !pool.has_surplus(&self.group.pool) || self.trimming.replace(true);
            if !sweeping || !trimming {
                sweeper.wake_by_ref();
            }
        }
    }

    /// Closes the idle connections. Shared ones take no more requests, and end with their last stream.
    pub fn close_idle(&self) {
        self.pools.iter().for_each(Pool::clear);
        self.shared.iter().flatten().for_each(Shared::retire);
    }

    /// The server of a connection, as the configuration names it.
    pub fn name(&self, connection: &Connection) -> &str {
        self.server_name(connection.server)
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

    fn take_idle(&self, server: usize, websocket: bool) -> Option<Connection> {
        if let Some(shared) = self.shared.get(server)?
            // Who waits was here first.
            && shared.waiting.is_empty()
            && let Some((stream, requests)) = shared.open(None, websocket && self.may_speak_h1(server))
        {
            return Some(Connection { stream: Wire::H2Client(Box::new(stream)), server, requests });
        }
        let (stream, requests) = self.pools.get(server)?.take(&self.group.pool, self.handle.now())?;
        Some(Connection { stream, server, requests })
    }

    /// A new connection to `first`, or else to the next in turn that has not been tried.
    async fn connect_from(
        &self,
        first: usize,
        except: Option<ConnectionId>,
        tried: &mut Tried,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let mut server = first;
        loop {
            let made = match self.shared.get(server) {
                Some(Some(shared)) => {
                    self.share(server, shared, except, tried.websocket, connect, until, timer).await
                }
                _ => self.connect(server, None, connect, until, timer).await.map(|stream| Connection {
                    stream,
                    server,
                    requests: 0,
                }),
            };
            let error = match made {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            tried.servers.push(server);
            if self.handle.now() >= until {
                return Err(error);
            }
            match self.turn.choose(|index| !tried.servers.contains(&index)) {
                Some(next) => server = next,
                None => return Err(error),
            }
            if let Some(connection) = self.take_idle(server, tried.websocket) {
                return Ok(connection);
            }
        }
    }

    /// A stream on a shared connection; a new one is made if those that there are have no room and another may be. For a
    /// `websocket`, it is a connection in HTTP/1.1 where the server does not allow them otherwise.
    #[expect(clippy::too_many_arguments, reason = "the ways and the means of one connection")]
    async fn share(
        &self,
        server: usize,
        shared: &Shared,
        except: Option<ConnectionId>,
        websocket: bool,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Connection, ConnectError> {
        let settings = &self.group.sharing;
        let deadline = until.min(self.handle.now() + connect);
        let full = || ConnectError::Full { server: self.server_name(server).to_owned() };
        let place = shared.waiting.enter(settings.max_waiting).ok_or_else(full)?;
        let mut except = except;
        let mut in_vain = 0;
        let for_websocket = websocket && self.may_speak_h1(server);
        // Who waits was here first.
        let mut queues = !shared.waiting.is_empty() && !shared.speaks_h1.get();
        if queues {
            // Room may have come without the end of a stream, which nobody was told of.
            shared.tell_of_room(settings.max_connections);
        }
        loop {
            if !queues && let Some((stream, requests)) = shared.open(except, for_websocket) {
                drop(place);
                shared.tell_of_room(settings.max_connections);
                return Ok(Connection { stream: Wire::H2Client(Box::new(stream)), server, requests });
            }
            if !queues && for_websocket && shared.lacks_websockets() {
                // It was told of room that it leaves to others.
                drop(place);
                shared.tell_of_room(settings.max_connections);
                let stream = self.connect(server, Some(HTTP_1), connect, until, timer).await?;
                return Ok(Connection { stream, server, requests: 0 });
            }
            let making = if queues { None } else { shared.make(settings.max_connections) };
            if making.is_some() || shared.speaks_h1.get() {
                let stream = self.connect(server, None, connect, until, timer).await?;
                let speaks_h1 = !self.is_h2(server, &stream)?;
                shared.speaks_h1.set(speaks_h1);
                if speaks_h1 {
                    return Ok(Connection { stream, server, requests: 0 });
                }
                // Where it was taken for a server of HTTP/1.1, others may be connected by now, too.
                let allowed = match making {
                    Some(making) => Some(making),
                    None if shared.has_room() => None,
                    None => shared.make(settings.max_connections),
                };
                let Some(_making) = allowed else { continue };
                let deadline = until.min(self.handle.now() + connect);
                if let Err(error) = self.begin(server, shared, stream, deadline, timer).await {
                    in_vain += 1;
                    // A server that ends its connections often may do so with one that nothing was sent on.
                    if in_vain < MOST_IN_VAIN && error.is_farewell() && self.handle.now() < deadline {
                        continue;
                    }
                    return Err(error);
                }
                continue;
            }
            // There can be no other.
            if !queues && except.take().is_some() {
                continue;
            }
            if !queues && shared.make_room() {
                continue;
            }
            queues = false;
            timer.set(deadline);
            let told = poll_fn(|cx| match place.poll_told(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => timer.poll_expired(cx).map(|()| false),
            });
            if !told.await {
                return Err(if shared.lacks_connection() {
                    ConnectError::TimedOut { server: self.server_name(server).to_owned() }
                } else {
                    full()
                });
            }
        }
    }

    /// Whether a new connection is in HTTP/2: the server has chosen it, or is known to speak it.
    fn is_h2(&self, server: usize, stream: &Wire) -> Result<bool, ConnectError> {
        let Some(Server { name, proto, .. }) = self.group.servers.get(server) else {
            return Err(ConnectError::Exhausted);
        };
        match stream.alpn() {
            Some(b"h2") => Ok(true),
            _ if *proto == Proto::H2OrH1 => Ok(false),
            None if matches!(stream, Wire::Plain(_)) => Ok(true),
            _ => Err(ConnectError::Protocol { server: name.clone() }),
        }
    }

    /// Whether a server may be spoken to in HTTP/1.1 as well as in HTTP/2.
    fn may_speak_h1(&self, server: usize) -> bool {
        self.group.servers.get(server).is_some_and(|server| server.proto == Proto::H2OrH1)
    }

    /// Begins a shared connection on a stream that is connected, and waits for the server's settings: before, it is not
    /// known what the server takes, nor that it speaks HTTP/2 at all.
    async fn begin(
        &self,
        server: usize,
        shared: &Shared,
        stream: Wire,
        deadline: Instant,
        timer: &Timer,
    ) -> Result<(), ConnectError> {
        let waiting = Rc::clone(&shared.waiting);
        let room = Box::new(move || waiting.tell());
        let settings = &self.group.sharing.connection;
        let secure = matches!(stream, Wire::Tls(_));
        let scheme = if secure { Scheme::HTTPS } else { Scheme::HTTP };
        let name = || self.server_name(server).to_owned();
        let begun = async {
            let (client, driver) = Client::connect(stream, scheme, settings, &self.handle, room)
                .await
                .map_err(|source| ConnectError::Refused { server: name(), source })?;
            let driver = self.handle.spawn(driver);
            match client.settled().await {
                Ok(()) => Ok((client, driver)),
                Err(source) => Err(ConnectError::Unsettled { server: name(), secure, source }),
            }
        };
        match with_deadline(timer, deadline, begun).await {
            Ok(Ok((client, driver))) if !client.is_open() => {
                drop(driver);
                Err(ConnectError::Unsettled { server: name(), secure, source: client.unsettled() })
            }
            Ok(Ok((client, driver))) => {
                shared.add(client, driver);
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(Expired) => Err(ConnectError::TimedOut { server: name() }),
        }
    }

    fn server_name(&self, server: usize) -> &str {
        self.group.servers.get(server).map_or("", |server| &server.name)
    }

    /// A connection to a server, over TLS where it is spoken to so; then `alpn` alone is offered if it is given.
    async fn connect(
        &self,
        index: usize,
        alpn: Option<&[u8]>,
        connect: Duration,
        until: Instant,
        timer: &Timer,
    ) -> Result<Wire, ConnectError> {
        let Some(Server { name, addresses, tls, .. }) = self.group.servers.get(index) else {
            return Err(ConnectError::Exhausted);
        };
        let mut last = ConnectError::Exhausted;
        for address in addresses {
            let deadline = until.min(self.handle.now() + connect);
            timer.set(deadline);
            let mut attempt = std::pin::pin!(open(&self.handle, address, name, tls.as_ref(), alpn));
            let outcome = poll_fn(|cx| match attempt.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => timer.poll_expired(cx).map(|()| None),
            })
            .await;
            last = match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => error,
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
        let next = self.pools.iter().filter_map(|pool| pool.sweep(&self.group.pool, now, cx.waker())).min();
        self.trimming.set(self.pools.iter().any(|pool| pool.has_surplus(&self.group.pool)));
        next
    }
}

impl Connection {
    /// It has carried a request before, so the server may have closed it while it was idle.
    pub fn is_reused(&self) -> bool {
        self.requests > 0
    }
}

/// A connection to one address of a server, ready for a request.
async fn open(
    handle: &Handle,
    address: &Address,
    server: &str,
    tls: Option<&Connector>,
    alpn: Option<&[u8]>,
) -> Result<Wire, ConnectError> {
    let connected = handle.connect(address).await;
    let stream = connected.map_err(|source| ConnectError::Refused { server: server.to_owned(), source })?;
    let Some(connector) = tls else { return Ok(stream.into()) };
    // Boxed, because few requests wait for one, and all would have to hold it.
    match Box::pin(tls::connect(stream, connector, alpn, handle.buffers())).await {
        Ok(stream) => Ok(stream.into()),
        Err(source) => Err(ConnectError::Handshake { server: server.to_owned(), source }),
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
