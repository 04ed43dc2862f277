//! The protocol as the instance in service sees it: pure, without I/O and without a clock.

use std::collections::BTreeSet;

use super::{Failure, MOVING_VERSION, Message, PROTOCOL_VERSIONS, TICKETS_VERSION, WAITING_VERSION};
use crate::base::{ListenerId, Moved};

/// The incumbent's side of one hand-over.
///
/// ```text
/// Greeting ──Hello──▶ Greeted ──welcome──▶ Settling ──Waiting──▶ Waiting ──offer──▶ Offering ──last Adopted──▶
///    Preparing ──Ready──▶ Prepared ──commit──▶ Committed ──Owned──▶ Passed ──Released──▶ Over
/// ```
/// A successor of version 1 does not say that it waits: it does from `welcome` on. One that does is asked again by
/// [`probe`](Self::probe), and holds its place only if it answers.
///
/// Every state before `Passed` ends in `Over` by [`refuse`](Self::refuse), a refusal, a deadline, the end of the
/// connection, or a message out of order. In `Passed` the successor serves: nothing that it says but `Released` changes
/// that, and nothing that would send it away is said to it.
///
/// In `Passed`, where both speak version 2, connections move: [`transfer`](Self::transfer) numbers them from 0, and each
/// is outstanding until the successor says [`Output::Taken`] or [`Output::Declined`] of its number, once. Whatever is
/// outstanding when the state or [`can_move`](Self::can_move) ends has not been taken, and stays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incumbent {
    state: State,
    /// The protocol version, from `Hello` on.
    version: u32,
    /// Whether the successor was asked if it still waits, and has not answered.
    probed: bool,
    unwanted: Vec<ListenerId>,
    /// The number of the next transfer.
    next: u64,
    outstanding: BTreeSet<u64>,
    /// The successor let a transfer wait for too long: no more are begun.
    stalled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Greeting,
    Greeted,
    Settling,
    Waiting,
    Offering { batch: u32, of: u32 },
    Preparing,
    Prepared,
    Committed,
    Passed,
    Over,
}

/// What the host has to do after an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Message),
    /// Send the batch of this number, with its descriptors.
    SendBatch(u32),
    /// A successor introduced itself: `welcome` it or `refuse` it.
    Greeted,
    /// The successor waits: `offer` when the time has come.
    Waiting,
    /// The successor accepts on everything: `commit` or `refuse`.
    Ready,
    /// The successor serves. It does not want these listeners.
    Owned(Vec<ListenerId>),
    /// The successor ends on purpose.
    Released,
    /// The successor has the connection of this number now.
    Taken(u64),
    /// The successor does not take the connection of this number.
    Declined(u64, String),
    /// The successor has left a transfer unanswered for too long. It may serve nevertheless, so nothing that it says
    /// from now on may count: hear what it has said, then nothing more.
    Stalled,
    /// The successor serves, and said this, which has no meaning then.
    Ignored(String),
    /// The hand-over is over; this instance goes on as it was.
    Failed(Failure),
}

impl Default for Incumbent {
    fn default() -> Self {
        Self {
            state: State::Greeting,
            version: 0,
            probed: false,
            unwanted: Vec::new(),
            next: 0,
            outstanding: BTreeSet::new(),
            stalled: false,
        }
    }
}

impl Incumbent {
    /// Takes a message of the successor's.
    pub fn message(&mut self, message: Message) -> Vec<Output> {
        if self.is_passed() {
            return vec![self.message_passed(message)];
        }
        if let Message::Refuse { why } = message {
            return self.fail(Failure::Refused(why));
        }
        match (self.state, message) {
            (State::Greeting, Message::Hello { versions, build, .. }) => {
                let common = PROTOCOL_VERSIONS.iter().find(|version| versions.contains(version));
                let Some(&version) = common else {
                    return self.refuse(format!(
                        "no common protocol version: {build} speaks {versions:?}, this instance {PROTOCOL_VERSIONS:?}"
                    ));
                };
                (self.state, self.version) = (State::Greeted, version);
                vec![Output::Greeted]
            }
            (State::Settling, Message::Waiting) => {
                self.state = State::Waiting;
                vec![Output::Waiting]
            }
            // The answer may come when the offer is on its way, but not after that was answered.
            (State::Waiting | State::Offering { batch: 0, .. }, Message::Waiting) if self.probed => {
                self.probed = false;
                Vec::new()
            }
            (State::Offering { batch, of }, Message::Adopted { batch: adopted, unwanted })
                if adopted == batch =>
            {
                self.unwanted.extend(unwanted);
                self.offer_next(batch.saturating_add(1), of)
            }
            (State::Preparing, Message::Ready) => {
                self.state = State::Prepared;
                vec![Output::Ready]
            }
            (State::Committed, Message::Owned) => {
                self.state = State::Passed;
                vec![Output::Owned(std::mem::take(&mut self.unwanted))]
            }
            (State::Over, _) => Vec::new(),
            (_, message) => self.unexpected(message.name()),
        }
    }

