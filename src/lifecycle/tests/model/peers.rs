//! The conversations, as `Giver` and `Taker` hold them: the pure machines of the protocol over a [`Channel`] of the
//! model. What is restated here is what those two decide outside of the machines: when an end is a death, and that an
//! `Offer` or a `Commit` with a refusal behind it is none.

use super::outside::{Channel, End, Listeners, Outside, Read, ids, label};
use crate::base::{Label, ListenerId};
use crate::handoff::{GiverEvent, Incumbent, IncumbentOutput, Message, Successor, SuccessorOutput};

/// The conversation with a successor: `Giver`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Giver {
    pub(super) channel: usize,
    machine: Incumbent,
    reading: Reading,
    released: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reading {
    Words,
    Closed,
    Nothing,
}

/// The conversation with an incumbent or predecessor: `Taker`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Taker {
    pub(super) channel: usize,
    /// Whose process is at the other end.
    pub(super) peer: usize,
    machine: Successor,
    closed: bool,
}

/// `TakerEvent`, without descriptors.
#[derive(Debug)]
pub(super) enum TakerWord {
    Welcomed(u64),
    Inventory(Vec<ListenerId>),
    Offered(Vec<Label>),
    Prepare,
    Commit,
    Drained,
    StepDown(String),
    Died,
    Failed,
}

impl Giver {
    pub(super) fn new(channel: usize) -> Self {
        Self { channel, machine: Incumbent::default(), reading: Reading::Words, released: false }
    }

    /// Whose process is at the other end.
    pub(super) fn peer(&self) -> usize {
        self.channel + 1
    }

    pub(super) fn welcome(&mut self, outside: &mut Outside, pid: u32, generation: u64, inventory: Listeners) {
        let outputs = self.machine.welcome(pid, "", generation, vec![ids(inventory)]);
        self.perform(outside, outputs, Listeners::default());
    }

    pub(super) fn probe(&mut self, outside: &mut Outside) {
        let outputs = self.machine.probe();
        self.perform(outside, outputs, Listeners::default());
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.machine.is_waiting()
    }

    pub(super) fn offer(&mut self, outside: &mut Outside, listeners: Listeners) {
        let outputs = self.machine.offer(1);
        self.perform(outside, outputs, listeners);
    }

    pub(super) fn commit(&mut self, outside: &mut Outside) {
        let outputs = self.machine.commit();
        self.perform(outside, outputs, Listeners::default());
    }

    pub(super) fn refuse(&mut self, outside: &mut Outside) {
        let outputs = self.machine.refuse(String::new());
        self.perform(outside, outputs, Listeners::default());
    }

    pub(super) fn dismiss(&mut self, outside: &mut Outside) {
        let outputs = self.machine.dismiss(String::new());
        self.perform(outside, outputs, Listeners::default());
    }

    pub(super) fn drained(&mut self, outside: &mut Outside) {
        let outputs = self.machine.drained();
        self.perform(outside, outputs, Listeners::default());
    }

    /// Whether the time for a step of the successor's can be over. What has come is read before that.
    pub(super) fn can_be_late(&self, outside: &Outside) -> bool {
        self.reading == Reading::Words
            && self.machine.limited().is_some()
            && !outside.channel(self.channel).is_readable(End::Incumbent)
    }

    pub(super) fn late(&mut self, outside: &mut Outside) -> Option<GiverEvent> {
        let outputs = self.machine.deadline();
        self.perform(outside, outputs, Listeners::default())
    }

    pub(super) fn can_hear(&self, outside: &Outside) -> bool {
        match self.reading {
            Reading::Words => outside.channel(self.channel).is_readable(End::Incumbent),
            Reading::Closed => !self.machine.is_passed() || !outside.alive[self.peer()],
            Reading::Nothing => false,
        }
    }

    /// Whether the successor has closed its end, which this instance will find out.
    pub(super) fn will_hear_the_end(&self, outside: &Outside) -> bool {
        self.can_hear(outside) && !outside.channel(self.channel).open[End::Successor as usize]
    }

    /// Whether the successor served and its process has ended, which this instance will find out.
    pub(super) fn will_hear_of_a_death(&self, outside: &Outside) -> bool {
        let said = outside.channel(self.channel).queue(End::Incumbent);
        self.can_hear(outside)
            && !outside.alive[self.peer()]
            && (self.machine.is_passed() || said.contains(&Message::Owned))
            && !self.is_released(outside)
    }

