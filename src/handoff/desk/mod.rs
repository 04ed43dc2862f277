//! Where the instance in service receives those who want to take over, those who drain, and those who ask.
//!
//! Of those who want to take over one may wait, and others are told so. What they all are is decided by their first
//! message, for which they have [`GREETING_TIMEOUT`](super::GREETING_TIMEOUT).

mod greeter;
mod register;
mod watchers;

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::Pin;
use std::process;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;

use self::greeter::{Errand, Greeter};
use self::register::{Register, short};
use self::watchers::Watchers;
use super::{Channel, Failure, Giver, GiverEvent, UpgradeSocket};
use crate::base::{InstanceReport, InstanceState, ListenerId};
use crate::system::{PathError, Peer, PeerError};

/// How many connections may be introducing themselves at a time; more are closed.
const MAX_GREETERS: usize = 8;

/// How many connections are accepted before the host has its turn.
const BURST: usize = 16;

/// How many instances an answer names at most, so that it fits one message.
const MAX_LISTED: usize = 200;

/// How long accepting pauses after it failed, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The first process of a PID namespace, with which every other one in it ends (`pid_namespaces(7)`).
const INIT: u32 = 1;

/// Why nobody can take over from it.
const MORTAL: &str = "the instance in service has pid 1, as the first process of a container: when it ended after the \
                      hand-over, the kernel would end its successor, too; start River under an init (docker run --init, \
                      tini), under which it can be reloaded";

/// What an instance says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its build, such as `river 0.1.0`.
    pub build: String,
    /// How many instances took over from one another before it; a cold start is 1.
    pub generation: u64,
}

/// What the host allows at its desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long each step of a hand-over may take.
    pub step_timeout: Duration,
    /// How many earlier instances may drain at a time; the oldest is ended first.
    pub max_draining: NonZeroUsize,
}

/// The upgrade socket and those who came to it.
#[derive(Debug)]
pub struct Desk {
    socket: UpgradeSocket,
    identity: Identity,
    inventory: Vec<ListenerId>,
    step_timeout: Duration,
    greeters: Vec<Greeter>,
    /// Who has the one place, and waits or is about to.
    waiter: Option<Giver>,
    /// What happened while nobody asked.
    untold: Option<DeskEvent>,
    /// Who has the place, or was taken to hand over to.
    candidate: Option<Candidate>,
    register: Register,
    watchers: Watchers,
    state: InstanceState,
    pause: Option<Timer>,
}

/// An instance that is to take over.
#[derive(Debug)]
struct Candidate {
    pid: u32,
    build: String,
    since: Instant,
}

