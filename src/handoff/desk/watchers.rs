//! Those who asked what instances there are, and those of them who want to know at every change.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;

use crate::base::InstanceReport;
use crate::handoff::deadline::Deadline;
use crate::handoff::{Channel, Message};

/// How many may watch at a time; more are refused.
const MAX_WATCHERS: usize = 8;

/// The time between two answers, at least.
const PAUSE: Duration = Duration::from_millis(50);

/// How often numbers are looked at whose change nothing announces, while somebody watches.
const LOOK: Duration = Duration::from_secs(1);

/// How long a watcher may leave an answer where it is.
const STUCK: Duration = Duration::from_secs(10);

/// Who watches.
#[derive(Debug)]
pub(super) struct Watchers {
    watching: Vec<Watcher>,
    /// How long one may leave an answer where it is.
    patience: Duration,
    /// Something may have changed since the last answer.
    stale: bool,
    pause: Option<Timer>,
    look: Option<Timer>,
}

#[derive(Debug)]
struct Watcher {
    channel: Channel,
    pid: u32,
    watch: bool,
    streams: bool,
    /// What it knows, without the times; nothing before the first answer.
    knows: Option<Vec<InstanceReport>>,
    stuck: Deadline<()>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { watching: Vec::new(), patience: STUCK, stale: false, pause: None, look: None }
    }
}

impl Watchers {
    /// Takes a question. What is asked once is answered at the next [`answer`](Self::answer) like the rest.
    pub(super) fn admit(&mut self, mut channel: Channel, pid: u32, watch: bool, streams: bool) {
        if watch && self.watching.iter().filter(|one| one.watch).count() >= MAX_WATCHERS {
            tracing::warn!(target: "river::handoff", pid, "too many watch the instances; one is refused");
            let why = format!("{MAX_WATCHERS} watch already");
            let _ = channel.push(&Message::Refuse { why }, Vec::new());
            return;
        }
        let stuck = Deadline::default();
        self.watching.push(Watcher { channel, pid, watch, streams, knows: None, stuck });
    }

    /// Something has changed.
    pub(super) fn touch(&mut self) {
        self.stale = true;
    }

    /// Whether it is time for an [`answer`](Self::answer); the task is woken when it may be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.watching.retain_mut(|watcher| watcher.is_there(self.patience, cx));
        if self.watching.iter().any(|watcher| watcher.knows.is_none()) {
            return true;
        }
        if self.watching.is_empty() {
            (self.stale, self.pause, self.look) = (false, None, None);
            return false;
        }
        self.stale |= is_over(&mut self.look, cx);
        if is_over(&mut self.pause, cx) {
            self.pause = None;
        }
        self.stale && self.pause.is_none()
    }

    /// Tells everyone who does not know it yet.
    pub(super) fn answer(&mut self, instances: Vec<InstanceReport>) {
        let known: Vec<_> = instances.iter().cloned().map(timeless).collect();
        let answer = Message::Instances(instances);
        self.stale = false;
        for watcher in &mut self.watching {
            if !watcher.channel.is_flushed() {
                // It is told when it has taken the last answer.
                self.stale = true;
            } else if watcher.knows.as_ref() != Some(&known) {
                let first = watcher.knows.replace(known.clone()).is_none();
                let fds = if first && watcher.streams { streams() } else { Vec::new() };
                if let Err(error) = watcher.channel.push(&answer, fds) {
                    tracing::warn!(target: "river::handoff", %error, "cannot tell what instances there are");
                }
            }
        }
        self.watching.retain(|watcher| watcher.watch);
        self.pause = Some(Timer::after(PAUSE));
        self.look = Some(Timer::after(LOOK));
    }
}

impl Watcher {
    /// Whether it is still to be told. It has nothing to say itself.
    fn is_there(&mut self, patience: Duration, cx: &mut Context<'_>) -> bool {
        let heard = self.channel.poll_next(cx);
        self.stuck.arm((!self.channel.is_flushed()).then_some(()), |()| patience);
        let why = match heard {
            Poll::Pending if self.stuck.is_over(cx) => "it does not read",
            Poll::Pending => return true,
            Poll::Ready(Ok(_)) => "it says what it should not",
            Poll::Ready(Err(_)) => "it has closed the connection",
        };
        tracing::debug!(target: "river::handoff", pid = self.pid, why, "one who watched is let go of");
        false
    }
}

fn is_over(timer: &mut Option<Timer>, cx: &mut Context<'_>) -> bool {
    timer.as_mut().is_some_and(|timer| Pin::new(timer).poll(cx).is_ready())
}

