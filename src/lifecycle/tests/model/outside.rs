//! What instances share: files, listening sockets with their queues, connections between instances.

use std::collections::VecDeque;

use crate::base::{Address, Label, ListenerId};
use crate::handoff::Message;

/// How many instances there are at most: one in service at the beginning, and those that the operator starts.
pub(super) const INSTANCES: usize = 3;

/// How many listeners there are.
pub(super) const LISTENERS: usize = 2;

/// A set of listeners.
pub(super) type Listeners = [bool; LISTENERS];

/// The ends of a connection between two instances, as places in [`Channel`]'s arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    Incumbent,
    Successor,
}

/// A connection between an incumbent and the successor that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Channel {
    /// What waits to be read at each end, the incumbent's first.
    queues: [VecDeque<Message>; 2],
    /// Which ends are held by a process.
    pub(super) open: [bool; 2],
    /// It carries nothing more, but what is queued is read.
    pub(super) broken: bool,
}

/// What reading from a channel gives.
#[derive(Debug)]
pub(super) enum Read {
    Message(Message),
    End,
}

/// The queue of a listening socket, with the rule of `EPOLLEXCLUSIVE`: a new connection tells one of those who accept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    pub(super) waiting: u8,
    /// Who was told that the queue is not empty, and looks until it is.
    pub(super) told: [bool; INSTANCES],
}

/// Everything outside of the instances' memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Outside {
    /// Which processes run.
    pub(super) alive: [bool; INSTANCES],
    /// Whose pid the pidfile holds.
    pub(super) pid_file: Option<usize>,
    /// Whose upgrade socket the path leads to.
    pub(super) upgrade_path: Option<usize>,
    /// Who listens on an upgrade socket of its own.
    pub(super) desks: [bool; INSTANCES],
    /// The queue of each listener, which is empty where nobody listens.
    pub(super) queues: [Queue; LISTENERS],
    /// Which addresses are listened on, in whichever process, or on their way to one.
    pub(super) listening: Listeners,
    /// Which addresses cannot be bound, because some process holds them.
    pub(super) taken: Listeners,
    /// The connection of each successor, by its number less one.
    pub(super) channels: [Option<Channel>; INSTANCES - 1],
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Incumbent => Self::Successor,
            Self::Successor => Self::Incumbent,
        }
    }
}

impl Channel {
    pub(super) fn new() -> Self {
        Self { queues: Default::default(), open: [true; 2], broken: false }
    }

    /// Sends a message. Where nobody reads any more it is lost, as in `Channel::flush`.
    pub(super) fn send(&mut self, to: End, message: Message) {
        if !self.broken && self.open[to as usize] {
            self.queues[to as usize].push_back(plain(message));
        }
    }

    pub(super) fn queue(&self, at: End) -> &VecDeque<Message> {
        &self.queues[at as usize]
    }

    /// Whether reading at this end gives something.
    pub(super) fn is_readable(&self, at: End) -> bool {
        !self.queue(at).is_empty() || self.has_ended(at)
    }

    fn has_ended(&self, at: End) -> bool {
        self.broken || !self.open[at.other() as usize]
    }

    pub(super) fn read(&mut self, at: End) -> Option<Read> {
        let message = self.queues[at as usize].pop_front().map(Read::Message);
        message.or_else(|| self.has_ended(at).then_some(Read::End))
    }

    /// Which listening sockets are on their way.
    pub(super) fn carries(&self) -> Listeners {
        let mut carried = Listeners::default();
        for message in self.queue(End::Successor) {
            if let Message::Offer { labels, .. } = message {
                labels.iter().for_each(|label| carried[number(&label.id)] = true);
            }
        }
        carried
    }

    /// Forgets what nobody will read.
    pub(super) fn tidy(&mut self) {
        for end in [End::Incumbent, End::Successor] {
            if !self.open[end as usize] {
                self.queues[end as usize].clear();
            }
        }
    }
}

impl Outside {
    pub(super) fn channel(&self, number: usize) -> &Channel {
        self.channels[number].as_ref().expect("a conversation has its channel")
    }

    pub(super) fn channel_mut(&mut self, number: usize) -> &mut Channel {
        self.channels[number].as_mut().expect("a conversation has its channel")
    }

    /// Whether `who` listens at the path of the upgrade socket.
    pub(super) fn is_at_the_path(&self, who: usize) -> bool {
        self.upgrade_path == Some(who) && self.desks[who]
    }
}

/// The identity of a listener.
pub(super) fn id(listener: usize) -> ListenerId {
    ListenerId::fixed(&address(listener))
}

/// What is said of a listener that is passed on.
pub(super) fn label(listener: usize) -> Label {
    Label { id: id(listener), address: address(listener), file: None }
}

/// The identities of a set of listeners.
pub(super) fn ids(listeners: Listeners) -> Vec<ListenerId> {
    (0..LISTENERS).filter(|one| listeners[*one]).map(id).collect()
}

/// Which listener an identity means.
pub(super) fn number(id: &ListenerId) -> usize {
    (0..LISTENERS).find(|one| self::id(*one) == *id).expect("a listener of the model")
}

fn address(listener: usize) -> Address {
    Address::Tcp(([127, 0, 0, 1], u16::try_from(listener + 1).expect("few listeners")).into())
}

/// The message without its words for people, so that states that differ in them alone are one.
fn plain(message: Message) -> Message {
    let why = String::new();
    match message {
        Message::Refuse { .. } => Message::Refuse { why },
        Message::Ending { .. } => Message::Ending { why },
        Message::Declined { number, .. } => Message::Declined { number, why },
        Message::End { .. } => Message::End { why },
        other => other,
    }
}
