//! Why no connection to a server could be had.

use std::{fmt, io};

use crate::h2::client::{First, Unsettled};
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
    /// Every server was tried, and the last did not begin to speak HTTP/2, or ended each connection before it took a request.
    Unsettled {
        /// The server, as the configuration names it.
        server: String,
        /// Whether that is over TLS.
        secure: bool,
        /// What it did instead.
        source: Unsettled,
    },
    /// Every server of the group has been tried for this request.
    Exhausted,
}

impl ConnectError {
    /// Whether a server that speaks HTTP/2 has ended its connection before a request could be sent on it.
    pub(super) fn is_farewell(&self) -> bool {
        matches!(self, Self::Unsettled { source, .. } if source.first() == Some(First::Settings))
    }

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
            Self::Protocol { server } => write!(
                f,
                "{server} did not choose HTTP/2 over TLS (h2 by ALPN), which its proto asks for: set proto to H2OrH1 or \
                 H1Only, or let the server offer h2"
            ),
            Self::Unsettled { server, secure, source } => {
                if self.is_farewell() {
                    return write!(f, "{server} took no request: {source}");
                }
                write!(f, "{server} does not speak HTTP/2: {source}")?;
                f.write_str(match (source.first(), secure) {
                    (Some(First::Http1), _) => {
                        "; set proto to H1Only, or let the server take HTTP/2 without TLS by prior knowledge"
                    }
                    (Some(First::Tls), false) => "; set tls_sni, for the server wants TLS",
                    (None | Some(First::Other), false) => {
                        "; see that its proto and tls_sni are what it expects"
                    }
                    _ => "",
                })
            }
            Self::Exhausted => f.write_str("no server of the group is left to try"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused { source, .. } => Some(source),
            Self::Handshake { source, .. } => Some(source),
            Self::Unsettled { source, .. } => Some(source),
            Self::TimedOut { .. } | Self::Full { .. } | Self::Protocol { .. } | Self::Exhausted => None,
        }
    }
}
