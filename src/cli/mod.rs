//! The command line: flags, environment, exit codes.
//!
//! A flag beats its environment variable, which beats the configuration file; a difference is never an error.

mod args;
mod command;
mod daemon;
mod failure;
mod parse;
mod validate;

pub use crate::base::Exit;
pub use args::{FLAGS, Flag};
pub use command::command;
pub use daemon::daemonize;
pub use failure::Failure;
pub use parse::{Request, UsageError, parse};
pub use validate::validate;
