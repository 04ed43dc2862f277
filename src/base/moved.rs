//! A client's connection that goes from one instance to another, together with its sockets.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ListenerId;

/// What the new instance has to know of a connection that it is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The listener that accepted it, which says what service it is to.
    pub listener: ListenerId,
    /// The client's address; none on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// How many requests were answered on it.
    pub requests: u64,
    /// What it is doing.
    pub state: MovedState,
    /// An idle connection to a server of the service comes along, and its socket is the last: how many requests it has
    /// carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare: Option<u64>,
}

impl Moved {
    /// How many sockets come with it.
    pub fn sockets(&self) -> usize {
        let own = match self.state {
            MovedState::Idle => 1,
            MovedState::Tunnel(_) => 2,
        };
        own + usize::from(self.spare.is_some())
    }
}

/// What a connection that moves is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MovedState {
    /// It waits for a request, and nothing of one has been read. It has one socket: the client's.
    Idle,
    /// It is a tunnel. It has two sockets: the client's and the server's.
    Tunnel(MovedTunnel),
}

/// A tunnel that moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MovedTunnel {
    /// The server, as the configuration named it, for logs.
    pub server: String,
    /// The line of the request that asked for the tunnel, for logs.
    pub request: String,
    /// What was read from the client and not yet sent to the server.
    pub to_server: Held,
    /// What was read from the server and not yet sent to the client.
    pub to_client: Held,
}

/// One direction of a tunnel: bytes on their way, and whether their source has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The bytes; in messages as hexadecimal digits.
    #[serde(with = "super::hex")]
    pub bytes: Vec<u8>,
    /// The source sends nothing more; once the bytes are sent, the sink is told so.
    pub ended: bool,
}

/// The most bytes of each direction that a tunnel may hold when it moves.
pub const MAX_HELD: usize = 24 * 1024;
