//! The deadline of the step that one side of a hand-over waits for.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use async_io::Timer;

/// The deadline of one step at a time; `S` tells steps apart.
#[derive(Debug)]
pub(super) struct Deadline<S>(Option<(S, Timer)>);

impl<S> Default for Deadline<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S: Copy + PartialEq> Deadline<S> {
    /// Waits for this step from now on, or for none. The time starts anew only when the step changes.
    pub(super) fn arm(&mut self, awaited: Option<S>, timeout: impl FnOnce(S) -> Duration) {
        if awaited != self.0.as_ref().map(|(step, _)| *step) {
            self.0 = awaited.map(|step| (step, Timer::after(timeout(step))));
        }
    }

    /// Waits for nothing any more.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Whether the time is over; the task is woken when it is.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.0.as_mut().is_some_and(|(_, timer)| Pin::new(timer).poll(cx).is_ready())
    }
}
