//! What the configuration says of a service, in valid values only.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::Tcp;
use crate::{h2, tls, upstream};

/// What holds for the connections of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The listener's identity, as logs give it.
    pub listener: Arc<str>,
    /// How its clients are taken where they speak TLS; none where they speak plainly.
    pub tls: Option<Arc<tls::Acceptor>>,
    /// What is asked of clients that speak TLS, and what servers are told of it; none where they are asked for nothing.
    pub client_auth: Option<Arc<tls::ClientAuth>>,
    /// Clients may speak HTTP/2: with TLS if they choose it by ALPN, without if they begin with its preface.
    pub offer_h2: bool,
}

/// One service: what is done with the requests that arrive on its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// How much a client may ask for.
    pub limits: Limits,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// How much a client may ask of a connection in HTTP/2.
    pub h2: h2::ServerLimits,
    /// What answers.
    pub handler: Handler,
}

impl Service {
    /// Whether its clients send requests, rather than bytes of any kind.
    pub fn takes_requests(&self) -> bool {
        !matches!(self.handler, Handler::Tcp(_))
    }
}

/// What answers the requests of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// They are forwarded to a group of servers.
    Proxy {
        /// The servers.
        group: upstream::Group,
        /// The pseudonym added as `Via: 1.1 pseudonym` to what is forwarded, both ways (RFC 9110 §7.6.3).
        via: Option<HeaderValue>,
    },
    /// They all get one fixed answer.
    Respond(Respond),
    /// There are no requests: the connections themselves are passed on to servers.
    Tcp(Tcp),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: StatusCode,
    /// Without framing and hop-by-hop fields, which River writes itself.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Empty where the status allows no body (204, 304).
    pub body: Vec<u8>,
}

/// How much a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to the service's listeners at one time, over all workers; at least 1.
    pub max_connections: usize,
    /// Bytes of a request's or response's head, start line included; 1 KiB to 1 MiB.
    pub max_head: usize,
    /// Fields of a head; 1 to 1,000.
    pub max_headers: usize,
    /// Bytes of a request's body.
    pub max_body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: 20_000, max_head: 32 << 10, max_headers: 100, max_body: 64 << 20 }
    }
}

/// How long each step may take. None is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Downstream: from a head's first byte (or the connection's begin) to its last.
    pub head: Duration,
    /// Downstream: between two requests of a connection.
    pub idle: Duration,
    /// Downstream: between two reads of a request's body.
    pub body: Duration,
    /// Downstream: until a client takes the next bytes of a response.
    pub send: Duration,
    /// Upstream: until a connection is established.
    pub connect: Duration,
    /// Upstream: until the response's head, and between two reads of its body.
    pub upstream_read: Duration,
    /// Upstream: until the server takes the next bytes of a request.
    pub upstream_write: Duration,
    /// From a request's first byte to the last byte of its response's head.
    pub request: Duration,
    /// A tunnel (after 101, or a connection of a tcp service) with no byte in either direction.
    pub tunnel: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            head: seconds(10),
            idle: seconds(60),
            body: seconds(60),
            send: seconds(60),
            connect: seconds(3),
            upstream_read: seconds(60),
            upstream_write: seconds(60),
            request: seconds(300),
            tunnel: seconds(3600),
        }
    }
}
