//! Why a hand-over came to nothing.

use std::fmt;

/// Why a hand-over ended before its time, as seen from one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The other side said no.
    Refused(String),
    /// The other side ends, and so hands nothing over.
    Ending(String),
    /// This side said no.
    Gave(String),
    /// The other side closed the connection, or its process ended.
    Closed,
    /// The other side did not do its next step in time; the step is named.
    TimedOut(&'static str),
    /// The other side said something that has no place here.
    Unexpected {
        /// The message's name.
        message: &'static str,
        /// What was waited for.
        awaited: &'static str,
    },
    /// The other side sent something that cannot be understood.
    Unreadable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Ending(why) => write!(f, "the other instance ends: {why}"),
            Self::Gave(why) => f.write_str(why),
            Self::Closed => f.write_str("the other instance closed the connection or ended"),
            Self::TimedOut(awaited) => write!(f, "timed out waiting for {awaited}"),
            Self::Unexpected { message, awaited } => {
                write!(f, "the other instance sent {message} where {awaited} was awaited")
            }
            Self::Unreadable(why) => write!(f, "the other instance cannot be understood: {why}"),
        }
    }
}

impl std::error::Error for Failure {}
