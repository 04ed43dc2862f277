//! Deadlines, one heap of them for each worker.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::source::WakerSlot;

/// How many dead entries the heap may hold beyond as many as it has live ones.
const SPARE: usize = 64;

/// A deadline that one task makes once and then moves.
///
/// Moving it later, or clearing it, costs a store: its entry in the worker's heap stays where it is and is
/// looked at again when it comes up. Moving it earlier than that entry adds another one.
///
/// Timers follow the worker's clock ([`Handle::now`](super::Handle::now)) and fire up to a millisecond late.
pub struct Timer {
    entry: Rc<Entry>,
    timers: Rc<Timers>,
}

impl Timer {
    /// Sets or moves the deadline. One that is past is expired at once.
    pub fn set(&self, deadline: Instant) {
        self.entry.deadline.set(Some(deadline));
        if self.entry.queued.get().is_none_or(|queued| deadline < queued) {
            self.timers.queue(&self.entry, deadline);
        }
    }

    /// Takes the deadline away: until it is set again, the timer does not expire.
    pub fn clear(&self) {
        self.entry.deadline.set(None);
    }

    /// Takes the deadline away and forgets who waits, for another task to use the timer.
    pub fn rest(&self) {
        self.clear();
        self.entry.waiter.clear();
    }

    /// The deadline, if one is set.
    pub fn deadline(&self) -> Option<Instant> {
        self.entry.deadline.get()
    }

    /// Resolves once the deadline has passed, and goes on doing so until it is moved or cleared.
    ///
    /// One task can wait at a time; the last to ask is woken.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.entry.deadline.get().is_some_and(|deadline| deadline <= self.timers.now.get()) {
            return Poll::Ready(());
        }
        self.entry.waiter.register(cx);
        Poll::Pending
    }

    /// Waits until the deadline has passed; without one, for ever.
    pub async fn expired(&self) {
        poll_fn(|cx| self.poll_expired(cx)).await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.entry.deadline.set(None);
        self.entry.waiter.clear();
        if self.entry.queued.take().is_some() {
            self.entry.generation.set(self.entry.generation.get().wrapping_add(1));
            self.timers.bury_one();
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline()).finish()
    }
}

/// Awaits `future` until `deadline` at the latest, on a timer that the caller keeps for such uses.
///
/// The future is looked at first: if it is ready and the deadline has passed, its output counts. The timer
/// has no deadline afterwards.
///
/// # Errors
///
/// [`Expired`] if the deadline passed first; the future is dropped.
pub async fn with_deadline<T>(
    timer: &Timer,
    deadline: Instant,
    future: impl Future<Output = T>,
) -> Result<T, Expired> {
    timer.set(deadline);
    let mut future = pin!(future);
    let result = poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => timer.poll_expired(cx).map(|()| Err(Expired)),
    })
    .await;
    timer.clear();
    result
}

/// A deadline passed before what was awaited was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Expired {}

/// The timers of one worker, and its clock.
pub(super) struct Timers {
    now: Cell<Instant>,
    heap: RefCell<BinaryHeap<Queued>>,
    /// How many entries of the heap are of dropped timers, or have been superseded by an earlier one.
    dead: Cell<usize>,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { now: Cell::new(Instant::now()), heap: RefCell::new(BinaryHeap::new()), dead: Cell::new(0) }
    }

    /// The time at the start of the worker's turn.
    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// When the worker has to look at its timers next, if at all. May be earlier than the first deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.borrow().peek().map(|queued| queued.at)
    }

    /// Sets the clock, and wakes whoever waits for a deadline that has passed.
    pub(super) fn advance(&self, now: Instant) {
        self.now.set(now);
        while let Some(entry) = self.pop_due(now) {
            match entry.deadline.get() {
                Some(deadline) if deadline > now => self.queue(&entry, deadline),
                Some(_) => entry.waiter.wake(),
                None => {}
            }
        }
    }

    /// How many entries the heap holds, dead ones included.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.heap.borrow().len()
    }

    pub(super) fn timer(self: &Rc<Self>) -> Timer {
        Timer { entry: Rc::new(Entry::default()), timers: Rc::clone(self) }
    }

    /// Forgets everyone who waits; for the end of the worker.
    pub(super) fn forget_wakers(&self) {
        for queued in self.heap.take() {
            queued.entry.waiter.clear();
        }
        self.dead.set(0);
    }

    /// Takes the next entry off the heap that is due and alive.
    fn pop_due(&self, now: Instant) -> Option<Rc<Entry>> {
        let mut heap = self.heap.borrow_mut();
        while heap.peek().is_some_and(|queued| queued.at <= now) {
            let Some(queued) = heap.pop() else { break };
            if queued.is_alive() {
                queued.entry.queued.set(None);
                return Some(queued.entry);
            }
            self.dead.set(self.dead.get().saturating_sub(1));
        }
        None
    }

    /// Adds the timer's entry; an older one, if there is one, dies.
    fn queue(&self, entry: &Rc<Entry>, at: Instant) {
        let generation = entry.generation.get().wrapping_add(1);
        entry.generation.set(generation);
        let superseded = entry.queued.replace(Some(at)).is_some();
        self.heap.borrow_mut().push(Queued { at, generation, entry: Rc::clone(entry) });
        if superseded {
            self.bury_one();
        }
    }

    /// Counts an entry that has died, and sweeps the heap if too many have.
    fn bury_one(&self) {
        let mut heap = self.heap.borrow_mut();
        let dead = self.dead.get() + 1;
        let live = heap.len().saturating_sub(dead);
        if dead > live + SPARE {
            heap.retain(Queued::is_alive);
            self.dead.set(0);
        } else {
            self.dead.set(dead);
        }
    }
}

/// What a timer and its entries in the heap share.
#[derive(Default)]
struct Entry {
    deadline: Cell<Option<Instant>>,
    /// The time of its live entry in the heap. Never later than the deadline.
    queued: Cell<Option<Instant>>,
    /// Which of its entries in the heap is the live one.
    generation: Cell<u32>,
    waiter: WakerSlot,
}

/// A place in the heap.
struct Queued {
    at: Instant,
    generation: u32,
    entry: Rc<Entry>,
}

impl Queued {
    fn is_alive(&self) -> bool {
        self.entry.queued.get().is_some() && self.entry.generation.get() == self.generation
    }
}

/// The earliest is the greatest, for the standard library's heap gives the greatest first.
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Queued {}