    /// Takes the end of the connection.
    ///
    /// An empty message looks like it. So a successor that may be there still is refused, or it would serve beside this
    /// instance.
    pub fn closed(&mut self) -> Vec<Output> {
        if self.is_passed() {
            return self.fail(Failure::Closed);
        }
        let mut outputs = self.refuse("the connection has ended".to_owned());
        if let Some(Output::Failed(failure)) = outputs.last_mut() {
            *failure = Failure::Closed;
        }
        outputs
    }

    /// Takes a message that could not be understood.
    pub fn unreadable(&mut self, why: String) -> Vec<Output> {
        if self.is_passed() {
            return vec![Output::Ignored(why)];
        }
        let mut outputs = self.refuse(format!("cannot understand the successor: {why}"));
        if let Some(Output::Failed(failure)) = outputs.last_mut() {
            *failure = Failure::Unreadable(why);
        }
        outputs
    }

    /// Takes the end of the time for the step that is awaited.
    pub fn deadline(&mut self) -> Vec<Output> {
        if self.is_passed() {
            if self.outstanding.is_empty() || self.stalled {
                return Vec::new();
            }
            self.stalled = true;
            return vec![Output::Stalled];
        }
        let awaited = self.awaited();
        let mut outputs = self.refuse(format!("timed out waiting for {awaited}"));
        if let Some(Output::Failed(failure)) = outputs.last_mut() {
            *failure = Failure::TimedOut(awaited);
        }
        outputs
    }

    /// Lets the greeted successor wait.
    pub fn welcome(
        &mut self,
        pid: u32,
        build: &str,
        generation: u64,
        inventory: Vec<Vec<ListenerId>>,
    ) -> Vec<Output> {
        if self.state != State::Greeted {
            return Vec::new();
        }
        let version = self.version;
        let welcome = Message::Welcome { version, pid, build: build.to_owned(), generation };
        let mut outputs = vec![Output::Send(welcome)];
        let last = inventory.len().saturating_sub(1);
        if inventory.is_empty() {
            outputs.push(Output::Send(Message::Inventory { ids: Vec::new(), more: false }));
        }
        for (at, ids) in inventory.into_iter().enumerate() {
            outputs.push(Output::Send(Message::Inventory { ids, more: at < last }));
        }
        self.state = State::Settling;
        if self.version < WAITING_VERSION {
            self.state = State::Waiting;
            outputs.push(Output::Waiting);
        }
        outputs
    }

    /// Asks the waiting successor whether it still does. It has to answer in time, or the hand-over is over.
    pub fn probe(&mut self) -> Vec<Output> {
        if self.state != State::Waiting || self.version < WAITING_VERSION || self.probed {
            return Vec::new();
        }
        self.probed = true;
        vec![Output::Send(Message::Probe)]
    }

    /// Begins the hand-over, in `of` batches.
    pub fn offer(&mut self, of: u32) -> Vec<Output> {
        if self.state != State::Waiting {
            return Vec::new();
        }
        self.offer_next(0, of)
    }

    /// Lets the successor take over, after [`Output::Ready`].
    pub fn commit(&mut self) -> Vec<Output> {
        if self.state != State::Prepared {
            return Vec::new();
        }
        self.state = State::Committed;
        vec![Output::Send(Message::Commit)]
    }

    /// Says no and ends the hand-over. There is nothing to say no to once the successor serves.
    pub fn refuse(&mut self, why: String) -> Vec<Output> {
        if matches!(self.state, State::Passed | State::Over) {
            return Vec::new();
        }
        let mut outputs = vec![Output::Send(Message::Refuse { why: why.clone() })];
        outputs.extend(self.fail(Failure::Gave(why)));
        outputs
    }

