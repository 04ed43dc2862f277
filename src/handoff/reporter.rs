//! How a draining instance keeps in touch with the one in service.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::{Channel, Message, connect_to, with_cause};
use crate::base::InstanceReport;
use crate::system::master_of;

/// How often the report is looked at, and said again where it has changed.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait before connecting again: at first, and at most. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that lasted as long as this was not refused.
const LASTED: Duration = Duration::from_millis(100);

/// Says to the instance in service, whichever it is, how this one fares.
///
/// It connects to the upgrade socket, and again when that connection ends: then another instance is in service. Nothing
/// depends on it, so what fails is tried again and told at debug level only.
#[derive(Debug)]
pub struct Reporter {
    path: PathBuf,
    user: Option<u32>,
    link: Option<Link>,
    retry: Option<Timer>,
    pause: Duration,
}

#[derive(Debug)]
struct Link {
    channel: Channel,
    begun: Instant,
    said: InstanceReport,
    look: Timer,
}

impl Reporter {
    /// A reporter to whoever is in service at the upgrade socket `path`. It does nothing before it is polled.
    ///
    /// Whoever that is may also be of the user `user`, as the one of the configuration is. Where there is none, an
    /// instance of root reports to the user who has the upgrade socket and its directory: a successor with another
    /// configuration may have become that one.
    pub fn new(path: PathBuf, user: Option<u32>) -> Self {
        Self { path, user, link: None, retry: None, pause: FIRST_PAUSE }
    }

    /// Ready with the reason when the instance in service wants this one to end. Says meanwhile what `report` gives: at
    /// once, and when it has changed by more than its times, at most once a second.
    pub fn poll(&mut self, cx: &mut Context<'_>, report: impl Fn() -> InstanceReport) -> Poll<String> {
        loop {
            let Some(link) = &mut self.link else {
                if self.retry.as_mut().is_some_and(|retry| Pin::new(retry).poll(cx).is_pending()) {
                    return Poll::Pending;
                }
                self.retry = None;
                self.link = self.connect(report());
                if self.link.is_none() {
                    self.back_off();
                }
                continue;
            };
            match link.channel.poll_next(cx) {
                Poll::Ready(Ok(incoming)) => {
                    if let Message::End { why } = incoming.message {
                        return Poll::Ready(why);
                    }
                    tracing::debug!(
                        target: "river::handoff", message = incoming.message.name(),
                        "the instance in service does not take reports"
                    );
                    self.hang_up();
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(target: "river::handoff", %error, "the connection for reports ended");
                    self.hang_up();
                }
                Poll::Pending => {
                    if Pin::new(&mut link.look).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    link.look = Timer::after(LOOK);
                    link.say(report());
                }
            }
        }
    }

    /// Says a last word, as far as it can be said at once.
    pub fn last_word(&mut self, report: InstanceReport) {
        match &mut self.link {
            Some(link) => link.push(report),
            None => drop(self.connect(report)),
        }
    }

    fn connect(&self, report: InstanceReport) -> Option<Link> {
        let user = self.user.or_else(|| master_of(&self.path));
        let said = connect_to(&self.path, user).map_err(|error| with_cause(&error)).and_then(|(mut channel, peer)| {
            channel
                .push(&Message::Draining(report.clone()), Vec::new())
                .map_err(|error| with_cause(&error))?;
            tracing::debug!(target: "river::handoff", pid = peer.pid(), "reporting to the instance in service");
            Ok(Link { channel, begun: Instant::now(), said: report, look: Timer::after(LOOK) })
        });
        said.inspect_err(|why| {
            tracing::debug!(target: "river::handoff", why, "cannot report to an instance in service");
        })
        .ok()
    }

    fn hang_up(&mut self) {
        if self.link.take().is_some_and(|link| link.begun.elapsed() >= LASTED) {
            self.pause = FIRST_PAUSE;
        }
        self.back_off();
    }

    fn back_off(&mut self) {
        self.retry = Some(Timer::after(self.pause));
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

impl Link {
    /// Says the report if it says anything new, and the last one has left.
    fn say(&mut self, report: InstanceReport) {
        let InstanceReport { age_ms, deadline_ms, guard_ms, .. } = self.said;
        let times = (deadline_ms.is_some(), guard_ms.is_some());
        let same = (report.deadline_ms.is_some(), report.guard_ms.is_some()) == times
            && InstanceReport { age_ms, deadline_ms, guard_ms, ..report.clone() } == self.said;
        if !same && self.channel.is_flushed() {
            self.push(report);
        }
    }

    fn push(&mut self, report: InstanceReport) {
        if let Err(error) = self.channel.push(&Message::Draining(report.clone()), Vec::new()) {
            tracing::debug!(target: "river::handoff", %error, "cannot say how this instance fares");
        }
        self.said = report;
    }
}
