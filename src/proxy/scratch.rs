//! What one exchange needs besides its two buffers, kept by the worker between exchanges.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::http::{RequestHead, ResponseHead};
use crate::runtime::Timer;

/// Parsed heads and heads being written. Belongs to one exchange at a time.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    /// For the server.
    pub(super) to_upstream: Vec<u8>,
    /// For the client.
    pub(super) to_downstream: Vec<u8>,
    /// The request line as it goes to the server or, where River answers, as it came; cut to what a log line bears.
    pub(super) line: Vec<u8>,
    /// Whose request it is; none on a Unix socket.
    pub(super) client: Option<IpAddr>,
    /// It came in a stream of HTTP/2.
    pub(super) is_http2: bool,
    /// Without a deadline; for the next stream of HTTP/2, which has no timer of its own yet.
    pub(super) timer: Option<Timer>,
}

/// A worker's free scratches.
#[derive(Debug, Default)]
pub(super) struct Scratches {
    #[expect(
        clippy::vec_box,
        reason = "each is taken and put back as a pointer, not as its hundreds of bytes"
    )]
    free: RefCell<Vec<Box<Scratch>>>,
}

/// More than these are given back to the allocator.
const MOST_KEPT: usize = 256;

/// A buffer that grew above this is given back rather than kept.
const LARGEST_KEPT: usize = 64 << 10;

/// The longest part of a request line that goes into a log line.
const LOGGED_LINE: usize = 200;

/// Remembers a request line for the log.
pub(super) fn note_line(noted: &mut Vec<u8>, line: &[u8]) {
    noted.clear();
    noted.extend_from_slice(line.get(..LOGGED_LINE).unwrap_or(line));
}

impl Scratches {
    pub(super) fn take(&self) -> Box<Scratch> {
        self.free.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn put(&self, mut scratch: Box<Scratch>) {
        let mut free = self.free.borrow_mut();
        let small = scratch.to_upstream.capacity().max(scratch.to_downstream.capacity()) <= LARGEST_KEPT;
        if small && free.len() < MOST_KEPT {
            scratch.to_upstream.clear();
            scratch.to_downstream.clear();
            scratch.line.clear();
            free.push(scratch);
        }
    }
}
