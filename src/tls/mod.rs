//! TLS on top of the runtime's streams: both handshakes, and the stream that they make.
//!
//! All calls to rustls are made in this room. What the rooms left of it see is an [`Acceptor`] for a listener, which holds
//! the configuration that its handshakes use at the moment.

mod acceptor;

pub use acceptor::{Acceptor, HandshakeLimits};
