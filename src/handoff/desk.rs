//! Where the instance in service receives those who want to take over: one may wait, others are told so.

use std::path::Path;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use std::future::Future;
use std::pin::Pin;

use async_io::Timer;

use super::{Failure, Giver, GiverEvent, UpgradeSocket};
use crate::base::ListenerId;
use crate::system::PathError;

/// How many connections may be introducing themselves at a time; more are closed.
const MAX_GREETERS: usize = 8;

/// How long accepting pauses after it failed, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its build, such as `river 0.1.0`.
    pub build: String,
    /// How many instances took over from one another before it; a cold start is 1.
    pub generation: u64,
}

/// The upgrade socket and those who came to it.
#[derive(Debug)]
pub struct Desk {
    socket: UpgradeSocket,
    identity: Identity,
    inventory: Vec<ListenerId>,
    step_timeout: Duration,
    greeters: Vec<Giver>,
    /// Who has the one place, and waits or is about to.
    waiter: Option<Giver>,
    /// What happened while nobody asked.
    untold: Option<DeskEvent>,
    busy_with: Option<u32>,
    pause: Option<Timer>,
}

/// What happened at the desk.
#[derive(Debug, PartialEq, Eq)]
pub enum DeskEvent {
    /// An instance waits now.
    Waiting(u32),
    /// The instance that waited, or was about to, does not: it left, or did not say in time that it waits.
    Left(u32, Failure),
}

impl Desk {
    /// Takes the upgrade socket's path and opens the desk.
    ///
    /// # Errors
    /// As [`UpgradeSocket::take`].
    pub fn open(
        path: &Path,
        may_replace: &[u32],
        identity: Identity,
        inventory: Vec<ListenerId>,
        step_timeout: Duration,
    ) -> Result<Self, PathError> {
        Ok(Self {
            socket: UpgradeSocket::take(path, may_replace)?,
            identity,
            inventory,
            step_timeout,
            greeters: Vec::new(),
            waiter: None,
            untold: None,
            busy_with: None,
            pause: None,
        })
    }

    /// The pid of the instance that waits or is about to.
    pub fn waiter(&self) -> Option<u32> {
        self.waiter.as_ref().map(Giver::pid)
    }

    /// Takes the waiting instance to hand over to it. Until [`free`](Self::free), others are refused.
    pub fn take_waiter(&mut self) -> Option<Giver> {
        // What it said before it was asked to take over counts, although nobody may have listened since. The waker is
        // replaced when the desk is polled next.
        if let Poll::Ready(left @ DeskEvent::Left(..)) =
            self.poll_waiter(&mut Context::from_waker(Waker::noop()))
        {
            self.untold = Some(left);
        }
        let waiter = self.waiter.take_if(|waiter| waiter.is_waiting())?;
        self.busy_with = Some(waiter.pid());
        Some(waiter)
    }

    /// The instance that was taken is dealt with; another may wait.
    pub fn free(&mut self) {
        self.busy_with = None;
    }

    /// Whether the path still leads here.
    pub fn is_ours(&self) -> bool {
        self.socket.is_ours()
    }

    /// Takes the path again if one of the processes `may_replace`, or one that has ended, has replaced it.
    ///
    /// # Errors
    /// As [`UpgradeSocket::take`]; this desk then goes on without a path.
    pub fn reclaim(&mut self, path: &Path, may_replace: &[u32]) -> Result<(), PathError> {
        if !self.socket.is_ours() {
            self.socket = UpgradeSocket::take(path, may_replace)?;
        }
        Ok(())
    }

