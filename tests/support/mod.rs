//! What the integration tests share: the river under test, an origin behind it, clients and load in front of it.
//!
//! Everything here is threads and blocking sockets of the standard library, so that a fault in River's own runtime
//! cannot hide in the tool that looks for it. Every wait ends on the event itself and has a deadline; a deadline
//! that passes is a panic which prints what the processes said.

// Every test file compiles this module for itself and none of them uses all of it; a helper that fails is a test
// that fails, so panicking is its way to report.
#![allow(dead_code, unused_imports, unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod asker;
pub mod bytes;
pub mod client;
pub mod config;
pub mod counter;
pub mod curl;
pub mod family;
pub mod faults;
pub mod frame;
pub mod h2;
pub mod h2_frames;
pub mod h2_origin;
pub mod load;
pub mod log;
pub mod manager;
pub mod origin;
pub mod peer;
pub mod proc;
pub mod raw;
pub mod reply;
pub mod river;
pub mod socket;
pub mod tls;
pub mod tokio_io;
pub mod tools;
pub mod wait;

pub use bytes::BytesOrigin;
pub use client::{Conn, Response, get};
pub use config::Config;
pub use family::{Family, Member, Said};
pub use h2_origin::H2Origin;
pub use load::{Load, Pacing, Report};
pub use origin::{Next, Origin, Request};
pub use proc::{Process, Signal};
pub use reply::Reply;
pub use river::{Dir, River, Running, upgrade, upgrade_to};
pub use socket::Target;
pub use wait::{Gate, PATIENCE, SOON, until};
