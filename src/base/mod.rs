//! Small types that every room may use.

mod address;
mod exit;
mod file_id;
mod hex;
mod listener;
mod moved;
mod report;
pub mod units;

pub use address::Address;
pub use exit::Exit;
pub use file_id::FileId;
pub use listener::{Label, ListenerId};
pub use moved::{Held, MAX_HELD, Moved, MovedState, MovedTunnel};
pub use report::{InstanceReport, InstanceState};
