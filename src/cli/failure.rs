//! The last words of a process that ends otherwise than asked.

use std::io::{self, IsTerminal as _};

use crate::base::Exit;
use crate::config::Errors;
use crate::lifecycle::Cause;

use crate::system::Signal;

use super::UsageError;

/// How the process ends, and what it says of it on the standard error stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One line or many, as they are to be printed.
    pub text: String,
}

impl Failure {
    /// A failure that is said in one sentence.
    pub fn new(exit: Exit, what: &str) -> Self {
        Self { exit, text: format!("river: {what}") }
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Self {
        Self::new(Exit::Usage, &error.to_string())
    }
}

impl From<Errors> for Failure {
    /// The errors are in colours if the standard error stream is a terminal and `NO_COLOR` is not set.
    fn from(errors: Errors) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { exit: Exit::Config, text: errors.render(io::stderr().is_terminal() && !plain) }
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::new(cause.exit, &cause.why)
    }
}

impl From<Signal> for Failure {
    /// A check that a signal ended has found nothing: its exit code says neither that all is well nor that it is not.
    fn from(signal: Signal) -> Self {
        Self::new(Exit::TryAgain, &format!("{signal} came before this was done"))
    }
}
