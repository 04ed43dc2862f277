//! What the configuration says of a group of servers, in valid values only.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::Address;
use crate::h2::client::ClientSettings;
use crate::tls::Connector;

/// One group of servers, with the way to choose among them and to keep connections to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// At least one server.
    pub servers: Vec<Server>,
    /// How idle connections are kept.
    pub pool: PoolSettings,
    /// How connections in HTTP/2 are shared.
    pub sharing: SharingSettings,
}

/// One server of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As the configuration names it, for logs.
    pub name: String,
    /// At least one address; the next is tried where one refuses.
    pub addresses: Vec<Address>,
    /// How it is spoken to where that is over TLS; none where it is plainly.
    pub tls: Option<Connector>,
    /// Its share of the requests, relative to the other servers of the group.
    pub weight: NonZeroU32,
    /// What it is spoken to in.
    pub proto: Proto,
}

/// The protocol that a server is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// HTTP/1.1.
    #[default]
    H1Only,
    /// HTTP/2: by ALPN over TLS, else by prior knowledge (RFC 9113 §3.3).
    H2Only,
    /// HTTP/2 where the server chooses it by ALPN, else HTTP/1.1; only over TLS.
    H2OrH1,
}

/// How idle connections to a server are kept. Every number is per worker and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How many idle connections are kept; 0 keeps none. As many again may be there for a second, between two bursts.
    pub max_idle: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How many requests a connection carries before it is closed; at least 1.
    pub max_requests: u64,
}

impl Proto {
    /// What is offered to the server over TLS (RFC 7301), the best first.
    pub fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            Self::H1Only => &[b"http/1.1"],
            Self::H2Only => &[b"h2"],
            Self::H2OrH1 => &[b"h2", b"http/1.1"],
        }
    }
}

/// How connections in HTTP/2 to a server are shared. Every number is per worker and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharingSettings {
    /// How many connections may take requests at a time; at least 1. Another is made when all are full.
    pub max_connections: usize,
    /// How many requests may wait for one of them to have room.
    pub max_waiting: usize,
    /// How each connection is used.
    pub connection: ClientSettings,
}

impl Default for SharingSettings {
    fn default() -> Self {
        Self { max_connections: 8, max_waiting: 1000, connection: ClientSettings::default() }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { max_idle: 128, idle_timeout: Duration::from_secs(60), max_requests: 10_000 }
    }
}
