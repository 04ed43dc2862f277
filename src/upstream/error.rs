//! Why no connection to a server could be had.

use std::{fmt, io};

use crate::runtime::{AcceptErrorKind, accept_error_kind};
use crate::tls::HandshakeError;

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
    /// Every server was tried, and with the last there is no TLS.
    Handshake {
        /// The server, as the configuration names it.
        server: String,
        /// What the handshake with it failed with.
        source: HandshakeError,
    },
    /// Every server was tried, and the last did not answer within the connect time-out.
    TimedOut {
        /// The server, as the configuration names it.
        server: String,
    },
    /// Every server was tried, and the connections to the last carried as many requests as they may until the connect
    /// time-out, or too many waited for them.
    Full {
        /// The server, as the configuration names it.
        server: String,
    },
    /// Every server was tried, and the last is to be spoken to in HTTP/2 and did not choose that over TLS.
    Protocol {
        /// The server, as the configuration names it.
        server: String,
    },
    /// Every server of the group has been tried for this request.
    Exhausted,
}

impl ConnectError {
    /// Whether the want is on this side: no descriptor, memory or local port for another connection. It says nothing
    /// of the server.
    pub fn is_own(&self) -> bool {
        let Self::Refused { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::AddrNotAvailable
            || accept_error_kind(source) == AcceptErrorKind::Resource
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { server, source } => write!(f, "cannot connect to {server}: {source}"),
            Self::Handshake { server, source } => write!(f, "no TLS with {server}: {source}"),
            Self::TimedOut { server } => {
                write!(f, "connecting to {server} took longer than the connect time-out")
            }
            Self::Full { server } => {
                write!(
                    f,
                    "the connections to {server} had no room for another request within the connect time-out"
                )
            }
            Self::Protocol { server } => write!(f, "{server} did not choose HTTP/2 over TLS"),
            Self::Exhausted => f.write_str("no server of the group is left to try"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::Handshake { source, .. } => Some(source),
            Self::TimedOut { .. } | Self::Full { .. } | Self::Protocol { .. } | Self::Exhausted => None,
        }
    }
}