    /// Whether the successor has said that it ends on purpose.
    pub(super) fn is_released(&self, outside: &Outside) -> bool {
        outside.channel(self.channel).queue(End::Incumbent).contains(&Message::Released)
    }

    /// One turn of `Giver::poll_next`.
    pub(super) fn hear(&mut self, outside: &mut Outside) -> Option<GiverEvent> {
        if self.reading == Reading::Words {
            let outputs = match outside.channel_mut(self.channel).read(End::Incumbent)? {
                Read::Message(message) => self.machine.message(message),
                Read::End => {
                    self.reading = Reading::Closed;
                    if self.machine.is_passed() { Vec::new() } else { self.machine.closed() }
                }
            };
            let event = self.perform(outside, outputs, Listeners::default());
            if event.is_some() || self.reading == Reading::Words {
                return event;
            }
        }
        let passed = self.machine.is_passed();
        if self.reading == Reading::Nothing || passed && outside.alive[self.peer()] {
            return None;
        }
        self.reading = Reading::Nothing;
        let _ = self.machine.closed();
        match (passed, self.released) {
            (true, _) => Some(GiverEvent::Died),
            (false, false) => Some(GiverEvent::Gone),
            (false, true) => None,
        }
    }

    fn perform(
        &mut self,
        outside: &mut Outside,
        outputs: Vec<IncumbentOutput>,
        offered: Listeners,
    ) -> Option<GiverEvent> {
        let mut event = None;
        for output in outputs {
            match output {
                IncumbentOutput::Send(message) => self.send(outside, message),
                IncumbentOutput::SendBatch(batch) => {
                    let labels = (0..offered.len()).filter(|one| offered[*one]).map(label).collect();
                    self.send(outside, Message::Offer { batch, of: 1, labels, tickets: vec![] });
                }
                IncumbentOutput::Greeted => event = Some(GiverEvent::Greeted),
                IncumbentOutput::Waiting => event = Some(GiverEvent::Waiting),
                IncumbentOutput::Ready => event = Some(GiverEvent::Ready),
                IncumbentOutput::Owned(unwanted) => event = Some(GiverEvent::Owned(unwanted)),
                IncumbentOutput::Released => {
                    self.released = true;
                    event = Some(GiverEvent::Released);
                }
                IncumbentOutput::Taken(_) | IncumbentOutput::Declined(..) | IncumbentOutput::Stalled => {}
                IncumbentOutput::Ignored(_) => {}
                IncumbentOutput::Failed(failure) => event = Some(GiverEvent::Failed(failure)),
            }
        }
        event
    }

    fn send(&self, outside: &mut Outside, message: Message) {
        outside.channel_mut(self.channel).send(End::Successor, message);
    }
}

impl Taker {
    /// A conversation that begins with `Hello`.
    pub(super) fn new(outside: &mut Outside, channel: usize, peer: usize) -> Self {
        let (machine, hello) = Successor::new(0, "");
        let mut opened = Channel::new();
        opened.send(End::Incumbent, hello);
        outside.channels[channel] = Some(opened);
        Self { channel, peer, machine, closed: false }
    }

    pub(super) fn bound(&mut self, outside: &mut Outside) {
        let outputs = self.machine.bound();
        self.perform(outside, outputs);
    }

    pub(super) fn adopted(&mut self, outside: &mut Outside, unwanted: Vec<ListenerId>) -> Option<TakerWord> {
        let outputs = self.machine.adopted(unwanted);
        self.perform(outside, outputs)
    }

    pub(super) fn ready(&mut self, outside: &mut Outside) {
        let outputs = self.machine.ready();
        self.perform(outside, outputs);
    }

    pub(super) fn owned(&mut self, outside: &mut Outside) {
        let outputs = self.machine.owned();
        self.perform(outside, outputs);
    }

    pub(super) fn refuse(&mut self, outside: &mut Outside) {
        let outputs = self.machine.refuse(String::new());
        self.perform(outside, outputs);
    }

    pub(super) fn released(&mut self, outside: &mut Outside) {
        let outputs = self.machine.released();
        self.perform(outside, outputs);
    }

