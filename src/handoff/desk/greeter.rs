//! Somebody who has connected to the upgrade socket and not said yet what for.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::{Async, Timer};

use crate::handoff::{Channel, ChannelError, GREETING_TIMEOUT, Giver, Message, MessageError, with_cause};
use crate::system::Peer;

/// A connection whose first message is awaited, for at most [`GREETING_TIMEOUT`].
#[derive(Debug)]
pub(super) struct Greeter {
    pub(super) channel: Channel,
    pub(super) pid: u32,
    pub(super) pidfd: Async<OwnedFd>,
    deadline: Timer,
}

/// How the waiting ended.
#[derive(Debug)]
pub(super) enum First {
    /// It said this, which may be no message at all.
    Said(Result<Message, MessageError>),
    /// It went, or said nothing in time; why.
    Ended(String),
}

impl Greeter {
    /// # Errors
    /// When the reactor does not take the peer's pidfd.
    pub(super) fn new(channel: Channel, peer: Peer) -> io::Result<Self> {
        let (pid, pidfd) = peer.into_parts();
        // A pidfd is opened nonblocking already and has no flags to set.
        let pidfd = Async::new_nonblocking(pidfd)?;
        Ok(Self { channel, pid, pidfd, deadline: Timer::after(GREETING_TIMEOUT) })
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<First> {
        Poll::Ready(match self.channel.poll_next(cx) {
            Poll::Ready(Ok(incoming)) => First::Said(Ok(incoming.message)),
            Poll::Ready(Err(ChannelError::Unreadable(error))) => First::Said(Err(error)),
            Poll::Ready(Err(error)) => First::Ended(with_cause(&error)),
            Poll::Pending if Pin::new(&mut self.deadline).poll(cx).is_ready() => {
                First::Ended("it said nothing in time".to_owned())
            }
            Poll::Pending => return Poll::Pending,
        })
    }

    /// Goes on with it as with a successor, to which it has said the first word.
    pub(super) fn into_giver(self, first: Result<Message, MessageError>, step_timeout: Duration) -> Giver {
        let mut giver = Giver::new(self.channel, self.pid, self.pidfd, step_timeout);
        giver.hear(first);
        giver
    }
}
