//! When requests are due.

use std::time::{Duration, Instant};

/// Every run has the same arrivals.
const SEED: u64 = 4;

/// The times at which requests are due: a Poisson process, without end.
pub(crate) struct Arrivals {
    random: fastrand::Rng,
    rate: f64,
    next: Instant,
}

impl Arrivals {
    /// `rate` is in requests a second.
    pub(crate) fn new(begin: Instant, rate: f64) -> Self {
        let mut arrivals = Self { random: fastrand::Rng::with_seed(SEED), rate, next: begin };
        arrivals.advance();
        arrivals
    }

    /// When the next request is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Takes the next request off if it is due.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        (due <= now).then(|| {
            self.advance();
            due
        })
    }

    fn advance(&mut self) {
        let gap = -(1.0 - self.random.f64()).ln() / self.rate;
        self.next += Duration::from_secs_f64(gap);
    }
}
