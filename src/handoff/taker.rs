//! The successor's side of one hand-over over a real channel, with its deadlines.

use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::{Async, Timer};

use super::deadline::Deadline;
use super::giver::{BURST, with_cause};
use super::successor::Output;
use super::{Channel, ChannelError, Failure, Message, Successor};
use crate::base::{Label, ListenerId, Moved};
use crate::system::{Peer, has_ended};
use crate::tls::TicketKeys;

/// A process's descriptors are closed a moment before its end is told; longer than this it is alive.
const LAST_GASP: Duration = Duration::from_secs(1);

/// The conversation with the instance in service.
#[derive(Debug)]
pub struct Taker {
    channel: Channel,
    pid: u32,
    pidfd: Option<Async<OwnedFd>>,
    machine: Successor,
    step_timeout: Duration,
    deadline: Deadline<(&'static str, u32)>,
    fds: Vec<OwnedFd>,
    /// The keys that came with the offer.
    tickets: Vec<(ListenerId, TicketKeys)>,
    pending: VecDeque<TakerEvent>,
    /// Set when the connection has ended: how long to wait for the process's end, which may come a little later.
    closed: Option<Timer>,
}

/// What the incumbent did.
#[derive(Debug)]
pub enum TakerEvent {
    /// It lets this instance wait.
    Welcomed {
        /// Its build.
        build: String,
        /// Its generation; this instance's is one more.
        generation: u64,
    },
    /// It will offer these listeners: bind what is new, then say bound or refuse.
    Inventory(Vec<ListenerId>),
    /// It offers these, with the keys of session tickets of some: check them, then say adopted or refuse.
    Offered(Vec<(Label, OwnedFd)>, Vec<(ListenerId, TicketKeys)>),
    /// All is offered: listen, start, then say ready or refuse.
    Prepare,
    /// It lets this instance take over: take the files, then say owned.
    Commit,
    /// It passes a connection on: check it, then say taken or declined.
    Arrived {
        /// Its number, for the answer.
        number: u64,
        /// What there is to know of it.
        moved: Moved,
        /// Its sockets, as many as [`Moved::sockets`] says.
        fds: Vec<OwnedFd>,
    },
    /// It has ended in good order.
    Drained,
    /// It took the service back, and its process has not ended since: step down.
    StepDown(String),
    /// Its process ended before this instance owned the service.
    Died,
    /// The hand-over is over. Before `owned` the incumbent serves; after it this instance does.
    Failed(Failure),
}

impl Taker {
    /// Introduces this process to the instance in service.
    ///
    /// # Errors
    /// When `Hello` has no form on the wire.
    pub fn new(
        channel: Channel,
        peer: Peer,
        build: &str,
        step_timeout: Duration,
    ) -> Result<Self, super::MessageError> {
        let (machine, hello) = Successor::new(std::process::id(), build);
        let (pid, pidfd) = peer.into_parts();
        let mut taker = Self {
            channel,
            pid,
            // A pidfd is opened nonblocking already. Without it a death looks like a closed connection.
            pidfd: Async::new_nonblocking(pidfd).ok(),
            machine,
            step_timeout,
            deadline: Deadline::default(),
            fds: Vec::new(),
            tickets: Vec::new(),
            pending: VecDeque::new(),
            closed: None,
        };
        taker.channel.push(&hello, Vec::new())?;
        taker.arm();
        Ok(taker)
    }

    /// The incumbent's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What is new is bound: this instance waits.
    pub fn bound(&mut self) {
        let outputs = self.machine.bound();
        self.perform(outputs);
    }

    /// The batch is adopted but for the unwanted ones.
    pub fn adopted(&mut self, unwanted: Vec<ListenerId>) {
        let outputs = self.machine.adopted(unwanted);
        self.perform(outputs);
    }

    /// Everything listens and the workers accept.
    pub fn ready(&mut self) {
        let outputs = self.machine.ready();
        self.perform(outputs);
    }

    /// Pidfile and upgrade socket are taken.
    pub fn owned(&mut self) {
        let outputs = self.machine.owned();
        self.perform(outputs);
    }

