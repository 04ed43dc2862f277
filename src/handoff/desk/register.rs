//! The instances that drain: who they are, how they fare, and which of them has to end.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};

use crate::base::{InstanceReport, InstanceState};
use crate::handoff::{Channel, Message};
use crate::system::{Peer, ask_another_to_end, end_another};

/// How many more than may drain are known, while the oldest of them end.
const ENDING: usize = 8;

/// How many of those that have ended are remembered, and how long.
const MAX_LATE: usize = 16;
const LATE: Duration = Duration::from_secs(60);

/// How long an instance may take to end when it was told to, before it gets a signal, and then before it is killed. It
/// takes milliseconds.
const TIME_TO_END: Duration = Duration::from_secs(5);

/// How many messages of one instance are taken before others have their turn.
const BURST: usize = 8;

/// The longest name of a build, in characters.
const MAX_BUILD: usize = 64;

/// The instances that drain, as far as they said so.
#[derive(Debug)]
pub(super) struct Register {
    /// How many may drain.
    most: usize,
    draining: Vec<Entry>,
    /// The last words of those that have ended, the latest first.
    late: VecDeque<(Instant, InstanceReport)>,
}

#[derive(Debug)]
struct Entry {
    pid: u32,
    pidfd: Async<OwnedFd>,
    /// None where the connection has ended; the instance connects again.
    channel: Option<Channel>,
    report: InstanceReport,
    heard: Instant,
    ending: Eviction,
}

/// Whether an instance was told to end.
#[derive(Debug)]
enum Eviction {
    No,
    /// It was told, or could not be told, and has until then.
    Told(Timer),
    /// It was sent SIGINT, and has until then.
    Signalled(Timer),
    /// It was sent SIGKILL, which nothing withstands.
    Killed,
}

impl Register {
    /// An empty register; `most` instances may drain at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { most, draining: Vec::new(), late: VecDeque::new() }
    }

    /// Takes an instance up, or again after its connection had ended. Who it is, is what the kernel says.
    ///
    /// Where there are too many, its connection is closed.
    ///
    /// # Errors
    /// When the reactor does not take the peer's pidfd.
    pub(super) fn admit(&mut self, channel: Channel, peer: Peer, report: InstanceReport) -> io::Result<()> {
        let (pid, pidfd) = peer.into_parts();
        // A pidfd is opened nonblocking already and has no flags to set.
        let pidfd = Async::new_nonblocking(pidfd)?;
        let report = tidy(report, pid);
        let most = self.most;
        if let Some(known) = self.draining.iter_mut().find(|entry| entry.pid == pid) {
            let same = known.report.generation == report.generation;
            let ending = std::mem::replace(&mut known.ending, Eviction::No);
            let ending = if same { ending } else { Eviction::No };
            *known = Entry { pid, pidfd, channel: Some(channel), report, heard: Instant::now(), ending };
            if matches!(known.ending, Eviction::Told(_)) {
                // It may not have heard; its time to end goes on.
                known.tell(most);
            }
            return Ok(());
        }
        if self.draining.len() >= self.most.saturating_add(ENDING) {
            let count = self.draining.len();
            tracing::warn!(target: "river::handoff", pid, count, "too many instances drain to take up one more");
            return Ok(());
        }
        tracing::info!(
            target: "river::handoff", pid, generation = report.generation, connections = report.connections,
            "an earlier instance drains"
        );
        self.draining.push(Entry {
            pid,
            pidfd,
            channel: Some(channel),
            report,
            heard: Instant::now(),
            ending: Eviction::No,
        });
        Ok(())
    }

    /// Hears the instances, and ends the oldest where there are too many. Says whether anything has changed; the task
    /// is woken when something may.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut changed = false;
        let mut at = 0;
        while let Some(entry) = self.draining.get_mut(at) {
            // Asked first: what a process said, it said before it ended.
            let ended = entry.pidfd.poll_readable(cx).is_ready();
            changed |= entry.hear(cx);
            if !ended {
                at += 1;
                continue;
            }
            changed = true;
            let entry = self.draining.remove(at);
            let InstanceReport { pid, generation, moved, finished, cut, .. } = entry.report;
            tracing::info!(
                target: "river::handoff", pid, generation, moved, finished, cut, "an earlier instance has ended"
            );
            self.late.push_front((Instant::now(), last_word(entry.report)));
            self.late.truncate(MAX_LATE);
        }
        self.limit();
        for entry in &mut self.draining {
            entry.insist(cx);
        }
        changed
    }

    /// How they fare now: those that drain, the youngest first, then those that have ended lately.
    pub(super) fn reports(&mut self) -> Vec<InstanceReport> {
        let now = Instant::now();
        self.late.retain(|(ended, _)| now.duration_since(*ended) < LATE);
        let mut reports: Vec<_> = self.draining.iter().map(|entry| entry.now(now)).collect();
        reports.sort_by_key(|report| (Reverse(report.generation), report.age_ms));
        reports.extend(self.late.iter().map(|(_, report)| report.clone()));
        reports
    }

    /// Tells the oldest to end, as many as there are too many, but one that can take the service back last.
    fn limit(&mut self) {
        let staying = |entry: &&mut Entry| matches!(entry.ending, Eviction::No);
        let count = self.draining.iter_mut().filter(staying).count();
        for _ in self.most..count {
            let oldest = self.draining.iter_mut().filter(staying).min_by_key(|entry| {
                let InstanceReport { generation, age_ms, guard_ms, .. } = entry.report;
                (guard_ms.is_some(), generation, Reverse(age_ms))
            });
            if let Some(oldest) = oldest {
                oldest.end(self.most);
            }
        }
    }
}

