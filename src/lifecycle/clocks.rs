//! The times that run while an instance drains, or waits for a word before it does.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use async_io::Timer;

use super::{Phase, Settings};
use crate::listen::Ending;

/// How long an instance that was asked to end waits for a successor to say that it serves, which takes it a millisecond.
const PATIENCE: Duration = Duration::from_millis(50);

/// The times of an instance's phase. Each runs while the phases it belongs to last.
#[derive(Debug)]
pub(super) struct Clocks {
    guard_period: Duration,
    drain_timeout: Duration,
    tunnel_drain_timeout: Duration,
    patience: Option<Timer>,
    guard: Option<Timer>,
    drain: Drain,
}

/// The two times for which connections may go on while the instance drains, from its beginning.
#[derive(Debug, Default)]
enum Drain {
    /// It does not drain.
    #[default]
    Off,
    /// At least one runs.
    On { requests: Option<Timer>, tunnels: Option<Timer> },
    /// Both are over.
    Over,
}

impl Clocks {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            guard_period: settings.handoff.guard,
            drain_timeout: settings.drain_timeout,
            tunnel_drain_timeout: settings.tunnel_drain_timeout,
            patience: None,
            guard: None,
            drain: Drain::Off,
        }
    }

    /// Starts what belongs to the phase unless it runs, and stops the rest.
    pub(super) fn arm(&mut self, phase: Phase) {
        match phase {
            Phase::Draining { guard } => {
                if matches!(self.drain, Drain::Off) {
                    self.drain = Drain::On {
                        requests: Some(Timer::after(self.drain_timeout)),
                        tunnels: Some(Timer::after(self.tunnel_drain_timeout)),
                    };
                }
                if guard {
                    self.guard.get_or_insert_with(|| Timer::after(self.guard_period));
                } else {
                    self.guard = None;
                }
            }
            Phase::Committed { ending: true } => {
                self.patience.get_or_insert_with(|| Timer::after(PATIENCE));
            }
            _ => (self.patience, self.guard, self.drain) = (None, None, Drain::Off),
        }
    }

    /// Whether a word was waited for long enough.
    pub(super) fn is_patience_over(&mut self, cx: &mut Context<'_>) -> bool {
        is_over(&mut self.patience, cx)
    }

    /// Whether the guard period is over, once.
    pub(super) fn is_guard_over(&mut self, cx: &mut Context<'_>) -> bool {
        is_over(&mut self.guard, cx)
    }

    /// Which connections have no time left, each once; but all, where nothing is guarded, as long as the instance
    /// does not end.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        match &mut self.drain {
            Drain::Off => None,
            Drain::On { requests, tunnels } => {
                let ending = match (is_over(requests, cx), is_over(tunnels, cx)) {
                    (false, false) => return None,
                    _ if requests.is_none() && tunnels.is_none() => Ending::All,
                    (true, _) => Ending::Requests,
                    (_, true) => Ending::Tunnels,
                };
                if ending == Ending::All {
                    self.drain = Drain::Over;
                }
                Some(ending)
            }
            // They were closed while it guarded; it does not wait any longer for those that do not end.
            Drain::Over => self.guard.is_none().then_some(Ending::All),
        }
    }
}

/// Whether the time is over; it is said once.
fn is_over(timer: &mut Option<Timer>, cx: &mut Context<'_>) -> bool {
    let over = timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready());
    if over {
        *timer = None;
    }
    over
}
