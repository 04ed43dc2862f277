//! Lets a number of handshakes go on at one time, and the others wait in the order in which they came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A counter with a queue, shared by the workers. Unlike a semaphore, it lets nobody in before those who wait.
#[derive(Debug)]
pub(super) struct Turnstile(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Who waits, with ascending numbers.
    queue: VecDeque<(u64, Waker)>,
    next: u64,
}

/// The right to be inside; given to the next in the queue when it is dropped.
#[derive(Debug)]
pub(super) struct Pass<'a>(&'a Turnstile);

/// A wait for a [`Pass`]. Dropped, it gives its place in the queue up.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    turnstile: &'a Turnstile,
    number: Option<u64>,
}

impl Turnstile {
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(State { free: most.max(1), queue: VecDeque::new(), next: 0 }))
    }

    pub(super) fn enter(&self) -> Wait<'_> {
        Wait { turnstile: self, number: None }
    }

    fn leave(&self) {
        let mut state = self.state();
        let next = state.queue.pop_front();
        match next {
            // The place goes from one to the other, so that nobody else can take it.
            Some((_, waker)) => {
                drop(state);
                waker.wake();
            }
            None => state.free += 1,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done with the lock held can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Future for Wait<'a> {
    type Output = Pass<'a>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Pass<'a>> {
        let turnstile = self.turnstile;
        let mut state = turnstile.state();
        let Some(number) = self.number else {
            // While anybody waits, none is free.
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                return Poll::Ready(Pass(turnstile));
            }
            let number = state.next;
            state.next += 1;
            state.queue.push_back((number, cx.waker().clone()));
            drop(state);
            self.number = Some(number);
            return Poll::Pending;
        };
        match state.place(number) {
            Some(place) => {
                if let Some((_, waker)) = state.queue.get_mut(place) {
                    waker.clone_from(cx.waker());
                }
                Poll::Pending
            }
            None => {
                drop(state);
                self.number = None;
                Poll::Ready(Pass(turnstile))
            }
        }
    }
}

impl State {
    fn place(&self, number: u64) -> Option<usize> {
        self.queue.binary_search_by_key(&number, |(number, _)| *number).ok()
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.turnstile.state();
        match state.place(number) {
            Some(place) => drop(state.queue.remove(place)),
            // Its turn has come, and it will not take it.
            None => {
                drop(state);
                self.turnstile.leave();
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<'a>(wait: Pin<&mut Wait<'a>>) -> Poll<Pass<'a>> {
        wait.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_waits_longest_is_next_and_nobody_passes_by() {
        let turnstile = Turnstile::new(1);
        let Poll::Ready(pass) = poll(pin!(turnstile.enter())) else { panic!("it is free") };
        let (mut second, mut third) = (pin!(turnstile.enter()), pin!(turnstile.enter()));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(pass);
        assert!(poll(pin!(turnstile.enter())).is_pending(), "one that came later passed by");
        assert!(poll(third.as_mut()).is_pending());
        let Poll::Ready(pass) = poll(second.as_mut()) else { panic!("it is its turn") };
        drop(pass);
        assert!(poll(third.as_mut()).is_ready());
        assert!(poll(pin!(turnstile.enter())).is_ready(), "everybody has left");
    }

    #[test]
    fn who_gives_up_keeps_nobody_waiting() {
        let turnstile = Turnstile::new(1);
        let Poll::Ready(pass) = poll(pin!(turnstile.enter())) else { panic!("it is free") };
        let mut last = pin!(turnstile.enter());
        {
            let (mut second, mut third) = (pin!(turnstile.enter()), pin!(turnstile.enter()));
            assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
            assert!(poll(last.as_mut()).is_pending());
            // The second's turn comes, and it does not take it; the third's never came.
            drop(pass);
        }
        assert!(poll(last.as_mut()).is_ready());
    }
}
