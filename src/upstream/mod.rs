//! The servers behind River: choosing one, connecting to it, keeping its connections.

mod settings;

pub use settings::{Group, PoolSettings, Server};
