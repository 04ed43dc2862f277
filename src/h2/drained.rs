//! Tells the streams of a connection when it has sent all it had.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

/// How often a connection has had nothing left to send, and who waits for the next time.
#[derive(Debug, Default)]
pub struct Drained {
    count: Cell<u64>,
    /// At most one for each stream that is open.
    waiting: RefCell<Vec<Waker>>,
}

impl Drained {
    /// How often it was so.
    pub(super) fn count(&self) -> u64 {
        self.count.get()
    }

    /// It is so.
    pub(super) fn tell(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Resolves once it was so after the count was `count`.
    pub(super) fn poll_after(&self, cx: &Context<'_>, count: u64) -> Poll<()> {
        if self.count.get() != count {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
