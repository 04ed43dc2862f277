//! The incumbent's side of one hand-over over a real channel, with its deadlines.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Async;

use super::deadline::Deadline;
use super::incumbent::Output;
use super::{Channel, ChannelError, Failure, GREETING_TIMEOUT, Identity, Incumbent, Message};
use crate::base::{Label, ListenerId, Moved};
use crate::system::{Listening, MAX_DESCRIPTORS, Peer};
use crate::tls::TicketKeys;

/// How much of a message the labels of one batch may fill, as a rough count of bytes before quoting.
const BATCH_BYTES: usize = 48 * 1024;

/// How long the successor may leave a connection that is passed on without an answer, where a step's time is no shorter.
/// The connection's client waits meanwhile. Giving up is safe, for a late answer cannot be given.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

/// How many messages without meaning are read from a successor that serves, or with which the hand-over is over. After
/// that only its process's end counts.
const MAX_IGNORED: u32 = 16;

/// How many messages are read before something else gets its turn.
pub(super) const BURST: u32 = 64;

/// The conversation with one successor, from its first byte to its last.
///
/// The connection stays open after the hand-over has failed or passed: its end says that the successor will touch
/// nothing any more.
#[derive(Debug)]
pub struct Giver {
    channel: Channel,
    pid: u32,
    pidfd: Async<OwnedFd>,
    build: String,
    machine: Incumbent,
    step_timeout: Duration,
    deadline: Deadline<(&'static str, u64)>,
    batches: Vec<Vec<Offered>>,
    /// The connections whose transfers are outstanding.
    parcels: BTreeMap<u64, Parcel>,
    pending: VecDeque<GiverEvent>,
    reading: Reading,
    released: bool,
    ignored: u32,
    /// Why the last connection was declined.
    declined: String,
}

/// A listener that is offered: its label, its socket, and the keys of its session tickets.
type Offered = (Label, Arc<OwnedFd>, Option<TicketKeys>);

/// A connection that was passed on.
struct Parcel {
    since: Instant,
    /// Called when the successor has it, dropped if it stays.
    gone: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("since", &self.since).finish_non_exhaustive()
    }
}

/// What can still be heard from the successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Its words.
    Words,
    /// That its process has ended. Its words cannot be read any more, but it may hold its end of the connection.
    Death,
    /// It has closed its end of the connection: once it serves, that its process has ended.
    Closed,
    /// Nothing.
    Nothing,
}

/// What the successor did.
#[derive(Debug, PartialEq, Eq)]
pub enum GiverEvent {
    /// It introduced itself.
    Greeted,
    /// It waits: it can be offered the listeners.
    Waiting,
    /// It accepts on everything: commit or refuse.
    Ready,
    /// It serves, and does not want these listeners.
    Owned(Vec<ListenerId>),
    /// It ends on purpose.
    Released,
    /// It has a connection that was passed on.
    Taken,
    /// It takes no more connections, though it goes on; those that it has not taken stay.
    MovesEnded,
    /// The hand-over failed; this instance serves on.
    Failed(Failure),
    /// The connection, or the process, ended after the hand-over had failed: the successor touches nothing any more.
    /// It comes once, as the last.
    Gone,
    /// The successor's process ended, without `Released`, after it was `Owned`.
    Died,
}

impl Giver {
    /// A conversation with whoever connected to the upgrade socket.
    ///
    /// # Errors
    /// When the reactor does not take the peer's pidfd.
    pub fn new(channel: Channel, peer: Peer, step_timeout: Duration) -> std::io::Result<Self> {
        let (pid, pidfd) = peer.into_parts();
        let mut giver = Self {
            channel,
            pid,
            // A pidfd is opened nonblocking already and has no flags to set.
            pidfd: Async::new_nonblocking(pidfd)?,
            build: String::new(),
            machine: Incumbent::default(),
            step_timeout,
            deadline: Deadline::default(),
            batches: Vec::new(),
            parcels: BTreeMap::new(),
            pending: VecDeque::new(),
            reading: Reading::Words,
            released: false,
            ignored: 0,
            declined: String::new(),
        };
        giver.arm();
        Ok(giver)
    }

