//! A client's connection in HTTP/2: each of its streams is served like a connection that carries one request.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;

use super::connection::one_stream;
use super::downstream::Downstream;
use super::failure::Blame;
use super::rewrite::Forwarded;
use super::runners::Runner;
use super::{Keeper, ServiceContext};
use crate::h2::{self, Drained, Excess, Io, Opened, Reason, Server, ServerStream};
use crate::runtime::{Buffer, SMALL_BUFFER, Timer};
use crate::wire::Wire;

/// How long the exchanges of a connection that is gone have to notice it. They are cancelled then.
const NOTICE: Duration = Duration::from_secs(1);

/// How long a client may take to close its side after River has closed its own, so that what it still sends does not
/// take River's last frames with it.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection whose client has sent the preface of HTTP/2, until it ends.
///
/// Dropping the future cancels the exchanges of its streams.
pub(super) fn serve(
    context: &Rc<ServiceContext>,
    downstream: Downstream,
    keeper: &dyn Keeper,
) -> impl Future<Output = ()> {
    // Taken apart here, for an `async fn` would have room for both the connection and its parts.
    let Downstream { stream, mut unread, timer, peer, forwarded, .. } = downstream;
    let io = Io::new(stream, Bytes::copy_from_slice(unread.unread()));
    unread.shed();
    let session = Rc::new(Session {
        context: Rc::clone(context),
        peer,
        forwarded,
        tasks: RefCell::default(),
        tunnels: Cell::new(0),
        driver: RefCell::default(),
    });
    async move {
        let cancel = Cancel(&session);
        let outcome = drive(&session, &io, &timer, keeper).await;
        // Of a connection that fails its exchanges tell, if there are any.
        if let Err(end) = &outcome
            && !matches!(end, End::Failed(h2::Error::Io(_)))
        {
            log(&session, end);
        }
        session.drained(&timer).await;
        drop(cancel);
        if matches!(outcome, Ok(()) | Err(End::Excess(_) | End::Failed(h2::Error::Protocol(_)))) {
            unread.supply();
            linger(&io, &mut unread, context, &timer).await;
        }
    }
}

/// Why a connection did not end in order.
enum End {
    /// The client did not begin in time.
    NoPreface,
    /// The client took nothing within the send time-out.
    Stalled,
    /// It was told so, and of its streams none is left.
    Excess(Excess),
    Failed(h2::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPreface => f.write_str("the client did not begin within the head time-out"),
            Self::Stalled => f.write_str("the client took nothing within the send time-out"),
            Self::Excess(Excess::Resets) => {
                f.write_str("the client reset, or made River reset, more streams than h2.max_resets")
            }
            Self::Excess(Excess::Control) => {
                f.write_str("the client sent more frames without use than h2.max_control_frames")
            }
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// What the streams of one connection share.
struct Session {
    context: Rc<ServiceContext>,
    peer: Option<SocketAddr>,
    /// What is said of the client to servers.
    forwarded: Rc<Forwarded>,
    /// One for each stream that is open.
    tasks: RefCell<Slab<Option<Rc<Runner>>>>,
    /// How many of them are tunnels.
    tunnels: Cell<usize>,
    /// Wakes the connection's driver.
    driver: RefCell<Option<Waker>>,
}

impl Session {
    /// Serves a stream by a task that has no other.
    fn open(self: &Rc<Self>, (request, respond): Opened, drained: Rc<Drained>) {
        let context = &*self.context;
        let mut head = context.stream_head.take();
        head.clear();
        let stream = ServerStream::behind(&mut head, request, respond, drained);
        let mut unread = context.handle.buffers().take();
        fill(&mut unread, &head, context.head_limits.max_bytes);
        if head.capacity() <= SMALL_BUFFER {
            context.stream_head.replace(head);
        }
        let stream = match stream {
            Ok(stream) => Box::new(stream),
            Err(malformed) => {
                let (service, client, why) =
                    (&*self.context.service.name, self.client(), malformed.to_string());
                tracing::info!(
                    target: "river::proxy", service, client, blame = %Blame::Downstream, why, "request refused"
                );
                return;
            }
        };
        let key = self.tasks.borrow_mut().insert(None);
        let place = Open { session: Rc::clone(self), key, is_tunnel: Cell::new(false) };
        context.runners.run(&context.handle, Job { place, stream, unread }, |runner| {
            if let Some(entry) = self.tasks.borrow_mut().get_mut(key) {
                *entry = Some(runner);
            }
        });
    }

    fn is_idle(&self) -> bool {
        self.tasks.borrow().is_empty()
    }

    /// Some streams are open, and all of them are tunnels.
    fn has_only_tunnels(&self) -> bool {
        let tunnels = self.tunnels.get();
        tunnels > 0 && tunnels == self.tasks.borrow().len()
    }

    fn wake(&self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn watch(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    /// Waits until the exchanges have ended, which they do once their streams are gone.
    async fn drained(&self, timer: &Timer) {
        timer.set(self.context.handle.now() + NOTICE);
        poll_fn(|cx| {
            if self.is_idle() {
                return Poll::Ready(());
            }
            self.watch(cx);
            timer.poll_expired(cx)
        })
        .await;
    }

    fn client(&self) -> String {
        self.peer.map_or_else(|| "unix".to_owned(), |peer| peer.ip().to_string())
    }
}

/// Puts a request's head where it is read from: all of it, or as much as shows that it is too large.
fn fill(unread: &mut Buffer, mut head: &[u8], max_bytes: usize) {
    loop {
        let count = unread.append(head);
        head = head.get(count..).unwrap_or_default();
        // One byte above the limit lets the parser see that the limit is passed.
        if head.is_empty() || !unread.grow(max_bytes + 1) {
            return;
        }
    }
}

/// Cancels the exchanges of a connection when it is dropped.
struct Cancel<'a>(&'a Session);

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let tasks = self.0.tasks.take();
        tasks.iter().filter_map(|(_, runner)| runner.as_ref()).for_each(|runner| runner.cancel());
    }
}

/// A stream that is to be served.
pub(super) struct Job {
    place: Open,
    stream: Box<ServerStream>,
    /// The head of its request.
    unread: Buffer,
}

impl Job {
    pub(super) fn context(&self) -> Rc<ServiceContext> {
        Rc::clone(&self.place.session.context)
    }