    /// Says that this instance has the connection of this number. Only if this returns true may it be served: then the
    /// incumbent hears so; otherwise it keeps the connection.
    #[must_use]
    pub fn taken(&mut self, number: u64) -> bool {
        let outputs = self.machine.taken(number);
        let Some(Output::Send(taken)) = outputs.first() else { return false };
        if self.channel.send_now(taken).unwrap_or(false) {
            return true;
        }
        // What is queued here may never be sent, and the incumbent would go on with the connection.
        let why = "the answer cannot be sent at once".to_owned();
        self.send(&Message::Declined { number, why });
        false
    }

    /// Says that the connection of this number stays where it is.
    pub fn declined(&mut self, number: u64, why: &str) {
        let outputs = self.machine.declined(number, why.to_owned());
        self.perform(outputs);
    }

    /// Says no.
    pub fn refuse(&mut self, why: &str) {
        let outputs = self.machine.refuse(why.to_owned());
        self.perform(outputs);
        // The host knows what it said.
        self.pending.retain(|event| !matches!(event, TakerEvent::Failed(_)));
    }

    /// Tells the incumbent that this instance ends on purpose.
    pub fn released(&mut self) {
        let outputs = self.machine.released();
        self.perform(outputs);
    }

    /// What it talks over, to say what it would not.
    #[cfg(test)]
    pub(super) fn channel_for_tests(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Takes what is readable once `pidfd` is for the incumbent's end.
    #[cfg(test)]
    pub(super) fn watch_for_tests(&mut self, pidfd: OwnedFd) {
        self.pidfd = Some(Async::new_nonblocking(pidfd).unwrap());
    }

    /// What the incumbent did next.
    pub async fn next(&mut self) -> TakerEvent {
        futures_lite::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What the incumbent did next; the task is woken when there may be something. Pending for ever at the end.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<TakerEvent> {
        let mut heard = 0_u32;
        loop {
            if let Some(event) = self.pending.pop_front() {
                let invites =
                    matches!(event, TakerEvent::Offered(..) | TakerEvent::Prepare | TakerEvent::Commit);
                if invites && self.is_taken_back(cx) {
                    continue;
                }
                if matches!(event, TakerEvent::StepDown(_)) && self.has_died(cx) {
                    // It serves no longer, whatever it said before, and this instance does.
                    return Poll::Ready(TakerEvent::Failed(Failure::Closed));
                }
                return Poll::Ready(event);
            }
            if self.closed.is_some() {
                return self.poll_end(cx);
            }
            // A peer that never stops talking does not put it off; what was said while this process was stopped counts.
            if heard > 0 && self.deadline.is_over(cx) {
                let outputs = self.machine.deadline();
                self.perform(outputs);
                continue;
            }
            if heard == BURST {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            heard += 1;
            let outputs = match self.channel.poll_next(cx) {
                Poll::Ready(Ok(mut incoming)) => {
                    self.fds = incoming.fds;
                    if let Message::Offer { tickets, .. } = &mut incoming.message {
                        self.tickets = std::mem::take(tickets);
                    }
                    self.machine.message(incoming.message)
                }
                Poll::Ready(Err(ChannelError::Unreadable(error))) => {
                    self.machine.unreadable(with_cause(&error))
                }
                Poll::Ready(Err(ChannelError::Io(error))) => {
                    // It may fail for ever, so nothing more is read.
                    self.closed = Some(Timer::after(LAST_GASP));
                    self.machine.unreadable(with_cause(&error))
                }
                Poll::Ready(Err(_)) => {
                    self.closed = Some(Timer::after(LAST_GASP));
                    self.deadline.clear();
                    continue;
                }
                Poll::Pending if self.deadline.is_over(cx) => self.machine.deadline(),
                Poll::Pending => return Poll::Pending,
            };
            self.perform(outputs);
            // Descriptors and keys that nothing has asked for.
            self.fds.clear();
            self.tickets.clear();
        }
    }

    /// Whether the incumbent has thought better of its `Offer` or `Commit`: this process may have been stopped since that came,
    /// and somebody else be in service by now. The failure is pending then.
    fn is_taken_back(&mut self, cx: &mut Context<'_>) -> bool {
        let outputs = match self.channel.poll_next(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(incoming)) => self.machine.message(incoming.message),
            Poll::Ready(Err(ChannelError::Unreadable(error))) => self.machine.unreadable(with_cause(&error)),
            Poll::Ready(Err(ChannelError::Io(error))) => self.machine.unreadable(with_cause(&error)),
            Poll::Ready(Err(_)) => {
                // An incumbent that only ended has taken nothing back.
                self.closed = Some(Timer::after(LAST_GASP));
                return false;
            }
        };
        self.perform(outputs);
        self.machine.is_over()
    }

    /// Tells the end of the incumbent's process from the end of its connection alone.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<TakerEvent> {
        if self.machine.is_over() {
            return Poll::Pending;
        }
        let died = self.has_died(cx);
        let late = self.closed.as_mut().is_none_or(|timer| Pin::new(timer).poll(cx).is_ready());
        if died && !self.machine.is_owner() {
            let _ = self.machine.closed();
            return Poll::Ready(TakerEvent::Died);
        }
        if died || late || self.machine.is_owner() {
            let _ = self.machine.closed();
            return Poll::Ready(TakerEvent::Failed(Failure::Closed));
        }
        Poll::Pending
    }

    /// Whether its process has ended by now; the task is woken when it does later.
    fn has_died(&self, cx: &mut Context<'_>) -> bool {
        // The reactor has not looked yet where nobody has asked before.
        self.pidfd.as_ref().is_some_and(|pidfd| pidfd.poll_readable(cx).is_ready() || has_ended(pidfd))
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(message) => self.send(&message),
                Output::Welcomed { build, generation, .. } => {
                    self.pending.push_back(TakerEvent::Welcomed { build, generation });
                }
                Output::Inventory(ids) => self.pending.push_back(TakerEvent::Inventory(ids)),
                Output::Check(labels) => self.check(labels),
                Output::Prepare => self.pending.push_back(TakerEvent::Prepare),
                Output::Commit => self.pending.push_back(TakerEvent::Commit),
                Output::Arrived { number, moved } => self.arrive(number, moved),
                Output::Drained => self.pending.push_back(TakerEvent::Drained),
                Output::StepDown(why) => self.pending.push_back(TakerEvent::StepDown(why)),
                Output::Failed(failure) => self.pending.push_back(TakerEvent::Failed(failure)),
            }
        }
        self.arm();
    }