    /// A conversation whose first message has come already: [`GiverEvent::Greeted`] follows, or a failure.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn begin(
        channel: Channel,
        peer: Peer,
        step_timeout: Duration,
        first: Message,
    ) -> std::io::Result<Self> {
        let mut giver = Self::new(channel, peer, step_timeout)?;
        if let Message::Hello { build, .. } = &first {
            giver.build.clone_from(build);
        }
        let outputs = giver.machine.message(first);
        giver.perform(outputs);
        Ok(giver)
    }

    /// The successor's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The successor's build, as it introduced itself.
    pub fn build(&self) -> &str {
        &self.build
    }

    /// Lets the successor wait, and tells it which listeners it will be offered.
    pub fn welcome(&mut self, identity: &Identity, inventory: &[ListenerId]) {
        let parts = split(inventory.to_vec(), usize::MAX, |id| id.to_string().len());
        let outputs = self.machine.welcome(std::process::id(), &identity.build, identity.generation, parts);
        self.perform(outputs);
    }

    /// Whether it waits, so that it can be offered the listeners.
    pub fn is_waiting(&self) -> bool {
        self.machine.is_waiting()
    }

    /// Asks whether it still waits; without an answer in time the hand-over fails.
    pub fn probe(&mut self) {
        let outputs = self.machine.probe();
        self.perform(outputs);
    }

    /// Offers these listeners, each with the ticket keys that it has. The answer is [`GiverEvent::Ready`] or a failure.
    pub fn offer(
        &mut self,
        listeners: &[Listening],
        ticket_keys: impl Fn(&ListenerId) -> Option<TicketKeys>,
    ) {
        let takes_tickets = self.machine.takes_tickets();
        let keys = |id| takes_tickets.then(|| ticket_keys(id)).flatten();
        let all = listeners.iter().map(|one| (one.label(), one.fd.clone(), keys(&one.id))).collect();
        self.batches = split(all, MAX_DESCRIPTORS, |(label, _, keys): &Offered| {
            let id = label.id.to_string().len();
            let keys = keys.as_ref().map_or(0, |keys| keys.written().saturating_add(id));
            id.saturating_add(label.address.to_string().len()).saturating_add(keys)
        });
        if self.batches.is_empty() {
            self.batches.push(Vec::new());
        }
        let outputs = self.machine.offer(u32::try_from(self.batches.len()).unwrap_or(u32::MAX));
        self.perform(outputs);
    }

    /// Lets the successor take over, after [`GiverEvent::Ready`].
    pub fn commit(&mut self) {
        let outputs = self.machine.commit();
        self.perform(outputs);
    }

    /// Says no. [`GiverEvent::Gone`] follows when the successor has closed its end.
    pub fn refuse(&mut self, why: &str) {
        let outputs = self.machine.refuse(why.to_owned());
        self.perform(outputs);
        // The host knows what it said.
        self.pending.retain(|event| !matches!(event, GiverEvent::Failed(_)));
    }

    /// Passes a connection on, with its sockets. `gone` is called once the successor has it. It is dropped when the
    /// connection stays: at once where [`can_move`](Self::can_move) does not hold, or when the successor declines, ends,
    /// or does not answer in time, or when this is dropped.
    pub fn transfer(&mut self, moved: Moved, fds: Vec<Arc<OwnedFd>>, gone: impl FnOnce() + Send + 'static) {
        if !self.can_move() {
            return;
        }
        for output in self.machine.transfer(moved) {
            let Output::Send(Message::Transfer { number, moved }) = output else { continue };
            // First, so that a failure finds it.
            self.parcels.insert(number, Parcel { since: Instant::now(), gone: Box::new(gone) });
            if let Err(error) = self.channel.push(&Message::Transfer { number, moved }, fds) {
                let why = with_cause(&error);
                let outputs = self.machine.message(Message::Declined { number, why });
                self.perform(outputs);
            }
            break;
        }
        self.arm();
    }

    /// Whether connections can be passed on to the successor.
    pub fn can_move(&self) -> bool {
        self.reading == Reading::Words && self.machine.can_move()
    }

    /// Says that nothing is handed over because this instance ends.
    pub fn dismiss(&mut self, why: &str) {
        let outputs = self.machine.dismiss(why.to_owned());
        self.perform(outputs);
        // The host knows what it said.
        self.pending.retain(|event| !matches!(event, GiverEvent::Failed(_)));
    }

    /// Tells the successor that nothing is left of this instance, and returns how many connections it turned out to have
    /// taken. Those that it has not taken cannot be taken any more.
    pub fn drained(&mut self) -> usize {
        // Afterwards nothing that it has said counts, and what it has taken would go on here too.
        self.hang_up(Reading::Nothing);
        let outputs = self.machine.drained();
        self.perform(outputs);
        self.pending.iter().filter(|event| **event == GiverEvent::Taken).count()
    }

    /// What the successor did next.
    pub async fn next(&mut self) -> GiverEvent {
        futures_lite::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// What the successor did next; the task is woken when there may be something. Pending for ever once it is gone.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<GiverEvent> {
        let mut heard = 0_u32;
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Poll::Ready(event);
            }
            if self.reading != Reading::Words {
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
                Poll::Ready(Ok(_) | Err(ChannelError::Unreadable(_))) if self.machine.is_over() => {
                    self.ignore();
                    continue;
                }
                Poll::Ready(Ok(incoming)) => self.machine.message(incoming.message),
                Poll::Ready(Err(ChannelError::Unreadable(error))) => {
                    self.machine.unreadable(with_cause(&error))
                }
                Poll::Ready(Err(ChannelError::Io(error))) => {
                    // It may fail for ever, so nothing more is read.
                    let outputs = self.machine.unreadable(with_cause(&error));
                    self.perform(outputs);
                    self.hang_up(Reading::Death);
                    continue;
                }
                Poll::Ready(Err(_)) => {
                    if self.machine.is_passed() {
                        self.hang_up(Reading::Closed);
                        continue;
                    }
                    self.reading = Reading::Closed;
                    self.machine.closed()
                }
                Poll::Pending if self.deadline.is_over(cx) => self.machine.deadline(),
                Poll::Pending => return Poll::Pending,
            };
            self.perform(outputs);
        }
    }

    /// The end of a connection says nothing about a successor that serves: only the end of its process does.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<GiverEvent> {
        let passed = self.machine.is_passed();
        if self.reading == Reading::Nothing {
            return Poll::Pending;
        }
        if (passed || self.reading == Reading::Death) && self.pidfd.poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        self.reading = Reading::Nothing;
        let _ = self.machine.closed();
        match (passed, self.released) {
            (true, _) => Poll::Ready(GiverEvent::Died),
            (false, false) => Poll::Ready(GiverEvent::Gone),
            (false, true) => Poll::Pending,
        }
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(message) => self.send(&message, Vec::new()),
                Output::SendBatch(number) => {
                    let of = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
                    let at = usize::try_from(number).unwrap_or(usize::MAX);
                    let batch = self.batches.get_mut(at).map(std::mem::take).unwrap_or_default();
                    let (mut labels, mut fds, mut tickets) = (Vec::new(), Vec::new(), Vec::new());
                    for (label, fd, keys) in batch {
                        tickets.extend(keys.map(|keys| (label.id.clone(), keys)));
                        labels.push(label);
                        fds.push(fd);
                    }
                    self.send(&Message::Offer { batch: number, of, labels, tickets }, fds);
                }
                Output::Greeted => self.pending.push_back(GiverEvent::Greeted),
                Output::Waiting => self.pending.push_back(GiverEvent::Waiting),
                Output::Ready => self.pending.push_back(GiverEvent::Ready),
                Output::Owned(unwanted) => self.pending.push_back(GiverEvent::Owned(unwanted)),
                Output::Released => {
                    self.released = true;
                    // What it has taken, it had said before.
                    self.parcels.clear();
                    self.pending.push_back(GiverEvent::Released);
                }
                Output::Taken(number) => {
                    if let Some(parcel) = self.parcels.remove(&number) {
                        (parcel.gone)();
                    }
                    self.pending.push_back(GiverEvent::Taken);
                }
                Output::Declined(number, why) => {
                    self.parcels.remove(&number);
                    self.log_declined(why);
                }
                Output::Stalled => {
                    let (pid, unanswered) = (self.pid, self.machine.outstanding());
                    tracing::error!(
                        target: "river::handoff", pid, unanswered,
                        "the successor does not answer; connections are no longer passed on to it"
                    );
                    self.hang_up(Reading::Death);
                }
                Output::Ignored(what) => {
                    let pid = self.pid;
                    tracing::warn!(target: "river::handoff", pid, what, "the successor serves; what it said is ignored");
                    self.ignore();
                }
                Output::Failed(failure) => {
                    self.batches.clear();
                    self.pending.push_back(GiverEvent::Failed(failure));
                }
            }
        }
        self.arm();
    }

    /// Counts what has no meaning.
    fn ignore(&mut self) {
        self.ignored = self.ignored.saturating_add(1);
        if self.ignored == MAX_IGNORED {
            self.hang_up(Reading::Death);
        }
    }

    /// Reads no more but what the successor has said by now: nothing that it says later may count, for what is
    /// outstanding then stays here.
    fn hang_up(&mut self, reading: Reading) {
        if self.reading != Reading::Words {
            return;
        }
        let could_move = self.machine.is_movable();
        self.reading = reading;
        if !self.machine.is_passed() {
            return;
        }
        for message in self.channel.hang_up() {
            let outputs = self.machine.message(message);
            self.perform(outputs);
        }
        self.parcels.clear();
        self.deadline.clear();
        if could_move && !self.released {
            self.pending.push_back(GiverEvent::MovesEnded);
        }
    }

    /// A reason that is new is told; many connections have the same.
    fn log_declined(&mut self, why: String) {
        let pid = self.pid;
        if why == self.declined {
            tracing::debug!(target: "river::handoff", pid, why, "the successor declines a connection");
        } else {
            tracing::info!(
                target: "river::handoff", pid, why, "the successor declines a connection, which stays until it ends"
            );
            self.declined = why;
        }
    }

    fn send(&mut self, message: &Message, fds: Vec<Arc<OwnedFd>>) {
        if let Err(error) = self.channel.push(message, fds) {
            let why = format!("cannot send {}: {}", message.name(), with_cause(&error));
            let outputs = self.machine.refuse(why);
            self.perform(outputs);
        }
    }

    /// The time starts anew when the awaited step changes; all batches of an offer share one, and each connection that is
    /// passed on has its own.
    fn arm(&mut self) {
        let step_timeout = self.step_timeout;
        let oldest = self.parcels.values().next().map(|parcel| parcel.since.elapsed());
        self.deadline.arm(self.machine.limited(), |step| match step.0 {
            "Hello" => GREETING_TIMEOUT,
            "Taken" => step_timeout.min(TRANSFER_TIMEOUT).saturating_sub(oldest.unwrap_or_default()),
            _ => step_timeout,
        });
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        // What the successor has taken is not to go on here too.
        self.hang_up(Reading::Nothing);
    }
}

/// An error and what caused it, on one line.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", with_cause(cause)),
        None => error.to_string(),
    }
}

/// Cuts `all` into parts of at most `count` items whose sizes add up to about [`BATCH_BYTES`].
fn split<T>(all: Vec<T>, count: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0_usize;
    for item in all {
        let length = size(&item).saturating_add(32);
        match parts.last_mut() {
            Some(part) if part.len() < count && bytes.saturating_add(length) <= BATCH_BYTES => {
                bytes = bytes.saturating_add(length);
                part.push(item);
            }
            _ => {
                bytes = length;
                parts.push(vec![item]);
            }
        }
    }
    parts
}
