//! The command line: flags, environment, exit codes.
//!
//! A flag beats its environment variable, which beats the configuration file; a difference is never an error.

mod args;
mod command;
mod failure;
mod parse;
mod usage;
mod validate;

pub use crate::base::Exit;
pub use args::{FLAGS, Flag, SUBCOMMANDS, Subcommand};
pub use command::command;
pub use failure::Failure;
pub use parse::{Request, Whereabouts, parse};
pub use usage::UsageError;
pub use validate::validate;
