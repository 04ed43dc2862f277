//! What a worker knows about one registered descriptor.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;

/// What ends or half-ends a stream: after one of these, a short read no longer means that nothing is left,
/// because the end itself, or the error, is still to be read.
const CLOSED: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

/// What lets both directions fail at once.
const FAILED: EventFlags = EventFlags::HUP.union(EventFlags::ERR);

/// The readiness of one descriptor, and who waits for it.
///
/// A flag that is set means "an attempt is worth its system call", not "it will succeed". It is cleared by
/// the attempt that found the end of what there was, and set again by the edge that epoll reports.
#[derive(Debug)]
pub(super) struct Source {
    /// What epoll reports with each event; the generation in it makes it unique over the reactor's life.
    pub(super) token: u64,
    /// The listening socket, if this is one: it is registered level-triggered and must be taken out of epoll
    /// if nobody accepts from it.
    pub(super) listener: Option<Arc<OwnedFd>>,
    /// Whether epoll watches the socket. A stream is watched from when somebody first waits for it.
    pub(super) armed: Cell<bool>,
    /// It is among those that are to be watched [later](super::late).
    pub(super) late: Cell<bool>,
    /// What is written may wait for the end of the connection.
    pub(super) holds: Cell<bool>,
    /// A read is worth its system call.
    pub(super) readable: Cell<bool>,
    /// A write is worth its system call.
    pub(super) writable: Cell<bool>,
    /// The peer has closed its direction, or both are closed, or the socket has failed. Never reset.
    pub(super) closed: Cell<bool>,
    /// Both directions are closed or the socket has failed. Never reset.
    pub(super) failed: Cell<bool>,
    /// The peer has sent urgent data, at whose mark reads stop short although more is queued.
    pub(super) urgent: Cell<bool>,
    reader: WakerSlot,
    writer: WakerSlot,
}

impl Source {
    pub(super) fn new(token: u64, listener: Option<Arc<OwnedFd>>, ready: bool) -> Self {
        Self {
            token,
            listener,
            armed: Cell::new(false),
            late: Cell::new(false),
            holds: Cell::new(false),
            readable: Cell::new(ready),
            writable: Cell::new(ready),
            closed: Cell::new(false),
            failed: Cell::new(false),
            urgent: Cell::new(false),
            reader: WakerSlot::default(),
            writer: WakerSlot::default(),
        }
    }

    /// Takes up what epoll reported, and wakes who waits for it.
    pub(super) fn notice(&self, flags: EventFlags) {
        if flags.contains(EventFlags::PRI) {
            self.urgent.set(true);
        }
        if flags.intersects(FAILED) {
            self.failed.set(true);
        }
        if flags.intersects(CLOSED) {
            self.closed.set(true);
        }
        if flags.intersects(CLOSED | EventFlags::IN) {
            self.readable.set(true);
            self.reader.wake();
        }
        if flags.intersects(FAILED | EventFlags::OUT) {
            self.writable.set(true);
            self.writer.wake();
        }
    }

    /// Resolves once a read is worth its system call.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.readable.get() {
            return Poll::Ready(());
        }
        self.register_reader(cx);
        Poll::Pending
    }

    /// Resolves once a write is worth its system call.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.writable.get() {
            return Poll::Ready(());
        }
        self.writer.register(cx);
        Poll::Pending
    }

    /// Remembers who waits to read.
    pub(super) fn register_reader(&self, cx: &Context<'_>) {
        self.reader.register(cx);
    }

    /// Lets whoever waits to read look again.
    pub(super) fn wake_reader(&self) {
        self.reader.wake();
    }

    /// Forgets who waits. The wakers keep tasks alive, and those may own this source.
    pub(super) fn forget_wakers(&self) {
        self.reader.clear();
        self.writer.clear();
    }
}

/// The one task that waits for something.
#[derive(Default)]
pub(super) struct WakerSlot(Cell<Option<Waker>>);

impl WakerSlot {
    /// Remembers the task; clones its waker only if another one was remembered.
    pub(super) fn register(&self, cx: &Context<'_>) {
        let waker = match self.0.take() {
            Some(known) if known.will_wake(cx.waker()) => known,
            _ => cx.waker().clone(),
        };
        self.0.set(Some(waker));
    }

    /// Wakes the task, if there is one, and forgets it.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    /// Forgets the task without waking it.
    pub(super) fn clear(&self) {
        drop(self.0.take());
    }
}

impl std::fmt::Debug for WakerSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WakerSlot")
    }
}
