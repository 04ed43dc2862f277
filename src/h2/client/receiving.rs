//! A response on its way out of a stream: received as frames, read by the proxy in HTTP/1.1.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::RecvStream;
use h2::client::ResponseFuture;

use super::response::{self, Body};
use super::watched::Followed;
use crate::http::write_chunk_size;

/// A response of which something may still be to come.
#[derive(Debug)]
pub(super) struct Receiving {
    stage: Stage,
    /// Written in HTTP/1.1 and not yet read: a head, the line of a chunk, the end of a body. It goes before `data`.
    lines: Vec<u8>,
    /// How much of `lines` has been read.
    read: usize,
    /// Data of the body that has not been read yet. Only what has been read is credited to the server.
    data: Bytes,
    /// Some of the body has gone as a chunk, whose end is still to be written.
    in_chunk: bool,
    wanted: Wanted,
    /// Counts the heads that have come and not been taken.
    followed: Followed,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// A response.
    Response,
    /// A response without a body.
    Head,
    /// A WebSocket; with the proof that the client wants to see.
    WebSocket(String),
}

#[derive(Debug)]
enum Stage {
    /// The final head has not come.
    Head(ResponseFuture),
    /// The head has come.
    Body(RecvStream, Body),
    /// All has come.
    Done,
}

impl Receiving {
    pub(super) fn new(response: ResponseFuture, wanted: Wanted, followed: Followed) -> Self {
        Self {
            stage: Stage::Head(response),
            lines: Vec::new(),
            read: 0,
            data: Bytes::new(),
            in_chunk: false,
            wanted,
            followed,
        }
    }

    /// Reads what there is; 0 at the end of the response.
    ///
    /// # Errors
    ///
    /// What ended the stream before its end, once everything that came before it has been read, and each time.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<Result<usize, h2::Error>> {
        let (mut count, mut credit) = (0, 0);
        let outcome = loop {
            count += self.take_lines(buf.get_mut(count..).unwrap_or_default());
            if self.read == self.lines.len() {
                let some = copy(buf.get_mut(count..).unwrap_or_default(), &self.data);
                self.data.advance(some);
                credit += some;
                count += some;
            }
            if count == buf.len() {
                break Poll::Ready(Ok(false));
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(true)) => {}
                other => break other,
            }
        };
        if let (1.., Stage::Body(stream, _)) = (credit, &mut self.stage) {
            // It fails where the stream has been reset, which the next read tells.
            let _ = stream.flow_control().release_capacity(credit);
        }
        if count > 0 { Poll::Ready(Ok(count)) } else { outcome.map_ok(|_| 0) }
    }

    /// Resolves once a read has something to tell.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read < self.lines.len() || !self.data.is_empty() {
            return Poll::Ready(());
        }
        self.poll_more(cx).map(drop)
    }

    /// What is left of a response that the reader knows to be complete, if its stream has not ended: the server says so
    /// in a frame of its own, which may be on its way.
    pub(super) fn unended(mut self) -> Option<RecvStream> {
        let read = self.read == self.lines.len() && self.data.is_empty();
        match &mut self.stage {
            Stage::Body(stream, Body::Identity | Body::None) if read && !stream.is_end_stream() => {}
            _ => return None,
        }
        match self.stage {
            Stage::Body(stream, _) => Some(stream),
            Stage::Head(_) | Stage::Done => None,
        }
    }

    fn take_lines(&mut self, buf: &mut [u8]) -> usize {
        let count = copy(buf, self.lines.get(self.read..).unwrap_or_default());
        self.read += count;
        count
    }

    /// Fetches what comes next, once all that was there has been read; false at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, h2::Error>> {
        self.lines.clear();
        self.read = 0;
        match &mut self.stage {
            Stage::Head(future) => {
                if let Some(interim) = ready!(future.poll_informational(cx)).transpose()? {
                    self.followed.take();
                    response::response(&mut self.lines, interim.status(), interim.headers(), false, false);
                    return Poll::Ready(Ok(true));
                }
                let (head, stream) = ready!(std::pin::Pin::new(future).poll(cx))?.into_parts();
                self.followed.take();
                let ended = stream.is_end_stream();
                let body = match &self.wanted {
                    Wanted::WebSocket(proof) if head.status.is_success() => {
                        response::switching(&mut self.lines, &head.headers, proof);
                        Body::Identity
                    }
                    wanted => {
                        let bodyless = matches!(wanted, Wanted::Head);
                        response::response(&mut self.lines, head.status, &head.headers, bodyless, ended)
                    }
                };
                self.stage = if ended { Stage::Done } else { Stage::Body(stream, body) };
                Poll::Ready(Ok(true))
            }
            Stage::Body(_, Body::None) | Stage::Done => Poll::Ready(Ok(false)),
            Stage::Body(stream, body) => {
                let chunked = *body == Body::Chunked;
                match ready!(stream.poll_data(cx)).transpose()? {
                    Some(data) => {
                        if chunked && !data.is_empty() {
                            self.end_chunk();
                            write_chunk_size(data.len(), &mut self.lines);
                            self.in_chunk = true;
                        }
                        self.data = data;
                    }
                    None => {
                        let trailers = ready!(stream.poll_trailers(cx))?;
                        if !chunked {
                            self.stage = Stage::Done;
                            return Poll::Ready(Ok(false));
                        }
                        self.end_chunk();
                        response::trailers(&mut self.lines, trailers.as_ref());
                        self.stage = Stage::Done;
                    }
                }
                Poll::Ready(Ok(true))
            }
        }
    }

    /// Ends the chunk before this place.
    fn end_chunk(&mut self) {
        if std::mem::take(&mut self.in_chunk) {
            self.lines.extend_from_slice(b"\r\n");
        }
    }
}

fn copy(to: &mut [u8], from: &[u8]) -> usize {
    let count = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}
