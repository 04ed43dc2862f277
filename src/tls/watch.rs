//! What is done for certificates as time goes by: files looked at, ticket keys turned, expiry logged.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_io::Timer;

use super::Store;
use super::expiry::Tone;

/// How often the log tells of the time that is left.
const DAILY: Duration = Duration::from_secs(86_400);

/// How long after a key was due the next look follows, where it could not be turned.
const RETRY: Duration = Duration::from_secs(1);

/// The control thread's care for certificates. It reads no file itself: a file system that hangs keeps nobody waiting but
/// the next look at the files.
pub struct Watch {
    store: Store,
    /// How often the files are looked at; `None` where only when asked.
    period: Option<Duration>,
    look: Option<Timer>,
    turn: Option<Timer>,
    daily: Option<Timer>,
    /// Whether all files are to be read again, even if none has changed.
    asked: bool,
    reading: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Watch {
    /// Looks at the files of `store` every `period`; zero is only when asked.
    pub fn new(store: Store, period: Duration) -> Self {
        let period = Some(period).filter(|period| !period.is_zero() && !store.is_empty());
        Self { store, period, look: None, turn: None, daily: None, asked: false, reading: None }
    }

    /// Has all files read again, soon. Says whether there are any.
    pub fn ask(&mut self) -> bool {
        self.asked = !self.store.is_empty();
        self.asked
    }

    /// Does what is due; the task is woken for the next time. Keys are turned where the instance is in service, and not
    /// while its keys are on their way to another.
    pub fn poll(&mut self, is_serving: bool, cx: &mut Context<'_>) {
        if self.store.is_empty() {
            return;
        }
        self.poll_files(cx);
        if is_serving {
            self.poll_keys(cx);
        }
        while poll_timer(&mut self.daily, DAILY, cx) {
            self.store.log_standing(Tone::Whole);
        }
    }

    fn poll_files(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(reading) = &mut self.reading {
                if reading.as_mut().poll(cx).is_pending() {
                    return;
                }
                self.reading = None;
            }
            let is_due = self.period.is_some_and(|period| poll_timer(&mut self.look, period, cx));
            let all = std::mem::take(&mut self.asked);
            if !is_due && !all {
                return;
            }
            let store = self.store.clone();
            self.reading = Some(Box::pin(smol::unblock(move || store.renew(all))));
        }
    }

    fn poll_keys(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = SystemTime::now();
            let Some(due) = self.store.keys_due_in(now) else { return };
            if due.is_zero() {
                self.store.turn_keys(now);
            }
            // Not armed to the instant: the clock that keys go by may be set while this one runs on.
            let due = due.clamp(RETRY, DAILY);
            if !poll_timer(&mut self.turn, due, cx) {
                return;
            }
        }
    }
}

/// Whether the timer, armed for `period` where it is not, has ended; it is to be armed anew then.
fn poll_timer(timer: &mut Option<Timer>, period: Duration, cx: &mut Context<'_>) -> bool {
    let armed = timer.get_or_insert_with(|| Timer::after(period));
    let has_ended = matches!(Pin::new(armed).poll(cx), Poll::Ready(_));
    if has_ended {
        *timer = None;
    }
    has_ended
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("period", &self.period).finish_non_exhaustive()
    }
}
