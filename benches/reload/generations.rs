//! The generations of River under load: one in service, and those that drain.

use std::mem;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Outcome;
use crate::origin::Origin;
use crate::record::Histogram;
use crate::river::{DRAIN, Instance, Site};

/// All instances of one River that is replaced over and over.
pub(crate) struct Generations {
    site: Site,
    current: Option<Instance>,
    draining: Vec<(Instance, Instant)>,
    gone: Histogram,
    moved: u64,
}

impl Generations {
    pub(crate) fn start(
        river: &Path,
        directory: &Path,
        address: SocketAddr,
        origin: &Origin,
    ) -> Outcome<Self> {
        let mut site = Site::new(river.to_owned(), directory, address, origin.address, 0)?;
        let first = site.start()?;
        Ok(Self { site, current: Some(first), draining: Vec::new(), gone: Histogram::default(), moved: 0 })
    }

    /// Starts a successor and makes the instance in service hand over to it; returns when SIGQUIT was sent and when the
    /// successor owned the service.
    pub(crate) fn hand_over(&mut self) -> Outcome<(Instant, Instant)> {
        let current = self.current.as_ref().ok_or("nobody is in service")?;
        let started = self.site.start_successor();
        let successor = started.map_err(|error| format!("{error}\n{}", current.last_words()))?;
        let (begin, end) = self.site.hand_over(current, &successor)?;
        self.draining.extend(self.current.replace(successor).map(|old| (old, end)));
        Ok((begin, end))
    }

    /// Reaps the old instances that have ended.
    pub(crate) fn bury_the_ended(&mut self) -> Outcome<()> {
        let ended: Vec<_> = self.draining.extract_if(.., |(old, _)| old.has_ended()).collect();
        ended.into_iter().try_for_each(|(old, since)| self.bury(old, since, Duration::ZERO))
    }

    /// How many old instances there are.
    pub(crate) fn old(&self) -> usize {
        self.draining.len()
    }

    /// Waits until only the last instance is left.
    pub(crate) fn wait_for_old(&mut self) -> Outcome<()> {
        for (old, since) in mem::take(&mut self.draining) {
            self.bury(old, since, DRAIN * 2)?;
        }
        Ok(())
    }

    /// How long old instances were there after a hand-over.
    pub(crate) fn gone(&self) -> &Histogram {
        &self.gone
    }

    /// How many connections they say they have moved.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    fn bury(&mut self, old: Instance, since: Instant, patience: Duration) -> Outcome<()> {
        let (end, moved) = old.wait(patience)?;
        self.gone.add(end.saturating_duration_since(since));
        self.moved += moved;
        Ok(())
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        let Some(current) = self.current.take() else { return };
        if current.signal(Signal::TERM).and_then(|()| current.wait(DRAIN * 2).map(drop)).is_err() {
            eprintln!("the last instance did not end in order");
        }
    }
}