    /// Pairs labels with descriptors; a wrong count means that nothing can be trusted.
    fn check(&mut self, labels: Vec<Label>) {
        let fds = std::mem::take(&mut self.fds);
        if labels.len() != fds.len() {
            let why = format!("{} descriptors came for {} listeners", fds.len(), labels.len());
            let outputs = self.machine.refuse(why);
            self.perform(outputs);
            return;
        }
        let tickets = std::mem::take(&mut self.tickets);
        self.pending.push_back(TakerEvent::Offered(labels.into_iter().zip(fds).collect(), tickets));
    }

    fn arrive(&mut self, number: u64, moved: Moved) {
        let fds = std::mem::take(&mut self.fds);
        let expected = moved.sockets();
        if fds.len() == expected {
            self.pending.push_back(TakerEvent::Arrived { number, moved, fds });
        } else {
            self.declined(number, &format!("{} sockets came, where there should be {expected}", fds.len()));
        }
    }

    fn send(&mut self, message: &Message) {
        if let Err(error) = self.channel.push(message, Vec::new()) {
            let why = format!("cannot send {}: {}", message.name(), with_cause(&error));
            let outputs = self.machine.refuse(why);
            self.perform(outputs);
        }
    }

    fn arm(&mut self) {
        let step_timeout = self.step_timeout;
        self.deadline.arm(self.machine.limited(), |_| step_timeout);
    }
}
