//! What an instance says of itself while it drains.

use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::instance::Core;
use super::office::Office;
use super::{DataPath, DrainTally, Phase, Settings, World};
use crate::base::{InstanceReport, InstanceState};
use crate::handoff::Reporter;
use crate::system::Account;

/// Keeps the instance in service informed while this one drains, whatever it drains for.
#[derive(Debug)]
pub(super) struct Reports {
    path: Option<PathBuf>,
    user: Option<u32>,
    clock: Clock,
    reporter: Option<Reporter>,
}

/// When draining began, and what its times are.
#[derive(Debug)]
struct Clock {
    begun: Option<Instant>,
    drain_timeout: Duration,
    tunnel_drain_timeout: Duration,
    guard: Duration,
}

impl Reports {
    pub(super) fn new(settings: &Settings) -> Self {
        let clock = Clock {
            begun: None,
            drain_timeout: settings.drain_timeout,
            tunnel_drain_timeout: settings.tunnel_drain_timeout,
            guard: settings.handoff.guard,
        };
        let user = settings.account.as_ref().map(Account::uid);
        Self { path: settings.upgrade_socket.clone(), user, clock, reporter: None }
    }

    /// Begins with draining, and ends with it unless that is the end of the instance.
    pub(super) fn arm(&mut self, phase: Phase) {
        match phase {
            Phase::Draining { .. } if self.clock.begun.is_none() => {
                self.clock.begun = Some(Instant::now());
                self.reporter = self.path.clone().map(|path| Reporter::new(path, self.user));
            }
            Phase::Draining { .. } | Phase::Exited => {}
            _ => (self.clock.begun, self.reporter) = (None, None),
        }
    }

    /// Ready with the reason when the instance in service wants this one to end.
    pub(super) fn poll<D: DataPath>(&mut self, core: &Core<Office<D>>, cx: &mut Context<'_>) -> Poll<String> {
        let clock = &self.clock;
        self.reporter.as_mut().map_or(Poll::Pending, |reporter| reporter.poll(cx, || clock.report(core)))
    }

    /// Says how it ended, as far as it can be said at once.
    pub(super) fn last_word<D: DataPath>(&mut self, core: &Core<Office<D>>) {
        if let Some(reporter) = &mut self.reporter {
            reporter.last_word(self.clock.report(core));
        }
    }
}

impl Clock {
    fn report<D: DataPath>(&self, core: &Core<Office<D>>) -> InstanceReport {
        let mut report = report(core);
        if let (Some(begun), Phase::Draining { guard }) = (self.begun, core.phase) {
            let left = |time: Duration| millis(time.saturating_sub(begun.elapsed()));
            let last = match report.tunnels {
                0 => self.drain_timeout,
                _ => self.drain_timeout.max(self.tunnel_drain_timeout),
            };
            report.deadline_ms = Some(left(last));
            report.guard_ms = guard.then(|| left(self.guard));
        }
        report
    }
}

/// What there is to say of the instance at any time; the times of draining are left out.
pub(super) fn report<D: DataPath>(core: &Core<Office<D>>) -> InstanceReport {
    let (office, state) = (&core.world, core.phase.state());
    let (build, age) = office.build_and_age();
    let DrainTally { moved, finished, cut } = office.tally();
    // Connections that were closed at the end may take a moment more to be gone.
    let left = |connections| if state == InstanceState::Exited { 0 } else { count(connections) };
    InstanceReport {
        pid: std::process::id(),
        generation: core.generation,
        build: build.to_owned(),
        state,
        age_ms: millis(age),
        connections: left(office.connections()),
        tunnels: left(office.tunnels()),
        moved,
        finished,
        cut,
        deadline_ms: None,
        guard_ms: None,
    }
}

/// A number of connections, as reports have it.
pub(super) fn count(connections: usize) -> u64 {
    u64::try_from(connections).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
