//! How other threads end a worker's sleep.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// The worker runs and nobody has woken it since it last looked.
const RUNNING: u8 = 0;
/// The worker is about to block in epoll, or does.
const SLEEPING: u8 = 1;
/// Somebody has woken the worker since it last looked.
const WOKEN: u8 = 2;

/// Ends the sleep of one worker; its waker may be cloned and used by any thread.
///
/// The event descriptor is registered edge-triggered and never read: each write is an edge of its own. It is
/// written only if the worker sleeps, so that a wake-up of a running worker is one atomic operation.
#[derive(Debug)]
pub(super) struct Unpark {
    event: OwnedFd,
    state: AtomicU8,
    writes: AtomicU64,
}

impl Unpark {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, state: AtomicU8::new(RUNNING), writes: AtomicU64::new(0) })
    }

    /// Forgets past wake-ups. Call it before looking at what they may have been about.
    ///
    /// An exchange and not a store: what the waking thread did before it called `wake` must be visible after
    /// this.
    pub(super) fn start_looking(&self) {
        self.state.swap(RUNNING, Ordering::SeqCst);
    }

    /// Announces the sleep; false if somebody has called since [`start_looking`](Self::start_looking), in
    /// which case the worker must look again instead.
    pub(super) fn fall_asleep(&self) -> bool {
        self.state.compare_exchange(RUNNING, SLEEPING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// How often the event descriptor was written.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

impl AsFd for Unpark {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == SLEEPING {
            self.writes.fetch_add(1, Ordering::Relaxed);
            // It can fail only with EAGAIN, when the counter is full after 2^64 wake-ups.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}
