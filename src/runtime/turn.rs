//! The loop of a worker.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::handle::Worker;
use super::unpark::Unpark;

/// The most tasks that run between two waits.
const TASKS: usize = 256;

impl Worker {
    /// Runs the worker's tasks until `main` resolves. `main` is no task itself, and may borrow.
    ///
    /// # Errors
    ///
    /// What `epoll_wait(2)` reports; that a descriptor of the worker's was closed by someone else, for one.
    pub(super) fn run<T>(&self, main: impl Future<Output = T>) -> io::Result<T> {
        let mut main = pin!(main);
        let signal = Arc::new(Signal { raised: AtomicBool::new(true), unpark: Arc::clone(&self.unpark) });
        let waker = Waker::from(Arc::clone(&signal));
        let sleeper = Waker::from(Arc::clone(&self.unpark));
        loop {
            self.unpark.start_looking();
            if signal.raised.swap(false, Ordering::SeqCst) {
                self.reactor.refill_budget();
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Ok(output);
                }
            }
            if self.run_tasks() || signal.raised.load(Ordering::SeqCst) {
                self.reactor.wait(Some(Duration::ZERO))?;
            } else {
                self.sleep(&sleeper)?;
            }
            self.reactor.dispatch();
            let now = Instant::now();
            self.timers.advance(now);
            self.reactor.late.watch(&self.reactor, now);
        }
    }

    /// Runs runnable tasks, a bounded number of them; true if there may be more.
    ///
    /// A task that uses up its share of operations ends the turn, so that epoll is asked again after 64
    /// operations of such tasks and not after 64 for each that is runnable.
    fn run_tasks(&self) -> bool {
        let executor = self.tasks.executor();
        for _ in 0..TASKS {
            self.reactor.refill_budget();
            if !executor.try_tick() {
                return false;
            }
            if self.reactor.budget_is_spent() {
                return true;
            }
        }
        true
    }

    /// Blocks in epoll until something happens, the next timer is due, or another thread calls.
    fn sleep(&self, sleeper: &Waker) -> io::Result<()> {
        // As long as this future exists, the executor calls `sleeper` if a task becomes runnable. It is
        // dropped before the events are dispatched, so that the tasks they wake cost no wake-up.
        let mut tick = pin!(self.tasks.executor().tick());
        self.reactor.refill_budget();
        let ran = tick.as_mut().poll(&mut Context::from_waker(sleeper)).is_ready();
        let timeout = if !ran && self.unpark.fall_asleep() {
            let now = Instant::now();
            let (timer, late) = (self.timers.next(), self.reactor.late.due(now));
            let next = timer.into_iter().chain(late).min();
            next.map(|next| next.saturating_duration_since(now))
        } else {
            // Another thread has woken a task in between.
            Some(Duration::ZERO)
        };
        let result = self.reactor.wait(timeout);
        self.unpark.start_looking();
        result
    }
}

/// Wakes the main future.
struct Signal {
    raised: AtomicBool,
    unpark: Arc<Unpark>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::SeqCst);
        self.unpark.wake_by_ref();
    }
}
