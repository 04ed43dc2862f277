//! Why the process ends otherwise than asked.

use std::fmt;

pub use crate::base::Exit;

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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Cause {}
