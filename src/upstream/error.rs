//! Why no connection to a server could be had.

use std::{fmt, io};

/// Why a request got no connection to any server of its group.
#[derive(Debug)]
pub enum ConnectError {
    /// Every server was tried; this is what the last one said.
    Refused {
        /// The server, as the configuration names it.
        server: String,
        /// What connecting to it failed with.
        source: io::Error,
    },
    /// Every server was tried, and the last did not answer within the connect time-out.
    TimedOut {
        /// The server, as the configuration names it.
        server: String,
    },
    /// Every server of the group has been tried for this request.
    Exhausted,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { server, source } => write!(f, "cannot connect to {server}: {source}"),
            Self::TimedOut { server } => {
                write!(f, "connecting to {server} took longer than the connect time-out")
            }
            Self::Exhausted => f.write_str("no server of the group is left to try"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::TimedOut { .. } | Self::Exhausted => None,
        }
    }
}
