//! Limits, and what comes of a head that is not, or not yet, one.

use std::error::Error;
use std::fmt;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first to the end of the empty line, both lines included.
    pub max_bytes: usize,
    /// Field lines; more than 1,000 count as 1,000.
    pub max_fields: usize,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// What is there may be the begin of a valid head.
    NeedMore,
    /// No more bytes make it valid.
    Reject(Reject),
}

/// Bytes that are refused. The connection they came on cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The status for the client: 4xx or 5xx of a request, 502 of a response.
    pub status: u16,
    /// What is wrong, as a lower-case sentence without the offending bytes.
    pub why: &'static str,
}

impl Reject {
    pub(super) const fn new(status: u16, why: &'static str) -> Self {
        Self { status, why }
    }

    pub(super) const fn bad_request(why: &'static str) -> Self {
        Self::new(400, why)
    }

    pub(super) const fn bad_gateway(why: &'static str) -> Self {
        Self::new(502, why)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl Error for Reject {}

impl From<Reject> for Unparsed {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl fmt::Display for Unparsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore => f.write_str("the head is incomplete"),
            Self::Reject(reject) => reject.fmt(f),
        }
    }
}

impl Error for Unparsed {}
