//! A connection to a server that many requests share.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::uri::Scheme;

use super::driver;
use super::ending::{Cause, Own};
use super::settings::ClientSettings;
use super::stream::ClientStream;
use super::watched::{First, Followed, GoAway, Seen, Watched};
use crate::h2::Io;
use crate::http::RequestHead;
use crate::runtime::{Handle, Timer};

/// A connection to a server in HTTP/2, on which streams are opened while it has room.
///
/// What drives it is the future that [`connect`](Self::connect) returns beside it. Dropped, it opens no more streams, and
/// the connection ends with the last of those that are open.
pub struct Client {
    shared: Rc<Shared>,
}

/// Tells one connection from all others that there are and were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(u64);

/// What a connection, its streams and its driver know together.
pub(super) struct Shared {
    pub(super) id: ConnectionId,
    /// `None` once no more streams are to be opened.
    opener: RefCell<Option<SendRequest<Bytes>>>,
    pub(super) settings: ClientSettings,
    pub(super) handle: Handle,
    /// How many streams are open, or about to be.
    active: Cell<usize>,
    /// How many have been opened in all.
    opened: Cell<u64>,
    ended: Cell<bool>,
    /// It ended by a failure, of the server's or of what lies between.
    failed: Cell<bool>,
    /// Why this side has ended it, if it has.
    own: Cell<Option<Own>>,
    /// What the server has said.
    seen: Rc<Seen>,
    /// The server's settings are known.
    settled: Cell<bool>,
    /// Wait for that.
    unsettled: RefCell<Vec<Waker>>,
    /// When it has been idle for too long; without a deadline while it has streams.
    pub(super) idle: Timer,
    /// Called when there may be room for a stream that there was not before.
    room: Box<dyn Fn()>,
    /// Streams whose response is complete and which have not ended, oldest first, each with when it is reset; they count
    /// as open.
    ending: RefCell<VecDeque<(Instant, RecvStream)>>,
    /// When the oldest of them is.
    ending_until: Timer,
    /// The driver, to be woken for `ending` and `idle`.
    pub(super) driver: RefCell<Option<Waker>>,
    pub(super) scheme: Scheme,
    /// For one head at a time.
    pub(super) scratch: RefCell<RequestHead>,
}

/// The largest number of a stream. In a GOAWAY it says that the last one will be said later (RFC 9113 §6.8).
const LAST_STREAM: u32 = (1 << 31) - 1;

/// How much of one stream may wait to be sent, in bytes, beside what the proxy holds.
const SEND_BUFFER: usize = 64 << 10;

/// How many streams that this side has reset are remembered, so that what was on its way then is no fault.
const RESETS_REMEMBERED: usize = 1000;

/// How many streams may be complete without having ended. The oldest is reset when there are more.
const MOST_ENDING: usize = 16;

/// How long a stream may be complete without having ended. What is missing is one frame, which mostly is on its way.
const ENDING_TIMEOUT: Duration = Duration::from_secs(1);

