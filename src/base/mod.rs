//! Small types that every room may use.

mod address;
mod listener;
pub mod units;

pub use address::Address;
pub use listener::{Label, ListenerId};
