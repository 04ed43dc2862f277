//! How connections to servers behave, in valid values only.

use std::time::Duration;

/// How one connection to a server is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// How many streams may be open at a time, whatever more the server allows; at least 1.
    pub max_streams: usize,
    /// How many streams it carries in all before it is replaced; at least 1.
    pub max_requests: u64,
    /// How many bytes of one response may be on their way to a client that does not read: the window of a stream, from
    /// 65,535 to 2^24. The window of the connection is as many times that as there may be streams, so that clients that
    /// do not read hold up nobody else.
    pub window: u32,
    /// Bytes of a response's fields, counted as in RFC 9113 §6.5.2.
    pub max_head: u32,
    /// How long nothing may be heard before the server is asked whether it is there; not at all where it is none.
    pub ping_interval: Option<Duration>,
    /// How long it may take to answer that.
    pub ping_timeout: Duration,
    /// How long a connection without streams is kept.
    pub idle_timeout: Duration,
}

/// A stream of this number is not opened: the last has 2^31 - 1, and a client's are odd (RFC 9113 §5.1.1).
const MOST_STREAMS: u64 = 1 << 30;

/// The largest window there is (RFC 9113 §6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

impl ClientSettings {
    /// How many streams a connection carries in all.
    pub(super) fn most_streams(&self) -> u64 {
        self.max_requests.min(MOST_STREAMS - 1)
    }

    /// The window of the whole connection.
    pub(super) fn connection_window(&self) -> u32 {
        let streams = u32::try_from(self.max_streams).unwrap_or(u32::MAX);
        self.window.saturating_mul(streams).min(LARGEST_WINDOW)
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            max_streams: 100,
            max_requests: 10_000,
            window: 256 << 10,
            max_head: 32 << 10,
            ping_interval: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}