    pub(super) async fn serve(self) {
        let Self { place, stream, unread } = self;
        let session = &place.session;
        let forwarded = Rc::clone(&session.forwarded);
        one_stream(&session.context, stream, unread, session.peer, forwarded, || place.tunnels()).await;
    }
}

/// The place of an open stream among those of its connection.
struct Open {
    session: Rc<Session>,
    key: usize,
    is_tunnel: Cell<bool>,
}

impl Open {
    fn tunnels(&self) {
        self.is_tunnel.set(true);
        self.session.tunnels.set(self.session.tunnels.get() + 1);
        self.session.wake();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.is_tunnel.get() {
            self.session.tunnels.set(self.session.tunnels.get().saturating_sub(1));
        }
        let _ = self.session.tasks.borrow_mut().try_remove(self.key);
        self.session.wake();
    }
}

/// Drives the connection to its end.
async fn drive(session: &Rc<Session>, io: &Io<Wire>, timer: &Timer, keeper: &dyn Keeper) -> Result<(), End> {
    let context = &*session.context;
    let timeouts = &context.service.timeouts;
    timer.set(context.handle.now() + timeouts.head);
    let mut accepting = Box::pin(Server::accept(io.clone(), &context.service.h2));
    let mut server = poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.map_err(End::Failed)),
        Poll::Pending => timer.poll_expired(cx).map(|()| Err(End::NoPreface)),
    })
    .await?;
    drop(accepting);
    let mut clock = Clock { timer, seen: None, attempted: false };
    let (mut opened, mut leaving, mut told) = (false, false, None);
    poll_fn(|cx| {
        loop {
            match server.poll_accept(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    opened = true;
                    session.open(stream, io.drained());
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(End::Failed(error))),
                Poll::Ready(None) => {
                    return Poll::Ready(told.map_or(Ok(()), |excess| Err(End::Excess(excess))));
                }
                Poll::Pending => {}
            }
            if let Some(excess) = io.excess(context.handle.now())
                && told.is_none()
            {
                told = Some(excess);
                server.abort(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            if !leaving && !context.leaving.is_over() {
                leaving = true;
                server.shut_down();
                continue;
            }
            if leaving && session.has_only_tunnels() {
                keeper.tunnels();
            }
            session.watch(cx);
            let waits = if io.is_blocked() {
                WaitsFor::Room { writes: io.writes(), passed: io.with_stream(Wire::passed) }
            } else if !session.is_idle() {
                WaitsFor::Streams
            } else if leaving {
                WaitsFor::TheEnd
            } else {
                WaitsFor::Requests { first: !opened }
            };
            if clock.poll(cx, waits, context).is_pending() {
                return Poll::Pending;
            }
            match waits {
                WaitsFor::Room { .. } if !clock.attempted => {
                    clock.attempted = true;
                    io.with_stream(Wire::attempt_write);
                }
                WaitsFor::Room { .. } => return Poll::Ready(Err(End::Stalled)),
                WaitsFor::Requests { .. } => {
                    leaving = true;
                    server.shut_down();
                }
                WaitsFor::Streams | WaitsFor::TheEnd => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

/// What a connection waits for that has nothing to do at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// The client is to take what is sent; counted is what it took: writes that were over, and bytes of those that are not.
    Room { writes: u64, passed: u64 },
    /// Streams have their own clocks.
    Streams,
    /// The client is to open a stream, maybe the first.
    Requests { first: bool },
    /// The client is to acknowledge that the connection ends.
    TheEnd,
}

/// The connection's clock: tells when it has waited for one thing too long.
struct Clock<'a> {
    timer: &'a Timer,
    seen: Option<WaitsFor>,
    /// A write was attempted since the last progress.
    attempted: bool,
}

impl Clock<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, waits: WaitsFor, context: &ServiceContext) -> Poll<()> {
        let timeouts = &context.service.timeouts;
        if self.seen != Some(waits) {
            self.seen = Some(waits);
            self.attempted = false;
            let patience = match waits {
                WaitsFor::Room { .. } => timeouts.send,
                WaitsFor::Requests { first: false } => timeouts.idle,
                WaitsFor::Requests { first: true } | WaitsFor::TheEnd => timeouts.head,
                WaitsFor::Streams => {
                    self.timer.clear();
                    return Poll::Pending;
                }
            };
            self.timer.set(context.handle.now() + patience);
        }
        if waits == WaitsFor::Streams {
            return Poll::Pending;
        }
        self.timer.poll_expired(cx)
    }
}

/// Reads what the client still sends, and throws it away, until it closes too.
async fn linger(io: &Io<Wire>, unread: &mut Buffer, context: &ServiceContext, timer: &Timer) {
    timer.set(context.handle.now() + LINGER);
    poll_fn(|cx| {
        loop {
            let read = io.with_stream(|stream| stream.poll_read(cx, unread.space_mut()));
            match read {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return timer.poll_expired(cx),
            }
        }
    })
    .await;
}

fn log(session: &Session, end: &End) {
    let (service, client, why) = (&*session.context.service.name, session.client(), end.to_string());
    tracing::info!(
        target: "river::proxy", service, client, blame = %Blame::Downstream, why, "connection of http/2 failed"
    );
}