    /// Removes the path if it still leads here.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn remove_if_ours(&self) -> std::io::Result<bool> {
        self.socket.remove_if_ours()
    }

    /// Closes the desk because this instance ends, and tells the waiting one why. The path stays.
    pub fn close(mut self, why: &str) {
        if let Some(waiter) = &mut self.waiter {
            waiter.dismiss(why);
        }
    }

    /// What happened next.
    pub async fn next(&mut self) -> DeskEvent {
        futures_lite::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What happened next; the task is woken when there may be something.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<DeskEvent> {
        if let Some(event) = self.untold.take() {
            return Poll::Ready(event);
        }
        self.poll_accept(cx);
        if let Poll::Ready(event) = self.poll_waiter(cx) {
            return Poll::Ready(event);
        }
        self.poll_greeters(cx)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        if let Some(pause) = &mut self.pause {
            if Pin::new(pause).poll(cx).is_pending() {
                return;
            }
            self.pause = None;
        }
        while let Poll::Ready(accepted) = self.socket.poll_accept(cx) {
            match accepted {
                Ok(Ok((channel, peer))) if self.greeters.len() < MAX_GREETERS => {
                    match Giver::new(channel, peer, self.step_timeout) {
                        Ok(giver) => self.greeters.push(giver),
                        Err(error) => {
                            tracing::warn!(target: "river::handoff", %error, "cannot talk to a new instance");
                        }
                    }
                }
                Ok(Ok((_, peer))) => {
                    let pid = peer.pid();
                    tracing::warn!(target: "river::handoff", pid, "too many connections at the upgrade socket");
                }
                Ok(Err(error)) => {
                    tracing::warn!(target: "river::handoff", %error, "a connection to the upgrade socket is refused");
                }
                Err(error) => {
                    tracing::warn!(target: "river::handoff", %error, "cannot accept at the upgrade socket");
                    let mut pause = Timer::after(PAUSE);
                    let _ = Pin::new(&mut pause).poll(cx);
                    self.pause = Some(pause);
                    return;
                }
            }
        }
    }

    fn poll_waiter(&mut self, cx: &mut Context<'_>) -> Poll<DeskEvent> {
        let Some(waiter) = &mut self.waiter else { return Poll::Pending };
        let pid = waiter.pid();
        loop {
            match waiter.poll_next(cx) {
                Poll::Ready(GiverEvent::Waiting) => return Poll::Ready(DeskEvent::Waiting(pid)),
                Poll::Ready(GiverEvent::Failed(failure)) => {
                    self.waiter = None;
                    return Poll::Ready(DeskEvent::Left(pid, failure));
                }
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_greeters(&mut self, cx: &mut Context<'_>) -> Poll<DeskEvent> {
        let mut at = 0;
        while let Some(greeter) = self.greeters.get_mut(at) {
            let Poll::Ready(event) = greeter.poll_next(cx) else {
                at += 1;
                continue;
            };
            let mut greeter = self.greeters.swap_remove(at);
            let pid = greeter.pid();
            match event {
                GiverEvent::Greeted => {}
                GiverEvent::Failed(failure) if failure != Failure::Closed => {
                    tracing::warn!(
                        target: "river::handoff",
                        pid, why = %failure, "a connection to the upgrade socket is refused"
                    );
                    continue;
                }
                // A look at whether anybody is in service is nothing to report.
                _ => {
                    tracing::debug!(target: "river::handoff", pid, ?event, "a connection to the upgrade socket ended");
                    continue;
                }
            }
            match self.waiter().or(self.busy_with) {
                Some(other) => {
                    tracing::warn!(target: "river::handoff", pid, waiting = other, "a second instance is refused");
                    greeter
                        .refuse(&format!("pid {other} is waiting already; end it or let it take over first"));
                    // Should it hold the place and not answer, the next one finds it free.
                    if let Some(waiter) = &mut self.waiter {
                        waiter.probe();
                    }
                    // Polled, so that this task is woken when the time to answer is over.
                    if let Poll::Ready(event) = self.poll_waiter(cx) {
                        return Poll::Ready(event);
                    }
                }
                None => {
                    greeter.welcome(&self.identity, &self.inventory);
                    self.waiter = Some(greeter);
                    // Its channel has to be polled once, so that this task hears of its end.
                    if let Poll::Ready(event) = self.poll_waiter(cx) {
                        return Poll::Ready(event);
                    }
                }
            }
        }
        Poll::Pending
    }
}
