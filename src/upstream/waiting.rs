//! Requests that wait for room on a shared connection, first come first served.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

/// The queue of one server.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By their numbers, which are given in the order they came.
    queue: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

/// A place in the queue, which is kept while it is tried and tried again.
#[derive(Debug)]
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    number: u64,
    /// It stands in the queue. Once it has been told it does not, until it waits again.
    queued: Cell<bool>,
}

impl Waiting {
    /// A place behind all others; `None` where `most` wait already.
    pub(super) fn enter(&self, most: usize) -> Option<Place<'_>> {
        if self.queue.borrow().len() >= most {
            return None;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        Some(Place { waiting: self, number, queued: Cell::new(false) })
    }

    /// Nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    /// Tells the first that it may be worth a try. It tells the next one in turn, if there is more for it.
    pub(super) fn tell(&self) {
        let first = self.queue.borrow_mut().pop_first();
        if let Some((_, waker)) = first {
            waker.wake();
        }
    }
}

impl Place<'_> {
    /// Resolves once it has been told.
    pub(super) fn poll_told(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.waiting.queue.borrow_mut();
        if self.queued.get() && !queue.contains_key(&self.number) {
            self.queued.set(false);
            return Poll::Ready(());
        }
        queue.insert(self.number, cx.waker().clone());
        self.queued.set(true);
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.queued.get() {
            return;
        }
        let there = self.waiting.queue.borrow_mut().remove(&self.number).is_some();
        if !there {
            // It was told and did not hear it.
            self.waiting.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(place: &Place<'_>, count: &Arc<Count>) -> bool {
        place.poll_told(&mut Context::from_waker(&Waker::from(count.clone()))).is_ready()
    }

    #[test]
    fn the_first_is_told_first_and_keeps_its_place() {
        let waiting = Waiting::default();
        let (first, second) = (waiting.enter(2).unwrap(), waiting.enter(2).unwrap());
        let counts = [Arc::<Count>::default(), Arc::default()];
        assert!(!poll(&first, &counts[0]) && !poll(&second, &counts[1]));
        for _ in 0..2 {
            waiting.tell();
            assert!(poll(&first, &counts[0]));
            // It found nothing, and waits again.
            assert!(!poll(&first, &counts[0]));
        }
        assert_eq!(counts.map(|count| count.0.load(Ordering::SeqCst)), [2, 0]);
    }

    #[test]
    fn who_was_told_and_left_passes_it_on() {
        let waiting = Waiting::default();
        let (first, second) = (waiting.enter(2).unwrap(), waiting.enter(2).unwrap());
        let counts = [Arc::<Count>::default(), Arc::default()];
        assert!(!poll(&first, &counts[0]) && !poll(&second, &counts[1]));
        waiting.tell();
        drop(first);
        assert!(poll(&second, &counts[1]));
        drop(second);
        assert!(waiting.is_empty());
    }

    #[test]
    fn no_more_wait_than_may() {
        let waiting = Waiting::default();
        let count = Arc::<Count>::default();
        let first = waiting.enter(1).unwrap();
        assert!(!poll(&first, &count));
        assert!(waiting.enter(1).is_none());
        drop(first);
        assert!(waiting.enter(1).is_some());
    }
}
