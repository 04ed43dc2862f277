//! One exchange, from the request's head to its log line.
//!
//! [`serve`] owns a client's connection for its whole life. Each request becomes two [`pump`](self)s: one takes the
//! request to the server, one takes the response back; a tunnel is two pumps as well.
//!
//! # Leaving for another instance
//!
//! While the worker's connections are told [`Leave::Move`], one that waits for a request, with nothing read of it, waits
//! for a permit too, and a tunnel does between two turns of its pumps. With a permit in hand it is taken apart, and
//! [`serve`] returns a [`Parting`]: sockets that no epoll instance knows, and what is known of them, down to the bytes of
//! a tunnel that were read and not yet sent. From the [`Resting`] connection in it, `serve` goes on here or in another
//! instance without a difference. One that comes back says `Connection: close` with its next response, and is not
//! offered again before the worker's connections were told to stay.
//!
//! # Cancel safety
//!
//! Dropping the future of [`serve`] at any point closes the client's connection and the server's, if one is in use;
//! a server's connection goes back to its pool only after a whole exchange. A permit that it waits for goes to another.

mod attempt;
mod connection;
mod context;
mod cut;
mod depart;
mod download;
mod downstream;
mod exchange;
mod failure;
mod fields;
mod greet;
mod lines;
mod pump;
mod respond;
mod rewrite;
mod runners;
mod scratch;
mod settings;
mod streams;
mod tcp;
mod tunnel;
mod upload;

pub use connection::serve;
pub use context::ServiceContext;
pub use depart::{Keeper, Leave, Leaving, Parting, Permit, Resting};
pub use settings::{Handler, Limits, Respond, Service, Terms, Timeouts};
pub use tcp::{ClientHello, Hello, MAX_CLIENT_HELLO, Routes, Tcp};
