//! Waiting: on gates that the test opens, and on states outside the process.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a step may take that should take milliseconds: long enough for a busy machine, short enough to be a
/// failure rather than a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is to take 100 ms at most, with room for a busy machine: whoever sleeps or waits for a deadline instead, as
/// the waits this is to catch do, takes many seconds.
pub const SOON: Duration = Duration::from_secs(1);

/// Waits until `holds`, and panics with `what` when `deadline` passes first.
///
/// It polls, every millisecond: it is for states outside this process that no event announces (`/proc`, a file's
/// content, whether a port is open). Where there is an event, wait on the event.
#[track_caller]
pub fn until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !holds() {
        assert!(Instant::now() < end, "after {deadline:?} still not: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// A gate that starts closed and that the test opens once, for everyone who waits at it.
#[derive(Debug, Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// An open gate.
    pub fn opened() -> Arc<Self> {
        let gate = Self::new();
        gate.open();
        Arc::new(gate)
    }

    /// Opens it for good.
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits until it is open; false if `deadline` passed first.
    pub fn wait(&self, deadline: Duration) -> bool {
        let open = self.open.lock().unwrap();
        let (open, _) = self.changed.wait_timeout_while(open, deadline, |open| !*open).unwrap();
        *open
    }

    /// Waits until it is open, and panics when [`PATIENCE`] ends first.
    #[track_caller]
    pub fn pass(&self) {
        assert!(self.wait(PATIENCE), "the gate was not opened within {PATIENCE:?}");
    }
}

/// A count that threads raise and that the test waits for.
#[derive(Debug, Default)]
pub struct Count {
    value: Mutex<usize>,
    changed: Condvar,
}

impl Count {
    /// Raises the count by one and returns it.
    pub fn add(&self) -> usize {
        let mut value = self.value.lock().unwrap();
        *value += 1;
        self.changed.notify_all();
        *value
    }

    /// Lowers the count by one.
    pub fn subtract(&self) {
        *self.value.lock().unwrap() -= 1;
        self.changed.notify_all();
    }

    /// The count now.
    pub fn now(&self) -> usize {
        *self.value.lock().unwrap()
    }

    /// Waits until `holds` of the count, and panics with `what` when `deadline` passes first.
    #[track_caller]
    pub fn wait(&self, what: &str, deadline: Duration, holds: impl Fn(usize) -> bool) -> usize {
        let value = self.value.lock().unwrap();
        let (value, _) = self.changed.wait_timeout_while(value, deadline, |value| !holds(*value)).unwrap();
        let value = *value;
        assert!(holds(value), "after {deadline:?} still not: {what} (the count is {value})");
        value
    }
}