    /// As [`Giver::can_be_late`].
    pub(super) fn can_be_late(&self, outside: &Outside) -> bool {
        !self.closed
            && self.machine.limited().is_some()
            && !outside.channel(self.channel).is_readable(End::Successor)
    }

    pub(super) fn late(&mut self, outside: &mut Outside) -> Option<TakerWord> {
        let outputs = self.machine.deadline();
        self.perform(outside, outputs)
    }

    pub(super) fn can_hear(&self, outside: &Outside) -> bool {
        if self.closed {
            return !self.machine.is_over();
        }
        outside.channel(self.channel).is_readable(End::Successor)
    }

    /// As [`Giver::will_hear_the_end`].
    pub(super) fn will_hear_the_end(&self, outside: &Outside) -> bool {
        self.can_hear(outside) && !outside.channel(self.channel).open[End::Incumbent as usize]
    }

    /// Whether the incumbent has said that this hand-over will not be, and this instance will obey.
    pub(super) fn is_refused(&self, outside: &Outside) -> bool {
        if self.machine.is_owner() && !outside.alive[self.peer] {
            return false;
        }
        let no = |message: &Message| matches!(message, Message::Refuse { .. } | Message::Ending { .. });
        outside.channel(self.channel).queue(End::Successor).iter().any(no)
    }

    /// Whether the connection broke before the incumbent said anything that lets this instance serve.
    pub(super) fn is_cut_off(&self, outside: &Outside) -> bool {
        let channel = outside.channel(self.channel);
        channel.broken && !channel.queue(End::Successor).contains(&Message::Commit)
    }

    /// One turn of `Taker::poll_next`.
    pub(super) fn hear(&mut self, outside: &mut Outside) -> Option<TakerWord> {
        if !self.closed {
            match outside.channel_mut(self.channel).read(End::Successor)? {
                Read::Message(message) => {
                    let outputs = self.machine.message(message);
                    let word = self.perform(outside, outputs);
                    return match word {
                        Some(word @ (TakerWord::Offered(_) | TakerWord::Commit)) => {
                            self.unless_taken_back(outside, word)
                        }
                        Some(TakerWord::StepDown(_)) if !outside.alive[self.peer] => Some(TakerWord::Failed),
                        other => other,
                    };
                }
                Read::End => self.closed = true,
            }
        }
        if self.machine.is_over() {
            return None;
        }
        let died = !outside.alive[self.peer] && !self.machine.is_owner();
        let _ = self.machine.closed();
        Some(if died { TakerWord::Died } else { TakerWord::Failed })
    }

    /// `Taker::is_taken_back`.
    fn unless_taken_back(&mut self, outside: &mut Outside, word: TakerWord) -> Option<TakerWord> {
        match outside.channel_mut(self.channel).read(End::Successor) {
            None => Some(word),
            Some(Read::End) => {
                self.closed = true;
                Some(word)
            }
            Some(Read::Message(message)) => {
                let outputs = self.machine.message(message);
                let failure = self.perform(outside, outputs);
                if self.machine.is_over() { failure } else { Some(word) }
            }
        }
    }

    fn perform(&mut self, outside: &mut Outside, outputs: Vec<SuccessorOutput>) -> Option<TakerWord> {
        let mut word = None;
        for output in outputs {
            match output {
                SuccessorOutput::Send(message) => {
                    outside.channel_mut(self.channel).send(End::Incumbent, message);
                }
                SuccessorOutput::Welcomed { generation, .. } => word = Some(TakerWord::Welcomed(generation)),
                SuccessorOutput::Inventory(ids) => word = Some(TakerWord::Inventory(ids)),
                SuccessorOutput::Check(labels) => word = Some(TakerWord::Offered(labels)),
                SuccessorOutput::Prepare => word = Some(TakerWord::Prepare),
                SuccessorOutput::Commit => word = Some(TakerWord::Commit),
                SuccessorOutput::Arrived { .. } => {}
                SuccessorOutput::Drained => word = Some(TakerWord::Drained),
                SuccessorOutput::StepDown(why) => word = Some(TakerWord::StepDown(why)),
                SuccessorOutput::Failed(_) => word = Some(TakerWord::Failed),
            }
        }
        word
    }
}
