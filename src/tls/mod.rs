//! TLS on top of the runtime's streams: both handshakes, and the stream that they make.
//!
//! All calls to rustls are made in this room. What the rooms left of it see is an [`Acceptor`] for a listener, which holds
//! the configuration that its handshakes use at the moment. It is made of the listener's [`Credentials`], which the
//! control thread renews when their files change.

mod acceptor;
mod credentials;
mod facts;
mod loaded;
mod names;
mod pem;
mod resolver;
mod settings;
mod tickets;

pub use acceptor::{Acceptor, HandshakeLimits};
pub use credentials::{Credentials, Renewal};
pub use facts::{Facts, FactsError};
pub use loaded::{Fault, Piece};
pub use pem::Problem;
pub use rustls::CipherSuite;
pub use settings::{
    CertificateFiles, ClientAuth, ListenerTls, MAX_FORMER_KEYS, MAX_TICKET_LIFETIME, MinVersion,
    TicketSettings, cipher_suite, cipher_suite_names, is_of_tls13,
};
pub use tickets::{TicketKey, TicketKeys, Tickets};
