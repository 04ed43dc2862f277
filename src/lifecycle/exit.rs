//! How the process ends: exit codes after sysexits(3).

use std::fmt;
use std::process::ExitCode;

/// The exit code of the process. They stand in river(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It ended as it was asked to, also by SIGINT.
    Success = 0,
    /// The command line is wrong.
    Usage = 64,
    /// What is needed is not there: an address in use, no instance to take over from, another one in service.
    Unavailable = 69,
    /// The other instance did what it must not do, or River is wrong.
    Software = 70,
    /// A file cannot be made: pidfile, upgrade socket.
    CannotCreate = 73,
    /// The hand-over did not come about; the incumbent serves on, and trying again may help.
    TryAgain = 75,
    /// The configuration is wrong.
    Config = 78,
}

/// Why something ended otherwise than it should, with what the process says of it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What happened, and what to do, as a sentence for the operator.
    pub why: String,
    /// The exit code if the process ends by it.
    pub exit: Exit,
}

impl Cause {
    /// A cause.
    pub fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { why: why.into(), exit }
    }
}

impl Exit {
    /// The number that the parent process sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Cause {}
