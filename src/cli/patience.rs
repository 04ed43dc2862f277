//! How long a command goes on: until its time is over, or a signal ends it.

use std::future::Future;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{FutureExt as _, future};

use crate::base::units::show_duration;
use crate::system::{Signal, Signals};

/// Ends what takes too long, and what is not wanted any more.
#[derive(Debug)]
pub(super) struct Patience<'s> {
    signals: &'s mut Signals,
    timeout: Duration,
    deadline: Instant,
}

/// Why a command does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enough {
    /// A signal that ends came.
    Signal(Signal),
    /// Its time, so much, was over.
    Time(Duration),
}

impl<'s> Patience<'s> {
    /// From now on, for `timeout`.
    pub(super) fn new(signals: &'s mut Signals, timeout: Duration) -> Self {
        // One that the clock cannot count is as good as none.
        let deadline = Instant::now().checked_add(timeout);
        let century = || Instant::now() + Duration::from_secs(100 * 365 * 86_400);
        Self { signals, timeout, deadline: deadline.unwrap_or_else(century) }
    }

    /// Does `work`, and stops where SIGTERM or SIGINT comes or the time is over first. Other signals, such as the
    /// SIGHUP of a terminal that was closed, change nothing.
    ///
    /// # Errors
    /// Why it did not come to the end; the work was dropped.
    pub(super) async fn with<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Enough> {
        let (signals, deadline, timeout) = (&mut *self.signals, self.deadline, self.timeout);
        let told = async {
            loop {
                match signals.next().await {
                    Ok(end @ (Signal::Terminate | Signal::Interrupt)) => return Err(Enough::Signal(end)),
                    Ok(_) => {}
                    Err(_) => future::pending().await,
                }
            }
        };
        let late = async {
            Timer::at(deadline).await;
            Err(Enough::Time(timeout))
        };
        async { Ok(work.await) }.or(told).or(late).await
    }

    /// As [`with`](Self::with), for work that may block, which is done on another thread and not ended.
    ///
    /// # Errors
    /// Why nobody waits for it any more.
    pub(super) async fn with_blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Enough> {
        self.with(smol::unblock(work)).await
    }
}

impl std::fmt::Display for Enough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "{signal} came"),
            Self::Time(time) => write!(f, "{} are over", show_duration(*time)),
        }
    }
}
