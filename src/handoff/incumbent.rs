//! The protocol as the instance in service sees it: pure, without I/O and without a clock.

use super::{Failure, Message, PROTOCOL_VERSIONS};
use crate::base::ListenerId;

/// The incumbent's side of one hand-over.
///
/// ```text
/// Greeting ──Hello──▶ Greeted ──welcome──▶ Waiting ──offer──▶ Offering ──last Adopted──▶ Preparing
///    ──Ready──▶ Prepared ──commit──▶ Committed ──Owned──▶ Passed ──Released──▶ Over
/// ```
/// Every state before `Passed` ends in `Over` by [`refuse`](Self::refuse), a refusal, a deadline, the end of the
/// connection, or a message out of order. In `Passed` the successor serves: nothing that it says but `Released` changes
/// that, and nothing that would send it away is said to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incumbent {
    state: State,
    unwanted: Vec<ListenerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Greeting,
    Greeted { version: u32 },
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
    /// The successor accepts on everything: `commit` or `refuse`.
    Ready,
    /// The successor serves. It does not want these listeners.
    Owned(Vec<ListenerId>),
    /// The successor ends on purpose.
    Released,
    /// The successor serves, and said this, which has no meaning then.
    Ignored(String),
    /// The hand-over is over; this instance goes on as it was.
    Failed(Failure),
}

impl Default for Incumbent {
    fn default() -> Self {
        Self { state: State::Greeting, unwanted: Vec::new() }
    }
}

impl Incumbent {
    /// Takes a message of the successor's.
    pub fn message(&mut self, message: Message) -> Vec<Output> {
        if self.is_passed() && message != Message::Released {
            return vec![Output::Ignored(message.name().to_owned())];
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
                self.state = State::Greeted { version };
                vec![Output::Greeted]
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
            (State::Passed, Message::Released) => {
                self.state = State::Over;
                vec![Output::Released]
            }
            (State::Over, _) => Vec::new(),
            (_, message) => self.unexpected(message.name()),
        }
    }

    /// Takes the end of the connection.
    pub fn closed(&mut self) -> Vec<Output> {
        self.fail(Failure::Closed)
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
        let State::Greeted { version } = self.state else { return Vec::new() };
        self.state = State::Waiting;
        let welcome = Message::Welcome { version, pid, build: build.to_owned(), generation };
        let mut outputs = vec![Output::Send(welcome)];
        let last = inventory.len().saturating_sub(1);
        if inventory.is_empty() {
            outputs.push(Output::Send(Message::Inventory { ids: Vec::new(), more: false }));
        }
        for (at, ids) in inventory.into_iter().enumerate() {
            outputs.push(Output::Send(Message::Inventory { ids, more: at < last }));
        }
        outputs
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

    /// Tells the successor that nothing is left of this instance.
    pub fn drained(&mut self) -> Vec<Output> {
        if self.state != State::Passed {
            return Vec::new();
        }
        self.state = State::Over;
        vec![Output::Send(Message::Drained)]
    }

    /// The step that a deadline applies to; the time starts anew when it changes. `None` when waiting is free.
    pub fn limited(&self) -> Option<&'static str> {
        match self.state {
            State::Greeting | State::Greeted { .. } => Some("Hello"),
            State::Offering { .. } | State::Preparing => Some("Ready"),
            State::Committed => Some("Owned"),
            State::Waiting | State::Prepared | State::Passed | State::Over => None,
        }
    }

    /// Whether the successor serves now.
    pub fn is_passed(&self) -> bool {
        self.state == State::Passed
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
            State::Greeted { .. } | State::Waiting | State::Prepared => "nothing",
            State::Offering { .. } => "Adopted",
            State::Preparing => "Ready",
            State::Committed => "Owned",
            State::Passed => "Released",
            State::Over => "the end",
        }
    }
}