/// A report without what changes by itself.
fn timeless(report: InstanceReport) -> InstanceReport {
    let (deadline_ms, guard_ms) = (report.deadline_ms.map(|_| 0), report.guard_ms.map(|_| 0));
    InstanceReport { age_ms: 0, deadline_ms, guard_ms, ..report }
}

/// This process's standard output and standard error, to be passed on.
fn streams() -> Vec<Arc<OwnedFd>> {
    let copies = || -> io::Result<_> {
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        let err = io::stderr().as_fd().try_clone_to_owned()?;
        Ok(vec![Arc::new(out), Arc::new(err)])
    };
    copies().unwrap_or_else(|error| {
        tracing::warn!(target: "river::handoff", %error, "cannot pass the standard streams");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_lite::future;

    use super::*;
    use crate::base::InstanceState;
    use crate::handoff::channel::tests::pair;

    fn report(age_ms: u64, connections: u64) -> InstanceReport {
        let report = InstanceReport::new(7, 1, "river test", InstanceState::Serving);
        InstanceReport { age_ms, connections, ..report }
    }

    fn watcher(watchers: &mut Watchers, watch: bool) -> Channel {
        let (near, far) = pair();
        watchers.admit(Channel::new(near).unwrap(), 7, watch, false);
        Channel::new(far).unwrap()
    }

    async fn due(watchers: &mut Watchers) {
        let due = future::poll_fn(|cx| if watchers.poll(cx) { Poll::Ready(true) } else { Poll::Pending });
        let late = async {
            Timer::after(Duration::from_secs(5)).await;
            false
        };
        assert!(future::or(due, late).await, "no answer is due");
    }

    async fn heard(channel: &mut Channel) -> Message {
        channel.next_before(Instant::now() + Duration::from_secs(5)).await.unwrap().message
    }

    #[test]
    fn only_what_is_new_is_said_and_not_too_often() {
        let mut watchers = Watchers::default();
        async_io::block_on(async {
            let mut far = watcher(&mut watchers, true);
            due(&mut watchers).await;
            watchers.answer(vec![report(1, 1)]);
            assert_eq!(heard(&mut far).await, Message::Instances(vec![report(1, 1)]));
            let begin = Instant::now();
            watchers.touch();
            due(&mut watchers).await;
            assert!(begin.elapsed() >= PAUSE / 2, "{:?}", begin.elapsed());
            watchers.answer(vec![report(2, 1)]);
            assert!(future::poll_once(far.next()).await.is_none(), "it is only older");
            // Nobody says that numbers change; they are looked at.
            due(&mut watchers).await;
            assert!(begin.elapsed() >= LOOK, "{:?}", begin.elapsed());
            watchers.answer(vec![report(3, 2)]);
            assert_eq!(heard(&mut far).await, Message::Instances(vec![report(3, 2)]));
        });
    }

    #[test]
    fn who_asks_once_is_answered_beside_those_who_watch() {
        let mut watchers = Watchers::default();
        async_io::block_on(async {
            let mut watching: Vec<_> = (0..=MAX_WATCHERS).map(|_| watcher(&mut watchers, true)).collect();
            let mut once = watcher(&mut watchers, false);
            assert!(matches!(heard(&mut watching.pop().unwrap()).await, Message::Refuse { .. }));
            due(&mut watchers).await;
            watchers.answer(vec![report(1, 1)]);
            for far in watching.iter_mut().chain([&mut once]) {
                assert!(matches!(heard(far).await, Message::Instances(_)));
            }
            assert!(once.next().await.is_err() && watchers.watching.len() == MAX_WATCHERS);
        });
    }

    #[test]
    fn who_does_not_read_is_kept_one_answer_and_let_go_of() {
        let mut watchers = Watchers { patience: Duration::from_millis(50), ..Watchers::default() };
        async_io::block_on(async {
            let (_deaf, mut heeding) = (watcher(&mut watchers, true), watcher(&mut watchers, true));
            let mut nth = 0;
            while watchers.watching.iter().all(|one| one.channel.is_flushed()) {
                nth += 1;
                watchers.answer(vec![report(1, nth); 200]);
                assert!(matches!(heard(&mut heeding).await, Message::Instances(_)));
            }
            assert!(nth > 1);
            due(&mut watchers).await;
            watchers.answer(vec![report(1, 0); 200]);
            assert!(matches!(heard(&mut heeding).await, Message::Instances(_)));
            let begin = Instant::now();
            while watchers.watching.len() > 1 {
                assert!(begin.elapsed() < Duration::from_secs(5), "the deaf one is kept");
                due(&mut watchers).await;
                watchers.answer(vec![report(1, 0); 200]);
            }
            assert!(future::poll_once(heeding.next()).await.is_none(), "nothing is new");
        });
    }
}