/// What happened at the desk.
#[derive(Debug, PartialEq, Eq)]
pub enum DeskEvent {
    /// An instance waits now.
    Waiting(u32),
    /// The instance that waited, or was about to, does not: it left, or did not say in time that it waits.
    Left(u32, Failure),
    /// Somebody is to be told what instances there are: [`Desk::answer`].
    Asked,
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
        bounds: Bounds,
    ) -> Result<Self, PathError> {
        Ok(Self {
            socket: UpgradeSocket::take(path, may_replace)?,
            identity,
            inventory,
            step_timeout: bounds.step_timeout,
            greeters: Vec::new(),
            waiter: None,
            untold: None,
            candidate: None,
            register: Register::new(bounds.max_draining.get()),
            watchers: Watchers::default(),
            state: InstanceState::Serving,
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
        self.waiter.take_if(|waiter| waiter.is_waiting())
    }

    /// The instance that was taken is dealt with; another may wait.
    pub fn free(&mut self) {
        self.candidate = None;
        self.watchers.touch();
    }

    /// The host is in this state now.
    pub fn enter(&mut self, state: InstanceState) {
        if self.state != state {
            self.state = state;
            self.watchers.touch();
        }
    }

    /// Tells those who asked what instances there are, after [`DeskEvent::Asked`]. `own` is the host's.
    pub fn answer(&mut self, own: InstanceReport) {
        let mut instances = vec![own];
        instances.extend(self.candidate.as_ref().map(|candidate| candidate.report(&self.identity)));
        instances.extend(self.register.reports());
        instances.truncate(MAX_LISTED);
        self.watchers.answer(instances);
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
    pub fn remove_if_ours(&self) -> io::Result<bool> {
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
        for _ in 0..BURST {
            // Those who have said already what they want make room for the next.
            if let Poll::Ready(event) = self.poll_greeters(cx) {
                return Poll::Ready(event);
            }
            if !self.accept(cx) {
                return self.poll_known(cx);
            }
        }
        // They never end; whoever is here already has a turn.
        cx.waker().wake_by_ref();
        self.poll_known(cx)
    }

    fn poll_known(&mut self, cx: &mut Context<'_>) -> Poll<DeskEvent> {
        if let Poll::Ready(event) = self.poll_waiter(cx) {
            return Poll::Ready(event);
        }
        if self.register.poll(cx) {
            self.watchers.touch();
        }
        if self.watchers.poll(cx) { Poll::Ready(DeskEvent::Asked) } else { Poll::Pending }
    }

    /// Accepts one connection; whether there may be another.
    fn accept(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pause) = &mut self.pause {
            if Pin::new(pause).poll(cx).is_pending() {
                return false;
            }
            self.pause = None;
        }
        let Poll::Ready(accepted) = self.socket.poll_accept(cx) else { return false };
        match accepted {
            Ok(accepted) => self.greet(accepted),
            Err(error) => {
                tracing::warn!(target: "river::handoff", %error, "cannot accept at the upgrade socket");
                let mut pause = Timer::after(PAUSE);
                let _ = Pin::new(&mut pause).poll(cx);
                self.pause = Some(pause);
                return false;
            }
        }
        true
    }

    fn greet(&mut self, accepted: Result<(Channel, Peer), PeerError>) {
        match accepted {
            Ok((channel, peer)) if self.greeters.len() < MAX_GREETERS => {
                self.greeters.push(Greeter::new(channel, peer));
            }
            Ok((_, peer)) => {
                let pid = peer.pid();
                tracing::warn!(target: "river::handoff", pid, "too many connections at the upgrade socket");
            }
            // Such as a draining instance whose first word was its last.
            Err(error) if error.is_gone() => {
                tracing::debug!(target: "river::handoff", "whoever connected to the upgrade socket has ended");
            }
            Err(error) => {
                tracing::warn!(target: "river::handoff", %error, "a connection to the upgrade socket is refused");
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
                    (self.waiter, self.candidate) = (None, None);
                    self.watchers.touch();
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
            let Poll::Ready(errand) = greeter.poll(cx) else {
                at += 1;
                continue;
            };
            self.greeters.swap_remove(at);
            if let Err(error) = self.receive(errand) {
                tracing::warn!(target: "river::handoff", %error, "cannot talk to another instance");
            }
            // A waiter's channel has to be polled once, so that this task hears of its end.
            if let Poll::Ready(event) = self.poll_waiter(cx) {
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    /// Does what somebody has come for.
    fn receive(&mut self, errand: Errand) -> io::Result<()> {
        match errand {
            Errand::TakeOver(channel, peer, first) => {
                self.let_wait(Giver::begin(channel, peer, self.step_timeout, first)?);
            }
            Errand::Ask { channel, peer, watch, streams } => {
                self.watchers.admit(channel, peer.pid(), watch, streams);
            }
            Errand::Report(channel, peer, report) => {
                self.watchers.touch();
                self.register.admit(channel, peer, report)?;
            }
            Errand::Refused(pid, why) => refused(pid, &why),
            Errand::Nothing(pid) => {
                tracing::debug!(target: "river::handoff", pid, "a connection to the upgrade socket ended");
            }
        }
        Ok(())
    }

    /// Gives a successor the place, unless another has it.
    fn let_wait(&mut self, mut newcomer: Giver) {
        let pid = newcomer.pid();
        // It has said its first message, so what it is can be told at once.
        match newcomer.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(GiverEvent::Greeted) => {}
            Poll::Ready(GiverEvent::Failed(failure)) => return refused(pid, &failure.to_string()),
            event => {
                tracing::debug!(target: "river::handoff", pid, ?event, "a connection to the upgrade socket ended");
                return;
            }
        }
        if process::id() == INIT {
            refused(pid, MORTAL);
            newcomer.refuse(MORTAL);
            return;
        }
        if let Some(other) = self.candidate.as_ref().map(|candidate| candidate.pid) {
            tracing::warn!(target: "river::handoff", pid, waiting = other, "a second instance is refused");
            newcomer.refuse(&format!("pid {other} is waiting already; end it or let it take over first"));
            // Should it hold the place and not answer, the next one finds it free.
            if let Some(waiter) = &mut self.waiter {
                waiter.probe();
            }
            return;
        }
        newcomer.welcome(&self.identity, &self.inventory);
        let build = short(newcomer.build());
        self.candidate = Some(Candidate { pid, build, since: Instant::now() });
        self.waiter = Some(newcomer);
        self.watchers.touch();
    }
}

fn refused(pid: u32, why: &str) {
    tracing::warn!(target: "river::handoff", pid, why, "a connection to the upgrade socket is refused");
}

impl Candidate {
    /// What is known of it while it has not served.
    fn report(&self, incumbent: &Identity) -> InstanceReport {
        let generation = incumbent.generation.saturating_add(1);
        let age_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = InstanceReport::new(self.pid, generation, &self.build, InstanceState::AwaitingHandoff);
        InstanceReport { age_ms, ..report }
    }
}
