//! Signs of life for the service manager: given by the instance in service, while every worker gives one of its own.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use async_io::Timer;

use super::{Herald, Phase};

/// How long until a manager that took nothing is told again.
const RETRY: Duration = Duration::from_millis(50);

/// The shortest time between two signs of life, for a manager that asks for more than makes sense.
const SHORTEST: Duration = Duration::from_millis(5);

/// The control thread's part of the watchdog, and of what the manager has yet to hear.
#[derive(Debug)]
pub(super) struct Watchdog {
    herald: Herald,
    /// Half of what the manager allows.
    period: Option<Duration>,
    beat: Option<Timer>,
    retry: Option<Timer>,
}

impl Watchdog {
    pub(super) fn new(herald: Herald) -> Self {
        let period = herald.watchdog().map(|most| (most / 2).max(SHORTEST));
        Self { herald, period, beat: None, retry: None }
    }

    /// Does what is due; the task is woken for the next time. `pulse` asks all workers for a sign of life and says
    /// whether each has given one since it was last asked.
    pub(super) fn poll(&mut self, phase: Phase, pulse: impl Fn() -> bool, cx: &mut Context<'_>) {
        self.poll_beat(phase, pulse, cx);
        while !self.herald.flush() {
            let retry = self.retry.get_or_insert_with(|| Timer::after(RETRY));
            if Pin::new(retry).poll(cx).is_pending() {
                return;
            }
            self.retry = None;
        }
    }

    fn poll_beat(&mut self, phase: Phase, pulse: impl Fn() -> bool, cx: &mut Context<'_>) {
        let Some(period) = self.period else { return };
        // Whoever waits or drains is not the service.
        if !matches!(phase, Phase::Serving | Phase::Offered | Phase::Committed { .. }) {
            self.beat = None;
            return;
        }
        while self.beat.as_mut().is_none_or(|beat| Pin::new(beat).poll(cx).is_ready()) {
            if pulse() {
                self.herald.alive();
            }
            self.beat = Some(Timer::after(period));
        }
    }
}
