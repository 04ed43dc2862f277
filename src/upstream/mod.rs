//! The servers behind River: choosing one, connecting to it, keeping its connections.
//!
//! Everything here belongs to one worker; nothing is shared or locked.

mod balance;
mod error;
mod lesson;
mod pool;
mod settings;
mod shared;
mod upstreams;
mod waiting;

#[cfg(test)]
mod tests;

pub use error::ConnectError;
pub use settings::{Group, PoolSettings, Proto, Server, SharingSettings};
pub use upstreams::{Acquired, Connection, Spare, Tried, Upstreams};
