//! Logs.

mod log;

pub use log::{Log, start};
