//! One exchange, from the request's head to its log line.
//!
//! [`serve`] owns a client's connection for its whole life. Each request becomes two [`pump`](self)s: one takes the
//! request to the server, one takes the response back; a tunnel is two pumps as well.
//!
//! # Cancel safety
//!
//! Dropping the future of [`serve`] at any point closes the client's connection and the server's, if one is in use;
//! a server's connection goes back to its pool only after a whole exchange.

mod attempt;
mod connection;
mod context;
mod depart;
mod download;
mod downstream;
mod exchange;
mod failure;
mod lines;
mod pump;
mod respond;
mod rewrite;
mod scratch;
mod settings;
mod tunnel;
mod upload;

pub use connection::serve;
pub use context::ServiceContext;
pub use depart::{Leave, Leaving, Permit, Resting};
pub use settings::{Handler, Limits, Respond, Service, Timeouts};
