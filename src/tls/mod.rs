//! TLS on top of the runtime's streams: both handshakes, and the stream that they make.
//!
//! All calls to rustls are made in this room. What the rooms left of it see is an [`Acceptor`] for a listener, a
//! [`Connector`] for a server, and the [`TlsStream`] that [`accept`] or [`connect`] makes with them.
//!
//! # Cancel safety
//!
//! Dropping the future of a handshake closes its connection and gives its turn to the next. A [`TlsStream`] has polls
//! only; a write that was pending has to be polled again with the same bytes before another one.

mod acceptor;
mod connector;
mod handshake;
mod provider;
mod session;
mod stream;
mod turnstile;

#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, HandshakeLimits};
pub use connector::{Connector, ConnectorError, Identity, Roots};
pub use handshake::{Accepted, HandshakeError, accept, connect};
pub use stream::TlsStream;
