//! What the configuration says of a group of servers, in valid values only.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::Address;
use crate::tls::Connector;

/// One group of servers, with the way to choose among them and to keep connections to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// At least one server.
    pub servers: Vec<Server>,
    /// How idle connections are kept.
    pub pool: PoolSettings,
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
}

/// How idle connections to a server are kept. Every number is per worker and server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// How many idle connections are kept; 0 keeps none.
    pub max_idle: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How many requests a connection carries before it is closed; at least 1.
    pub max_requests: u64,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { max_idle: 128, idle_timeout: Duration::from_secs(60), max_requests: 10_000 }
    }
}
