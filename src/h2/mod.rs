//! HTTP/2 (RFC 9113), as streams that look like connections in HTTP/1.1.
//!
//! The framing is that of the `h2` crate. What is here converts at its edge: each stream reads and writes like a
//! [`Wire`](crate::wire::Wire) that carries one exchange, so that the proxy knows one version of the protocol only.

mod blocks;
pub mod client;
mod drained;
mod error;
mod io;
mod meter;
mod server;
mod websocket;

pub use ::h2::Reason;
pub use drained::Drained;
pub use error::Error;
pub use io::Io;
pub use meter::Excess;
pub use server::{Malformed, Opened, PREFACE, Server, ServerLimits, ServerStream};
