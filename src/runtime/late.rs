//! Streams that epoll is to watch if they live long enough.
//!
//! Who waits for a stream to be gone wants to know it some time: a client that has given up, whose response a server is
//! still preparing. Most responses are there long before that matters, and a connection that ends with its response would
//! be watched for nothing, at the price of a system call, of what the kernel keeps for it, and of its events.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;

use super::reactor::Reactor;
use super::source::Source;

/// How long a stream goes unwatched, while nobody waits for it but to learn that it is gone; less if others are due sooner,
/// and at most a worker's turn longer.
const LATE: Duration = Duration::from_millis(20);

/// Streams of one worker that are to be watched later. Their number is bounded by that of connections accepted within
/// [`LATE`].
#[derive(Default)]
pub(super) struct Late {
    /// When those are to be watched that are there now.
    due: Cell<Option<Instant>>,
    /// By their tokens. The descriptors are only known as long as their streams live.
    streams: RefCell<Vec<(u64, Weak<OwnedFd>)>>,
}

impl Late {
    /// When [`watch`](Self::watch) has something to do next, if at all.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.due.get().is_none() && !self.streams.borrow().is_empty() {
            self.due.set(Some(now + LATE));
        }
        self.due.get()
    }

    /// Remembers a stream, unless it is remembered or watched already.
    pub(super) fn add(&self, source: &Source, fd: &Rc<OwnedFd>) {
        if !source.armed.get() && !source.late.replace(true) {
            self.streams.borrow_mut().push((source.token, Rc::downgrade(fd)));
        }
    }

    /// Lets epoll watch those that are due, as far as they are still there.
    pub(super) fn watch(&self, reactor: &Reactor, now: Instant) {
        if self.due(now).is_none_or(|due| due > now) {
            return;
        }
        self.due.set(None);
        for (token, fd) in self.streams.take() {
            let (Some(fd), Some(source)) = (fd.upgrade(), reactor.source(token)) else { continue };
            source.late.set(false);
            // Whoever waits for more than its end is told of a failure when trying it.
            let _ = reactor.watch(&source, &*fd);
        }
    }
}
