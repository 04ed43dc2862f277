//! The protocol as the waiting instance sees it: pure, without I/O and without a clock.

use std::collections::BTreeSet;

use super::{Failure, MOVING_VERSION, Message, PROTOCOL_VERSIONS, WAITING_VERSION};
use crate::base::{Label, ListenerId, Moved};

/// How many listeners an incumbent may announce: more than a process can have.
const MAX_INVENTORY: usize = 1 << 20;

/// The successor's side of one hand-over.
///
/// ```text
/// Greeting ──Welcome──▶ Listing ──last Inventory──▶ Binding ──bound──▶ Waiting ──Offer──▶ Checking ⇄ Adopting
///    ──last adopted──▶ Preparing ──ready──▶ Ready ──Commit──▶ Committed ──owned──▶ Owner ──Drained──▶ Over
/// ```
/// An incumbent of version 1 may offer as soon as it has sent its inventory, so there is no `Binding` for it.
///
/// Every state ends in `Over` by [`refuse`](Self::refuse), a refusal, a deadline, a message out of order, or, before
/// `Owner`, the end of the connection.
///
/// In `Owner`, from version 2 on, connections arrive, numbered in order. Each has to be answered, once, with
/// [`taken`](Self::taken) or [`declined`](Self::declined); one that was taken is served only when the incumbent is
/// sure to hear so, or two processes would serve it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Successor {
    state: State,
    /// The protocol version, from `Welcome` on; 0 before.
    version: u32,
    inventory: Vec<ListenerId>,
    /// The number of the next connection that arrives.
    next: u64,
    /// Those that have arrived and wait for their answer.
    unanswered: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Greeting,
    Listing,
    Binding,
    Waiting,
    Checking { batch: u32, of: u32 },
    Adopting { next: u32, of: u32 },
    Preparing,
    Ready,
    Committed,
    Owner,
    Over,
}

/// What the host has to do after an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(Message),
    /// The incumbent let this instance wait; its inventory follows.
    Welcomed {
        /// The incumbent's pid as it says.
        pid: u32,
        /// The incumbent's build.
        build: String,
        /// The incumbent's generation.
        generation: u64,
    },
    /// These listeners will be offered: bind what is new, then say `bound` or `refuse`.
    Inventory(Vec<ListenerId>),
    /// Check the descriptors that came with this batch, then say `adopted` or `refuse`.
    Check(Vec<Label>),
    /// All batches are adopted: listen, start the workers, then say `ready` or `refuse`.
    Prepare,
    /// Take the service over, then say `owned`.
    Commit,
    /// A connection arrives: say `taken` or `declined`.
    Arrived {
        /// Its number.
        number: u64,
        /// What there is to know of it.
        moved: Moved,
    },
    /// The incumbent has ended in good order.
    Drained,
    /// The incumbent took the service back after `Owned`: step down.
    StepDown(String),
    /// The hand-over is over. Before `Owned` the incumbent serves.
    Failed(Failure),
}

impl Successor {
    /// A successor and the `Hello` it begins with.
    pub fn new(pid: u32, build: &str) -> (Self, Message) {
        let hello = Message::Hello { versions: PROTOCOL_VERSIONS.to_vec(), pid, build: build.to_owned() };
        let machine = Self {
            state: State::Greeting,
            version: 0,
            inventory: Vec::new(),
            next: 0,
            unanswered: BTreeSet::new(),
        };
        (machine, hello)
    }

    /// Takes a message of the incumbent's.
    pub fn message(&mut self, message: Message) -> Vec<Output> {
        if let Message::Refuse { why } = message {
            if self.state == State::Owner {
                self.state = State::Over;
                return vec![Output::StepDown(why)];
            }
            return self.fail(Failure::Refused(why));
        }
        match (self.state, message) {
            (State::Owner, Message::Ending { .. }) => {
                self.fail(Failure::Unexpected { message: "Ending", awaited: "Drained" })
            }
            (_, Message::Ending { why }) => self.fail(Failure::Ending(why)),
            (State::Greeting, Message::Welcome { version, pid, build, generation })
                if PROTOCOL_VERSIONS.contains(&version) =>
            {
                (self.state, self.version) = (State::Listing, version);
                vec![Output::Welcomed { pid, build, generation }]
            }
            (State::Listing, Message::Inventory { ids, more }) => {
                self.inventory.extend(ids);
                if self.inventory.len() > MAX_INVENTORY {
                    let why = format!("more than {MAX_INVENTORY} listeners were announced");
                    return self.say_no(why.clone(), Failure::Gave(why));
                }
                if more {
                    return Vec::new();
                }
                let waits = self.version < WAITING_VERSION;
                self.state = if waits { State::Waiting } else { State::Binding };
                vec![Output::Inventory(std::mem::take(&mut self.inventory))]
            }
            (State::Waiting, Message::Probe) if self.version >= WAITING_VERSION => {
                vec![Output::Send(Message::Waiting)]
            }
            (State::Waiting, Message::Offer { batch: 0, of, labels, .. }) if of > 0 => {
                self.state = State::Checking { batch: 0, of };
                vec![Output::Check(labels)]
            }
            (State::Adopting { next, of }, Message::Offer { batch, of: still, labels, .. })
                if batch == next && still == of =>
            {
                self.state = State::Checking { batch, of };
                vec![Output::Check(labels)]
            }
            (State::Ready, Message::Commit) => {
                self.state = State::Committed;
                vec![Output::Commit]
            }
            (State::Owner, Message::Transfer { number, moved })
                if self.version >= MOVING_VERSION && number == self.next =>
            {
                self.next = self.next.saturating_add(1);
                self.unanswered.insert(number);
                vec![Output::Arrived { number, moved }]
            }
            (State::Owner, Message::Drained) => {
                self.state = State::Over;
                vec![Output::Drained]
            }
            (State::Over, _) => Vec::new(),
            (_, message) => {
                let (message, awaited) = (message.name(), self.awaited());
                self.say_no(format!("{message} has no place here"), Failure::Unexpected { message, awaited })
            }
        }
    }

