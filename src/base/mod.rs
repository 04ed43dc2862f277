//! Small types that every room may use.

mod address;
mod exit;
mod listener;
pub mod units;

pub use address::Address;
pub use exit::Exit;
pub use listener::{Label, ListenerId};