impl Entry {
    /// Takes what the instance says; whether there was anything new.
    fn hear(&mut self, cx: &mut Context<'_>) -> bool {
        let mut changed = false;
        for _ in 0..BURST {
            let Some(channel) = &mut self.channel else { return changed };
            match channel.poll_next(cx) {
                Poll::Pending => return changed,
                Poll::Ready(Ok(incoming)) => {
                    if let Message::Draining(report) = incoming.message {
                        let report = tidy(report, self.pid);
                        changed |= report != self.report;
                        (self.report, self.heard) = (report, Instant::now());
                        continue;
                    }
                    let (pid, message) = (self.pid, incoming.message.name());
                    tracing::warn!(
                        target: "river::handoff", pid, message, "a draining instance says what it should not"
                    );
                    self.channel = None;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(target: "river::handoff", pid = self.pid, %error, "a draining instance left");
                    self.channel = None;
                }
            }
        }
        // It talks without end; others have their turn.
        cx.waker().wake_by_ref();
        changed
    }

    /// Tells it to end, because more than `most` drain.
    fn end(&mut self, most: usize) {
        let (pid, generation, connections) = (self.pid, self.report.generation, self.report.connections);
        tracing::warn!(
            target: "river::handoff", pid, generation, connections, max_draining = most,
            "too many instances drain; the oldest is ended"
        );
        self.tell(most);
        self.ending = Eviction::Told(Timer::after(TIME_TO_END));
    }

    fn tell(&mut self, most: usize) {
        let why =
            format!("more than {most} instances drain, and this one is the oldest (handoff.max_draining)");
        let Some(channel) = &mut self.channel else { return };
        if let Err(error) = channel.push(&Message::End { why }, Vec::new()) {
            tracing::debug!(target: "river::handoff", pid = self.pid, %error, "cannot tell it to end");
        }
    }

    /// Signals it where it was told to end and has not in time; kills it where that does not help either, such as
    /// where it is stopped, so that it does not keep its place in the register for good.
    fn insist(&mut self, cx: &mut Context<'_>) {
        let pid = self.pid;
        if let Eviction::Signalled(timer) = &mut self.ending
            && Pin::new(timer).poll(cx).is_ready()
        {
            self.ending = Eviction::Killed;
            let connections = self.report.connections;
            match end_another(&self.pidfd) {
                Ok(()) => tracing::error!(
                    target: "river::handoff", pid, connections,
                    "an instance did not end within {TIME_TO_END:?} of SIGINT, such as one that is stopped; it was sent SIGKILL"
                ),
                Err(error) => tracing::error!(
                    target: "river::handoff", pid, connections, %error,
                    "an instance did not end after SIGINT, and cannot be sent SIGKILL"
                ),
            }
        }
        let Eviction::Told(timer) = &mut self.ending else { return };
        if Pin::new(timer).poll(cx).is_pending() {
            return;
        }
        let mut killed = Timer::after(TIME_TO_END);
        // Polled, so that it wakes.
        let _ = Pin::new(&mut killed).poll(cx);
        self.ending = Eviction::Signalled(killed);
        match ask_another_to_end(&self.pidfd) {
            Ok(()) => tracing::warn!(
                target: "river::handoff", pid,
                "an instance that was told to end did not within {TIME_TO_END:?}; it was sent SIGINT"
            ),
            Err(error) => tracing::warn!(
                target: "river::handoff", pid, %error, "an instance that was told to end did not, and cannot be sent SIGINT"
            ),
        }
    }

    /// The report, with its times as they are now.
    fn now(&self, now: Instant) -> InstanceReport {
        let passed = u64::try_from(now.duration_since(self.heard).as_millis()).unwrap_or(u64::MAX);
        let mut report = self.report.clone();
        report.age_ms = report.age_ms.saturating_add(passed);
        report.deadline_ms = report.deadline_ms.map(|left| left.saturating_sub(passed));
        report.guard_ms = report.guard_ms.map(|left| left.saturating_sub(passed)).filter(|left| *left > 0);
        report
    }
}

/// The report as it is taken from another process: about that process, as one that drains or has, and short.
fn tidy(mut report: InstanceReport, pid: u32) -> InstanceReport {
    report.pid = pid;
    report.build = short(&report.build);
    if report.state != InstanceState::Exited {
        report.state = InstanceState::Draining;
    }
    report
}

/// The name of a build as another process gave it, short and on one line.
pub(super) fn short(build: &str) -> String {
    build.chars().take(MAX_BUILD).map(|each| if each.is_control() { '?' } else { each }).collect()
}

/// What is left to say of an instance that has ended, whether or not it could say so itself.
fn last_word(report: InstanceReport) -> InstanceReport {
    InstanceReport {
        state: InstanceState::Exited,
        connections: 0,
        tunnels: 0,
        deadline_ms: None,
        guard_ms: None,
        ..report
    }
}