    /// Takes the end of the connection.
    pub fn closed(&mut self) -> Vec<Output> {
        self.fail(Failure::Closed)
    }

    /// Takes a message that could not be understood.
    pub fn unreadable(&mut self, why: String) -> Vec<Output> {
        self.say_no(format!("cannot understand the incumbent: {why}"), Failure::Unreadable(why))
    }

    /// Takes the end of the time for the step that is awaited.
    pub fn deadline(&mut self) -> Vec<Output> {
        let awaited = self.awaited();
        self.say_no(format!("timed out waiting for {awaited}"), Failure::TimedOut(awaited))
    }

    /// What the incumbent does not have is bound: this instance waits.
    pub fn bound(&mut self) -> Vec<Output> {
        if self.state != State::Binding {
            return Vec::new();
        }
        self.state = State::Waiting;
        vec![Output::Send(Message::Waiting)]
    }

    /// The batch is adopted but for the unwanted ones.
    pub fn adopted(&mut self, unwanted: Vec<ListenerId>) -> Vec<Output> {
        let State::Checking { batch, of } = self.state else { return Vec::new() };
        let mut outputs = vec![Output::Send(Message::Adopted { batch, unwanted })];
        let next = batch.saturating_add(1);
        if next < of {
            self.state = State::Adopting { next, of };
        } else {
            self.state = State::Preparing;
            outputs.push(Output::Prepare);
        }
        outputs
    }

    /// Everything listens and the workers accept.
    pub fn ready(&mut self) -> Vec<Output> {
        if self.state != State::Preparing {
            return Vec::new();
        }
        self.state = State::Ready;
        vec![Output::Send(Message::Ready)]
    }

    /// Pidfile and upgrade socket are taken.
    pub fn owned(&mut self) -> Vec<Output> {
        if self.state != State::Committed {
            return Vec::new();
        }
        self.state = State::Owner;
        vec![Output::Send(Message::Owned)]
    }

    /// Says no and ends the hand-over.
    pub fn refuse(&mut self, why: String) -> Vec<Output> {
        self.say_no(why.clone(), Failure::Gave(why))
    }

    /// The connection of this number is this instance's now.
    pub fn taken(&mut self, number: u64) -> Vec<Output> {
        self.answer(number, Message::Taken { number })
    }

    /// The connection of this number stays with the incumbent.
    pub fn declined(&mut self, number: u64, why: String) -> Vec<Output> {
        self.answer(number, Message::Declined { number, why })
    }

    /// Tells the incumbent that this instance ends on purpose.
    pub fn released(&mut self) -> Vec<Output> {
        if self.state != State::Owner {
            return Vec::new();
        }
        self.state = State::Over;
        vec![Output::Send(Message::Released)]
    }

    /// The step that a deadline applies to, with a number; the time starts anew when either changes.
    pub fn limited(&self) -> Option<(&'static str, u32)> {
        match self.state {
            State::Greeting | State::Listing => Some(("Welcome", 0)),
            State::Adopting { next, .. } => Some(("Offer", next)),
            State::Ready => Some(("Commit", 0)),
            State::Binding
            | State::Waiting
            | State::Checking { .. }
            | State::Preparing
            | State::Committed
            | State::Owner
            | State::Over => None,
        }
    }

    /// Whether this instance has said that it serves, and the incumbent may still speak.
    pub fn is_owner(&self) -> bool {
        self.state == State::Owner
    }

    /// Whether nothing more is to be said.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn answer(&mut self, number: u64, answer: Message) -> Vec<Output> {
        if self.state != State::Owner || !self.unanswered.remove(&number) {
            return Vec::new();
        }
        vec![Output::Send(answer)]
    }

    fn say_no(&mut self, why: String, failure: Failure) -> Vec<Output> {
        match self.state {
            State::Over => return Vec::new(),
            // This instance serves by now: there is nothing left to refuse.
            State::Owner => return self.fail(failure),
            _ => {}
        }
        let mut outputs = vec![Output::Send(Message::Refuse { why })];
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
            State::Greeting => "Welcome",
            State::Listing => "Inventory",
            State::Waiting | State::Adopting { .. } => "Offer",
            State::Binding | State::Checking { .. } | State::Preparing | State::Committed => "nothing",
            State::Ready => "Commit",
            State::Owner => "Drained",
            State::Over => "the end",
        }
    }
}
