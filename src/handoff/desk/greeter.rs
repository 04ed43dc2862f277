//! A connection to the upgrade socket whose first message has not come: what it is for is not known.

use std::task::{Context, Poll, ready};

use crate::base::InstanceReport;
use crate::handoff::deadline::Deadline;
use crate::handoff::{Channel, ChannelError, GREETING_TIMEOUT, Message, with_cause};
use crate::system::Peer;

/// Who has connected.
#[derive(Debug)]
pub(super) struct Greeter {
    /// Until what it is for is known.
    here: Option<(Channel, Peer)>,
    deadline: Deadline<()>,
}

/// What a connection turned out to be for.
#[derive(Debug)]
pub(super) enum Errand {
    /// To take over, or so it seems: this is its first message.
    TakeOver(Channel, Peer, Message),
    /// To hear what instances there are.
    Ask { channel: Channel, peer: Peer, watch: bool, streams: bool },
    /// To report how an instance drains.
    Report(Channel, Peer, InstanceReport),
    /// Nothing that can be told: the process, and why it is refused.
    Refused(u32, String),
    /// Nothing: this process went without a word, as one does that only looks whether anybody is in service.
    Nothing(u32),
}

impl Greeter {
    pub(super) fn new(channel: Channel, peer: Peer) -> Self {
        Self { here: Some((channel, peer)), deadline: Deadline::default() }
    }

    /// What it is for; the task is woken when that may be known. To be dropped then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Errand> {
        let Some((channel, _)) = &mut self.here else { return Poll::Pending };
        self.deadline.arm(Some(()), |()| GREETING_TIMEOUT);
        let heard = match channel.poll_next(cx) {
            Poll::Pending if self.deadline.is_over(cx) => Err(ChannelError::TimedOut),
            heard => ready!(heard),
        };
        let Some((mut channel, peer)) = self.here.take() else { return Poll::Pending };
        Poll::Ready(match heard.map(|incoming| incoming.message) {
            Ok(Message::Ask { watch, streams }) => Errand::Ask { channel, peer, watch, streams },
            Ok(Message::Draining(report)) => Errand::Report(channel, peer, report),
            Ok(other) => Errand::TakeOver(channel, peer, other),
            Err(ChannelError::Closed) => Errand::Nothing(peer.pid()),
            Err(error) => {
                let why = with_cause(&error);
                let _ = channel.push(&Message::Refuse { why: why.clone() }, Vec::new());
                Errand::Refused(peer.pid(), why)
            }
        })
    }
}
