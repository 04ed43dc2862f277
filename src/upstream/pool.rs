//! The idle connections to one server, newest first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::PoolSettings;
use crate::wire::Wire;

/// How long connections beyond those that are kept may wait for the next burst of requests. Where many streams end in
/// one turn and as many begin in the next, they would be closed only to be made again.
const SURPLUS: Duration = Duration::from_secs(1);

/// The idle connections of one worker to one server.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Oldest at the front.
    idle: RefCell<VecDeque<Idle>>,
}

#[derive(Debug)]
struct Idle {
    stream: Wire,
    requests: u64,
    since: Instant,
}

impl Pool {
    /// The connection that fell idle last, if one is still good; those found stale on the way are closed.
    ///
    /// The newest is taken because it is the least likely to have been closed by the server meanwhile.
    pub(super) fn take(&self, settings: &PoolSettings, now: Instant) -> Option<(Wire, u64)> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop_back() {
            if connection.is_good(settings, now) {
                return Some((connection.stream, connection.requests));
            }
        }
        None
    }

    /// Keeps a connection, unless the pool is full or the server has already closed it or said something unasked. Full is
    /// a pool of twice as many as are kept in the long run.
    ///
    /// `sweeper` is woken when something happens to the connection while it is idle.
    pub(super) fn put(
        &self,
        stream: Wire,
        requests: u64,
        settings: &PoolSettings,
        now: Instant,
        sweeper: &Waker,
    ) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= settings.max_idle.saturating_mul(2) {
            return;
        }
        if !stream.is_quiet() || stream.poll_readable(&mut Context::from_waker(sweeper)).is_ready() {
            return;
        }
        idle.push_back(Idle { stream, requests, since: now });
    }

    /// Whether there are more than are kept in the long run.
    pub(super) fn has_surplus(&self, settings: &PoolSettings) -> bool {
        self.idle.borrow().len() > settings.max_idle
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Closes what is stale, and of more than are kept those that nobody needed for a while. Tells when the oldest of the
    /// rest will be closed. `sweeper` is woken when something happens to one of those.
    pub(super) fn sweep(&self, settings: &PoolSettings, now: Instant, sweeper: &Waker) -> Option<Instant> {
        let mut idle = self.idle.borrow_mut();
        let mut cx = Context::from_waker(sweeper);
        // Asked again, because a wake-up without a cause takes the waker from all of them.
        idle.retain(|connection| {
            connection.is_good(settings, now) && connection.stream.poll_readable(&mut cx).is_pending()
        });
        let surplus = idle.len().saturating_sub(settings.max_idle);
        let unneeded = idle.iter().take(surplus).take_while(|surplus| surplus.since + SURPLUS <= now).count();
        idle.drain(..unneeded);
        let patience =
            if surplus > unneeded { SURPLUS.min(settings.idle_timeout) } else { settings.idle_timeout };
        idle.front().map(|oldest| oldest.since + patience)
    }
}

impl Idle {
    fn is_good(&self, settings: &PoolSettings, now: Instant) -> bool {
        self.stream.is_quiet() && now.saturating_duration_since(self.since) < settings.idle_timeout
    }
}
