//! Why a command line cannot be followed.

use std::error::Error;
use std::fmt;

/// Why the command line or the environment cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageError {
    /// An argument is no UTF-8 text; as far as it can be shown.
    NotText(String),
    /// No such flag or command; with what was probably meant.
    UnknownFlag(String, Option<String>),
    /// A flag stands before the command that it should stand behind.
    Misplaced(String, &'static str),
    /// A flag cannot be read, in argh's words.
    Flag(String),
    /// A value of a flag or environment variable is wrong: which, what, and why.
    Value {
        /// The flag or the environment variable.
        of: &'static str,
        /// The value given.
        value: String,
        /// What is expected instead.
        expected: &'static str,
    },
    /// There is neither `--config` nor `RIVER_CONFIG`.
    NoConfig,
    /// Nothing says where the running instance is.
    NoSocket,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText(argument) => write!(f, "the argument {argument:?} is not UTF-8 text")?,
            Self::UnknownFlag(flag, None) => write!(f, "unknown argument {flag:?}")?,
            Self::UnknownFlag(flag, Some(meant)) => {
                write!(f, "unknown argument {flag:?}; did you mean {meant}?")?;
            }
            Self::Misplaced(flag, command) => {
                write!(f, "{flag} stands before {command}; the flags of a command stand behind it")?;
            }
            Self::Flag(message) => f.write_str(message)?,
            Self::Value { of, value, expected } => write!(f, "{of} is {value:?}; expected {expected}")?,
            Self::NoConfig => f.write_str("no configuration: give --config PATH or set RIVER_CONFIG")?,
            Self::NoSocket => f.write_str(
                "nothing says where the running instance is: give --config PATH or --upgrade-socket PATH, or set \
                 RIVER_CONFIG or RIVER_UPGRADE_SOCKET",
            )?,
        }
        f.write_str(" (river --help lists all flags)")
    }
}

impl Error for UsageError {}
