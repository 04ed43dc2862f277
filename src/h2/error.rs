//! Why a connection in HTTP/2 ended.

use std::{error, fmt, io};

/// Why a connection in HTTP/2 ended, where that was not in order.
#[derive(Debug)]
pub enum Error {
    /// The stream below failed.
    Io(io::Error),
    /// One side broke the protocol, or the peer ended the connection with an error.
    Protocol(::h2::Error),
}

impl From<::h2::Error> for Error {
    fn from(error: ::h2::Error) -> Self {
        if !error.is_io() {
            return Self::Protocol(error);
        }
        Self::Io(error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Protocol(error) => write!(f, "the connection ended: {error}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Protocol(error) => Some(error),
        }
    }
}

/// What befell one stream, as a byte stream reports it.
pub(super) fn io_error(error: ::h2::Error) -> io::Error {
    let kind = if error.is_reset() { io::ErrorKind::ConnectionReset } else { io::ErrorKind::InvalidData };
    match Error::from(error) {
        Error::Io(error) => error,
        Error::Protocol(error) => io::Error::new(kind, error),
    }
}
