//! What went wrong with an exchange, who is to blame, and what the client is told.

use std::{fmt, io};

use crate::http::Reject;

/// Why an exchange did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The status the client is told, where nothing of a response has been sent yet; 0 where it is told nothing.
    pub(super) status: u16,
    pub(super) blame: Blame,
    pub(super) why: String,
}

/// Who is to blame for a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The client.
    Downstream,
    /// The server behind River.
    Upstream,
    /// River itself, or the machine it runs on.
    River,
}

impl Failure {
    pub(super) fn downstream(status: u16, why: impl Into<String>) -> Self {
        Self { status, blame: Blame::Downstream, why: why.into() }
    }

    pub(super) fn upstream(status: u16, why: impl Into<String>) -> Self {
        Self { status, blame: Blame::Upstream, why: why.into() }
    }

    pub(super) fn river(status: u16, why: impl Into<String>) -> Self {
        Self { status, blame: Blame::River, why: why.into() }
    }
}

/// Nobody is left to read the response, so the server need not go on with it.
pub(super) fn client_gone() -> Failure {
    Failure::downstream(499, "the client reset the connection before its response")
}

/// What the client was to be sent did not get to it.
pub(super) fn send_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::downstream(499, TOOK_NOTHING);
    }
    Failure::downstream(499, format!("the client's connection failed: {error}"))
}

/// Why a client that does not read is let go of.
pub(super) const TOOK_NOTHING: &str = "the client took nothing of the response within the send time-out";

impl From<Reject> for Failure {
    fn from(reject: Reject) -> Self {
        Self::downstream(reject.status, reject.why)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::River => "river",
        })
    }
}
