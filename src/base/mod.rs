//! Small types that every room may use.

mod address;
mod exit;
mod file_id;
mod listener;
pub mod units;

pub use address::Address;
pub use exit::Exit;
pub use file_id::FileId;
pub use listener::{Label, ListenerId};
