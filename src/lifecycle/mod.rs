//! The process's life as a typestate, its pure twin, and the driver.
//!
//! `LIFECYCLE.md` beside this file has the diagram and the table of states, signals and events. [`step`] is the
//! machine as a pure function; [`Instance`] is the same machine as types, and the only executor of its actions;
//! [`run`] drives it.

mod adoption;
mod awaiting;
mod booting;
mod clocks;
mod data_path;
mod draining;
mod driver;
mod exit;
mod exited;
mod fleet;
mod handing;
mod herald;
mod instance;
mod machine;
mod office;
mod phase;
mod reload;
mod reports;
mod serving;
mod settings;
mod sources;
mod tally;
mod twin;
mod watchdog;
mod world;

#[cfg(test)]
mod tests;

pub use awaiting::{Accepting, Awaiting};
pub use booting::Booting;
pub use data_path::{Admitted, DataPath};
pub use draining::Draining;
pub use driver::{nobody_to_replace, run, unreachable_instance};
pub use exit::{Cause, Exit};
pub use exited::Exited;
pub use handing::{Committed, Handing, RolledBack};
pub use herald::{Herald, Tidings};
pub use instance::{Fallback, Instance, Transition};
pub use phase::Phase;
pub use reload::Relaunch;
pub use serving::Serving;
pub use settings::{HandoffSettings, Settings};
pub use tally::DrainTally;
pub use twin::{Action, Event, Illegal, step};
pub use world::World;