    /// Ends the hand-over because this instance ends.
    pub fn dismiss(&mut self, why: String) -> Vec<Output> {
        let mut outputs = self.refuse(why.clone());
        if let Some(said) = outputs.first_mut() {
            *said = Output::Send(Message::Ending { why });
        }
        outputs
    }

    /// Passes a connection on, where [`can_move`](Self::can_move) holds. The output is its `Transfer`, which goes out with
    /// the connection's sockets.
    pub fn transfer(&mut self, moved: Moved) -> Vec<Output> {
        if !self.can_move() {
            return Vec::new();
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.outstanding.insert(number);
        vec![Output::Send(Message::Transfer { number, moved })]
    }

    /// Whether connections can be passed on: the successor serves, speaks a version that can, and answers.
    pub fn can_move(&self) -> bool {
        self.is_movable() && !self.stalled
    }

    /// Whether the successor serves and speaks a version in which connections can be passed on.
    pub fn is_movable(&self) -> bool {
        self.is_passed() && self.version >= MOVING_VERSION
    }

    /// How many transfers wait for their answer.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Tells the successor that nothing is left of this instance.
    pub fn drained(&mut self) -> Vec<Output> {
        if self.state != State::Passed {
            return Vec::new();
        }
        self.state = State::Over;
        vec![Output::Send(Message::Drained)]
    }

    /// The step that a deadline applies to, with a number; the deadline is another when either changes. `None` when
    /// waiting is free.
    pub fn limited(&self) -> Option<(&'static str, u64)> {
        match self.state {
            State::Greeting | State::Greeted => Some(("Hello", 0)),
            State::Settling => Some(("Waiting", 0)),
            State::Waiting if self.probed => Some(("Waiting", 0)),
            State::Offering { .. } | State::Preparing => Some(("Ready", 0)),
            State::Committed => Some(("Owned", 0)),
            // Of the oldest, so that answers to others put nothing off.
            State::Passed if !self.stalled => self.outstanding.first().map(|oldest| ("Taken", *oldest)),
            State::Waiting | State::Prepared | State::Passed | State::Over => None,
        }
    }

    /// Whether the successor understands keys of session tickets.
    pub fn takes_tickets(&self) -> bool {
        self.version >= TICKETS_VERSION
    }

    /// Whether the successor waits, so that it can be offered the listeners.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether nothing that the successor says counts any more.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether the successor serves now.
    pub fn is_passed(&self) -> bool {
        self.state == State::Passed
    }

    fn message_passed(&mut self, message: Message) -> Output {
        match message {
            Message::Released => {
                self.state = State::Over;
                Output::Released
            }
            Message::Taken { number } if self.outstanding.remove(&number) => Output::Taken(number),
            Message::Declined { number, why } if self.outstanding.remove(&number) => {
                Output::Declined(number, why)
            }
            other => Output::Ignored(other.name().to_owned()),
        }
    }

    fn offer_next(&mut self, batch: u32, of: u32) -> Vec<Output> {
        if batch < of {
            self.state = State::Offering { batch, of };
            vec![Output::SendBatch(batch)]
        } else {
            self.state = State::Preparing;
            Vec::new()
        }
    }

    fn unexpected(&mut self, message: &'static str) -> Vec<Output> {
        let failure = Failure::Unexpected { message, awaited: self.awaited() };
        let mut outputs = vec![Output::Send(Message::Refuse { why: format!("{message} has no place here") })];
        outputs.extend(self.fail(failure));
        outputs
    }

    fn fail(&mut self, failure: Failure) -> Vec<Output> {
        if self.state == State::Over {
            return Vec::new();
        }
        self.state = State::Over;
        vec![Output::Failed(failure)]
    }

    fn awaited(&self) -> &'static str {
        match self.state {
            State::Greeting => "Hello",
            State::Settling => "Waiting",
            State::Waiting if self.probed => "Waiting",
            State::Greeted | State::Waiting | State::Prepared => "nothing",
            State::Offering { .. } => "Adopted",
            State::Preparing => "Ready",
            State::Committed => "Owned",
            State::Passed => "Released",
            State::Over => "the end",
        }
    }
}
