//! A request's body on its way to the server.

use std::task::{Context, Poll};

use super::ServiceContext;
use super::downstream::Downstream;
use super::failure::Failure;
use super::pump::{Ends, Incoming, Outgoing, Pump, PumpError};
use crate::http::{ChunkDecoder, Framing};
use crate::wire::Wire;

/// The longest line, and the longest trailer section, of a chunked body.
const CHUNK_LINE: usize = 4 << 10;

/// The request on its way to the server.
pub(super) struct Upload {
    pub(super) pump: Pump,
    pub(super) state: UploadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadState {
    Running,
    Done,
    /// The server takes no more of it, or the client sends no more; a response may still come.
    Broken,
}

impl Upload {
    /// Moves what can be moved; says what broke it, once.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut Downstream,
        out: &mut Vec<u8>,
        sink: &Wire,
    ) -> Option<PumpError> {
        if self.state != UploadState::Running {
            return None;
        }
        let Downstream { stream, unread, .. } = downstream;
        match self.pump.poll(cx, &mut Ends { source: stream, unread, sink: Some(sink), out }) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.state = UploadState::Done;
                None
            }
            Poll::Ready(Err(error)) => {
                self.state = UploadState::Broken;
                Some(error)
            }
        }
    }
}

/// The body of a request as its head announces it, refused where that is already too large.
pub(super) fn request_body(
    framing: &Framing,
    outgoing: Outgoing,
    context: &ServiceContext,
) -> Result<Pump, Failure> {
    let most = context.service.limits.max_body;
    let incoming = match *framing {
        Framing::None | Framing::UntilClose => Incoming::Length(0),
        Framing::Length(length) if length > most => return Err(body_failure(&PumpError::TooLarge)),
        Framing::Length(length) => Incoming::Length(length),
        Framing::Chunked => Incoming::Chunked(chunk_decoder(context)),
    };
    Ok(Pump::new(incoming, outgoing, most))
}

/// Reads a body in chunks, within the limits of the service.
pub(super) fn chunk_decoder(context: &ServiceContext) -> ChunkDecoder {
    ChunkDecoder::new(CHUNK_LINE, context.service.limits.max_head)
}

/// What is wrong with a request's body, as the client is told.
pub(super) fn body_failure(error: &PumpError) -> Failure {
    match error {
        PumpError::Source(error) => {
            Failure::downstream(400, format!("the client's connection failed: {error}"))
        }
        PumpError::Truncated => Failure::downstream(400, "the client closed before the end of its body"),
        PumpError::Malformed(why) => Failure::downstream(400, *why),
        PumpError::TooLarge => Failure::downstream(413, "the body is larger than limits.max_body"),
        PumpError::Sink(error) => Failure::upstream(502, format!("writing to the server failed: {error}")),
    }
}
