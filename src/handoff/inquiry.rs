//! Asking the instance in service what instances there are, over the upgrade socket.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use async_io::Async;

use super::{Channel, ChannelError, ConnectError, GREETING_TIMEOUT, Message, connect_to};
use crate::base::InstanceReport;
use crate::system::{Peer, owner_for_root};

/// The most instances that an answer may speak of: more than can drain at a time, and those ended lately.
const MAX_INSTANCES: usize = 4096;

/// A question that was asked, and whoever was asked.
#[derive(Debug)]
pub struct Inquiry {
    channel: Channel,
    peer: Peer,
}

/// What the instance in service said.
#[derive(Debug)]
pub struct Answer {
    /// The instance in service first, then the one that waits to take over, if one does, then those that drain, then those
    /// that have ended lately.
    pub instances: Vec<InstanceReport>,
    /// The answering instance's standard output and standard error, where they were asked for and are open.
    pub streams: Option<(OwnedFd, OwnedFd)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum InquiryError {
    /// The instance in service cannot be reached.
    Connect(ConnectError),
    /// It does not answer this question, as earlier builds do not.
    Refused(String),
    /// It said something else.
    Unexpected(&'static str),
    /// The connection ended or failed, or nothing came in time.
    Channel(ChannelError),
    /// The question cannot be asked.
    Ask(super::MessageError),
}

impl Inquiry {
    /// Asks the instance in service at the upgrade socket `path`.
    ///
    /// With `watch` it answers again at every change; with `streams` its first answer brings its standard streams.
    ///
    /// # Errors
    /// When nobody is to be asked there.
    pub fn open(path: &Path, watch: bool, streams: bool) -> Result<Self, InquiryError> {
        let (mut channel, peer) = connect_to(path, owner_for_root(path)).map_err(InquiryError::Connect)?;
        channel.push(&Message::Ask { watch, streams }, Vec::new()).map_err(InquiryError::Ask)?;
        Ok(Self { channel, peer })
    }

    /// The first answer, which comes within [`GREETING_TIMEOUT`] or not at all.
    ///
    /// # Errors
    /// [`InquiryError`], but never `Connect` nor `Ask`.
    pub async fn first(&mut self) -> Result<Answer, InquiryError> {
        let incoming = self.channel.next_before(Instant::now() + GREETING_TIMEOUT).await;
        Self::answer(incoming)
    }

    /// The next answer, of one that watches. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`InquiryError`], but never `Connect` nor `Ask`.
    pub async fn next(&mut self) -> Result<Answer, InquiryError> {
        let incoming = self.channel.next().await;
        Self::answer(incoming)
    }

    /// Who was asked.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits for the end of the process that was asked, as long as the future is polled.
    ///
    /// # Errors
    /// When the reactor does not take its pidfd.
    pub fn end(&self) -> io::Result<impl Future<Output = ()> + use<>> {
        let pidfd = Async::new_nonblocking(self.peer.pidfd().try_clone_to_owned()?)?;
        Ok(async move {
            // What cannot be waited for has ended.
            let _ = pidfd.readable().await;
        })
    }

    fn answer(incoming: Result<super::Incoming, ChannelError>) -> Result<Answer, InquiryError> {
        let incoming = incoming.map_err(InquiryError::Channel)?;
        match incoming.message {
            Message::Instances(mut instances) => {
                instances.truncate(MAX_INSTANCES);
                let mut fds = incoming.fds.into_iter();
                Ok(Answer { instances, streams: fds.next().zip(fds.next()) })
            }
            Message::Refuse { why } | Message::Ending { why } => Err(InquiryError::Refused(why)),
            other => Err(InquiryError::Unexpected(other.name())),
        }
    }
}

impl fmt::Display for InquiryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Refused(why) => write!(f, "the instance in service does not answer: {why}"),
            Self::Unexpected(name) => write!(f, "the instance in service answered {name}"),
            Self::Channel(_) => f.write_str("the instance in service gave no answer"),
            Self::Ask(_) => f.write_str("the question cannot be asked"),
        }
    }
}

impl std::error::Error for InquiryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) => error.source(),
            Self::Refused(_) | Self::Unexpected(_) => None,
            Self::Channel(cause) => Some(cause),
            Self::Ask(cause) => Some(cause),
        }
    }
}
