//! Why a stream ended before its response was complete, and what that says of its request.

use std::{error, fmt, io};

use ::h2::{Error, Reason};

use super::watched::GoAway;

/// What is known of what became of a request whose response did not come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: its connection ended without a word.
    #[default]
    Unsaid,
    /// The server has ended it by a word of its own (RST_STREAM, GOAWAY), and may have looked at it.
    Said,
    /// The server has refused to begin with it (RST_STREAM with REFUSED_STREAM, RFC 9113 §8.7).
    Refused,
    /// The server has never looked at it: its GOAWAY names an earlier stream as the last (RFC 9113 §6.8), or the stream
    /// was not opened.
    Unseen,
}

/// What ended a connection, where that was this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// The server has not answered a PING in time.
    NoPong,
    /// The server has sent interim responses that nobody could take.
    Flooded,
}

/// What ended a stream, in the words of RFC 9113.
#[derive(Debug)]
pub(super) enum Cause {
    Reset(Reason),
    /// The stream is not among those that the server looks at.
    Unseen(GoAway, Option<u32>),
    /// It is, but the connection ended.
    After(GoAway, Option<u32>),
    /// The server broke the protocol.
    Fault(Reason),
    Own(Own),
    Closed,
    Other(Error),
}

impl Cause {
    /// `stream` is the number of the stream, if it has one; `word` what the server has said of its connection.
    pub(super) fn of(error: Error, stream: Option<u32>, word: Option<GoAway>, own: Option<Own>) -> Self {
        let unseen = |word: &GoAway| stream.is_none_or(|stream| stream > word.last);
        match (error.reason(), word, own) {
            (Some(reason), ..) if error.is_reset() && error.is_remote() => Self::Reset(reason),
            (_, Some(word), _) if error.is_remote() && unseen(&word) => Self::Unseen(word, stream),
            (Some(reason), ..) if error.is_library() => Self::Fault(reason),
            (.., Some(own)) => Self::Own(own),
            (_, Some(word), _) if error.is_io() || error.is_remote() => Self::After(word, stream),
            _ if error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => {
                Self::Closed
            }
            _ => Self::Other(error),
        }
    }

    /// What it says of the request.
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Reset(Reason::REFUSED_STREAM) => Ending::Refused,
            Self::Unseen(word, _) if word.reason == Reason::NO_ERROR => Ending::Unseen,
            // It may have been this request that the server could not stand.
            Self::Unseen(..) => Ending::Refused,
            Self::Reset(_) | Self::After(..) | Self::Fault(_) => Ending::Said,
            Self::Own(_) | Self::Closed | Self::Other(_) => Ending::Unsaid,
        }
    }
}

impl From<Cause> for io::Error {
    fn from(cause: Cause) -> Self {
        let kind = match &cause {
            Cause::Other(error) => error.get_io().map_or(io::ErrorKind::ConnectionReset, Self::kind),
            _ => io::ErrorKind::ConnectionReset,
        };
        Self::new(kind, cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset(reason) => write!(f, "the server reset the stream (RST_STREAM, {reason:?})"),
            Self::Unseen(word, Some(stream)) => {
                write!(f, "the server said {word} and has not looked at stream {stream}")
            }
            Self::Unseen(word, None) => write!(f, "the server said {word} before the stream was opened"),
            Self::After(word, Some(stream)) => {
                write!(
                    f,
                    "the server said {word} and closed the connection before the end of stream {stream}"
                )
            }
            Self::After(word, None) => write!(f, "the server said {word} and closed the connection"),
            Self::Fault(reason) => write!(f, "the server broke the protocol of HTTP/2 ({reason:?})"),
            Self::Own(Own::NoPong) => f.write_str("the server did not answer a PING within h2.ping_timeout"),
            Self::Own(Own::Flooded) => {
                f.write_str("the server sent interim responses faster than the client took them")
            }
            Self::Closed => f.write_str("the server closed the connection without GOAWAY"),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

impl error::Error for Cause {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Other(error) => Some(error),
            _ => None,
        }
    }
}
