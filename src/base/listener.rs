//! The identity of a listener, which outlives the process that made it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Address, FileId};

/// The identity of a listener across instances: its address in canonical form.
///
/// A listener that asks the kernel for a port (`127.0.0.1:0`) has no address of its own until it is bound; its
/// identity also names its service and its place among that service's listeners of the same kind, so that two of
/// them never collapse into one (`127.0.0.1:0#web.1`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId(String);

impl ListenerId {
    /// The identity of a listener bound to a fixed address.
    pub fn fixed(address: &Address) -> Self {
        Self(address.to_string())
    }

    /// The identity of the `nth` listener of `service` that asks the kernel for a port on `address`.
    pub fn ephemeral(address: &Address, service: &str, nth: usize) -> Self {
        Self(format!("{address}#{service}.{nth}"))
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a listening descriptor is said to be when it is passed to another process, which checks it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Which listener it is.
    pub id: ListenerId,
    /// The address the socket is bound to, with the port that the kernel chose.
    pub address: Address,
    /// For a Unix socket, the file at its path as it was made, to be told from one that stands there later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileId>,
}
