//! TLS on top of the runtime's streams: both handshakes, and the stream that they make.
//!
//! All calls to rustls are made in this room. What the rooms left of it see is an [`Acceptor`] for a listener, a
//! [`Connector`] for a server, and the [`TlsStream`] that [`accept`] or [`connect`] makes with them. A listener's acceptor
//! is made of its [`Credentials`], which the control thread renews when their files change.
//!
//! # Cancel safety
//!
//! Dropping the future of a handshake closes its connection and gives its turn to the next. A [`TlsStream`] has polls
//! only; a write that was pending has to be gone on with, by the same bytes, before another one.

mod acceptor;
mod client;
mod connector;
mod credentials;
mod expiry;
mod facts;
mod handshake;
mod loaded;
mod names;
mod pem;
mod provider;
mod resolver;
mod session;
mod settings;
mod store;
mod stream;
mod tickets;
mod turnstile;
mod watch;

#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, HandshakeLimits};
pub use client::ClientRefused;
pub use connector::{Connector, ConnectorError, Identity, Roots, is_server_name};
pub use credentials::{Credentials, Renewal};
pub use facts::{Facts, FactsError};
pub use handshake::{Accepted, HandshakeError, accept, connect};
pub use loaded::{Fault, Piece};
pub use pem::Problem;
pub use rustls::CipherSuite;
pub use settings::{
    CertificateFiles, ClientAuth, ListenerTls, MAX_FORMER_KEYS, MAX_TICKET_LIFETIME, MinVersion, Offer,
    TicketSettings, cipher_suite, cipher_suite_names, is_of_tls13,
};
pub use store::Store;
pub use stream::TlsStream;
pub use tickets::{TicketKey, TicketKeys, Tickets};
pub use watch::Watch;
