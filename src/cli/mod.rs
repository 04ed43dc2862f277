//! The command line: flags, environment, exit codes, and the commands that act on the running instance.
//!
//! A flag beats its environment variable, which beats the configuration file; a difference is never an error.

mod args;
mod command;
mod daemon;
mod failure;
mod find;
mod follow;
mod parse;
mod patience;
mod program;
mod reload;
mod status;
mod steps;
mod stop;
mod usage;
mod validate;

pub use crate::base::Exit;
pub use args::{FLAGS, Flag, SUBCOMMANDS, Subcommand};
pub use command::command;
pub use daemon::daemonize;
pub use failure::Failure;
pub use parse::{Request, Whereabouts, parse};
pub use program::program;
pub use reload::{Reload, reload};
pub use status::{Status, status};
pub use stop::stop;
pub use usage::UsageError;
pub use validate::validate;