impl Client {
    /// Begins a connection on a byte stream that the server expects HTTP/2 on, by prior knowledge or by ALPN.
    ///
    /// The future drives the connection and has to be polled as a task; it resolves when the connection has ended.
    /// Requests may be sent before the server has said anything (RFC 9113 §3.4), but [`settled`](Self::settled) tells
    /// more of it. `room` is called whenever the
    /// connection may have room for a stream that it did not have before, or has ended.
    ///
    /// # Errors
    ///
    /// What writing to the stream fails with.
    pub async fn connect<S>(
        stream: S,
        scheme: Scheme,
        settings: &ClientSettings,
        handle: &Handle,
        room: Box<dyn Fn()>,
    ) -> io::Result<(Self, impl Future<Output = ()> + use<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let seen = Rc::<Seen>::default();
        let io = Io::new(Watched::new(stream, Rc::clone(&seen)), Bytes::new());
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(settings.window)
            .initial_connection_window_size(settings.connection_window())
            .max_header_list_size(settings.max_head)
            .initial_max_send_streams(settings.max_streams)
            .max_concurrent_reset_streams(RESETS_REMEMBERED)
            .max_send_buffer_size(SEND_BUFFER);
        let (opener, connection) = builder.handshake::<_, Bytes>(io.clone()).await.map_err(|error| {
            let kind = error.get_io().map_or(io::ErrorKind::ConnectionReset, io::Error::kind);
            io::Error::new(kind, error)
        })?;
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let shared = Rc::new(Shared {
            id: ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed)),
            opener: RefCell::new(Some(opener)),
            settings: settings.clone(),
            handle: handle.clone(),
            active: Cell::new(0),
            opened: Cell::new(0),
            ended: Cell::new(false),
            failed: Cell::new(false),
            own: Cell::new(None),
            seen,
            settled: Cell::new(false),
            unsettled: RefCell::default(),
            idle: handle.timer(),
            room,
            ending: RefCell::default(),
            ending_until: handle.timer(),
            driver: RefCell::default(),
            scheme,
            scratch: RefCell::default(),
        });
        shared.idle.set(handle.deadline(settings.idle_timeout));
        let driver = driver::drive(connection, io, Rc::clone(&shared));
        Ok((Self { shared }, driver))
    }

    /// Waits until the server's settings are known: how many streams it allows at a time, and what else it offers. Nothing
    /// that is not HTTP/2 gets as far as that.
    ///
    /// # Errors
    ///
    /// The connection has ended before.
    pub async fn settled(&self) -> Result<(), Unsettled> {
        poll_fn(|cx| self.shared.poll_settled(cx)).await;
        if self.shared.settled.get() { Ok(()) } else { Err(self.unsettled()) }
    }

    /// What there is to be said of a connection that has ended before a stream was opened.
    pub fn unsettled(&self) -> Unsettled {
        let seen = &self.shared.seen;
        Unsettled(seen.first(), seen.go_away())
    }

    /// Whether the server lets WebSockets be made over HTTP/2 (RFC 8441 §3), as far as is known.
    pub fn allows_websockets(&self) -> bool {
        let opener = self.shared.opener.borrow();
        opener.as_ref().is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }

    /// How many of the streams the server has looked at or will, where it ends the connection in order (GOAWAY with
    /// NO_ERROR) and has said which is the last.
    pub fn carries(&self) -> Option<u64> {
        let word = self.shared.seen.go_away()?;
        let ours = word.last % 2 == 1 && word.last < LAST_STREAM;
        (ours && word.reason == Reason::NO_ERROR).then(|| u64::from(word.last).div_ceil(2))
    }

    /// Whether the connection has ended although neither side has said so.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.get()
    }

    /// A stream for one request, if the connection has room for it.
    pub fn open(&self) -> Option<ClientStream> {
        let shared = &self.shared;
        if !self.has_room() {
            return None;
        }
        let mut slot = shared.opener.borrow_mut();
        let opener = slot.as_ref()?.clone();
        shared.active.set(shared.active.get() + 1);
        shared.opened.set(shared.opened.get() + 1);
        shared.idle.clear();
        if shared.opened.get() >= shared.settings.most_streams() {
            *slot = None;
        }
        Some(ClientStream::new(Rc::clone(shared), opener))
    }

    /// Whether another stream may be opened now.
    pub fn has_room(&self) -> bool {
        let shared = &self.shared;
        if !self.is_open() {
            return false;
        }
        let opener = shared.opener.borrow();
        // Before the server has said how many it allows, it is taken to allow what is wanted.
        let most = opener.as_ref().map_or(0, SendRequest::current_max_send_streams);
        shared.active.get() < shared.settings.max_streams.min(most)
    }

    /// Resets a stream whose response is complete and which has not ended, if there is one: it takes up room that is
    /// wanted.
    pub fn make_room(&self) -> bool {
        self.shared.reset_oldest()
    }

    /// Whether more streams may be opened, now or later.
    pub fn is_open(&self) -> bool {
        self.shared.is_open()
    }

    /// Whether the connection has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.get()
    }

    /// Tells it from other connections.
    pub fn id(&self) -> ConnectionId {
        self.shared.id
    }

    /// How many streams have been opened.
    pub fn opened(&self) -> u64 {
        self.shared.opened.get()
    }

    /// Opens no more streams. The connection ends with the last of those that are open, at once where there is none.
    pub fn retire(&self) {
        self.shared.retire();
    }
}

impl Shared {
    /// Whether more streams may be opened, now or later.
    fn is_open(&self) -> bool {
        let mut slot = self.opener.borrow_mut();
        let Some(opener) = &mut *slot else { return false };
        // The server has said GOAWAY, or the connection has failed.
        let ended = self.seen.is_told_off()
            || matches!(opener.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)));
        if ended {
            *slot = None;
        }
        !ended
    }

    /// Why a stream has ended, which has the number if it was opened.
    pub(super) fn cause(&self, error: h2::Error, stream: Option<u32>) -> Cause {
        Cause::of(error, stream, self.seen.go_away(), self.own.get())
    }

    /// Counts the heads that come on a stream.
    pub(super) fn follow(&self, stream: u32) -> Followed {
        self.seen.follow(stream)
    }

    /// Whether the server sends more heads than are taken.
    pub(super) fn is_flooded(&self) -> bool {
        self.seen.is_flooded()
    }

    /// The connection ends because of the server.
    pub(super) fn end_for(&self, own: Own) {
        self.own.set(Some(own));
        self.failed.set(true);
    }

    /// The connection has failed.
    pub(super) fn fail(&self) {
        self.failed.set(true);
        self.retire();
    }

    /// Opens no more streams.
    pub(super) fn retire(&self) {
        let opener = self.opener.borrow_mut().take();
        // The connection looks at whether anybody is left to use it.
        drop(opener);
        self.wake_driver();
    }

    /// A stream is gone.
    pub(super) fn closed_one(&self) {
        let active = self.active.get().saturating_sub(1);
        self.active.set(active);
        if active == 0 {
            self.idle.set(self.handle.deadline(self.settings.idle_timeout));
            self.wake_driver();
        }
        (self.room)();
    }

    /// Sees a stream to its end whose response is complete. Until then it counts as open.
    pub(super) fn let_end(&self, stream: RecvStream) {
        let mut ending = self.ending.borrow_mut();
        self.active.set(self.active.get() + 1);
        ending.push_back((self.handle.deadline(ENDING_TIMEOUT), stream));
        let too_many = ending.len() > MOST_ENDING;
        drop(ending);
        if too_many {
            self.reset_oldest();
        }
        self.wake_driver();
    }

    /// Resets the oldest of the streams that have not ended.
    fn reset_oldest(&self) -> bool {
        let oldest = self.ending.borrow_mut().pop_front();
        let was_there = oldest.is_some();
        // Not reset before it is dropped, and it takes up room until then.
        drop(oldest);
        if was_there {
            self.closed_one();
        }
        was_there
    }

    /// Lets go of the streams that have ended, of those that go on against what their head said, and of those that have
    /// not ended in time.
    pub(super) fn poll_ending(&self, cx: &mut Context<'_>) {
        let mut ending = self.ending.take();
        let before = ending.len();
        ending.retain_mut(|(_, stream)| {
            loop {
                match stream.poll_data(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                    Poll::Ready(_) => return false,
                }
            }
        });
        while let Some(&(until, _)) = ending.front() {
            self.ending_until.set(until);
            if self.ending_until.poll_expired(cx).is_pending() {
                break;
            }
            drop(ending.pop_front());
        }
        let ended = before - ending.len();
        self.ending.replace(ending);
        (0..ended).for_each(|_| self.closed_one());
    }

    pub(super) fn has_ending(&self) -> bool {
        !self.ending.borrow().is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.active.get() == 0
    }

    /// Looks whether the server's settings are known.
    pub(super) fn settle(&self) {
        if self.seen.has_settings() && !self.settled.replace(true) {
            self.unsettled.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until the server's settings are known, or are not to be had any more.
    pub(super) fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.settled.get() || self.ended.get() {
            return Poll::Ready(());
        }
        let mut unsettled = self.unsettled.borrow_mut();
        if !unsettled.iter().any(|waker| waker.will_wake(cx.waker())) {
            unsettled.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The connection is gone.
    pub(super) fn end(&self) {
        drop(self.opener.borrow_mut().take());
        let ending = self.ending.take();
        self.active.set(self.active.get().saturating_sub(ending.len()));
        drop(ending);
        self.ended.set(true);
        self.unsettled.take().into_iter().for_each(Waker::wake);
        (self.room)();
    }

    fn wake_driver(&self) {
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
}

/// A connection that ended before a stream was opened: what the server began with, and its GOAWAY.
#[derive(Debug)]
pub struct Unsettled(Option<First>, Option<GoAway>);

impl Unsettled {
    /// What the server began with, if it said enough to tell.
    pub fn first(&self) -> Option<First> {
        self.0
    }
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, &self.1) {
            (_, Some(word)) => write!(f, "it said {word} at once"),
            (None, None) => f.write_str("it closed the connection without a word"),
            (Some(First::Http1), None) => f.write_str("it answered in HTTP/1.1"),
            (Some(First::Tls), None) => f.write_str("it answered in TLS"),
            (Some(First::Settings), None) => f.write_str("it closed the connection behind its SETTINGS"),
            (Some(First::Other), None) => f.write_str("it answered in another protocol"),
        }
    }
}

impl std::error::Error for Unsettled {}

impl Drop for Client {
    fn drop(&mut self) {
        self.retire();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("active", &self.shared.active.get())
            .field("opened", &self.opened())
            .field("open", &self.is_open())
            .field("ended", &self.has_ended())
            .finish()
    }
}
