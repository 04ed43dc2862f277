//! A request on its way into a stream: read in HTTP/1.1 from what the proxy writes, sent as frames.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::{Chunk, ChunkDecoder, Framing, trailer_fields};

/// How the body of a request arrives.
#[derive(Debug)]
pub(super) enum Arriving {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks; what is kept is the begin of a trailer section.
    Chunked(Box<ChunkDecoder>, Vec<u8>),
    /// Until the write side is shut: one direction of a tunnel.
    UntilShut,
}

/// A request whose head has been sent and whose body is on its way.
#[derive(Debug)]
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    arriving: Arriving,
}

/// Bytes of a line in a body in chunks. Longer ones the proxy does not write.
const CHUNK_LINE: usize = 4 << 10;

/// Bytes of a trailer section.
const TRAILERS: usize = 1 << 20;

impl Arriving {
    /// The body that a head announces; `None` where there is none.
    pub(super) fn of(framing: &Framing) -> Option<Self> {
        match *framing {
            Framing::None | Framing::Length(0) | Framing::UntilClose => None,
            Framing::Length(length) => Some(Self::Length(length)),
            Framing::Chunked => {
                Some(Self::Chunked(Box::new(ChunkDecoder::new(CHUNK_LINE, TRAILERS)), Vec::new()))
            }
        }
    }
}

impl Sending {
    pub(super) fn new(stream: SendStream<Bytes>, arriving: Arriving) -> Self {
        Self { stream, arriving }
    }

    /// Sends what the window has room for; returns how much of `buf` that took, and whether the body is complete.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the server takes no more of the request; `InvalidInput` if `buf` is no body.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<(usize, bool)>> {
        match &mut self.arriving {
            Arriving::Length(left) => {
                let want = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
                let room = ready!(poll_room(&mut self.stream, cx, want))?.min(want);
                *left -= room as u64;
                let ends = *left == 0;
                send(&mut self.stream, buf.get(..room).unwrap_or_default(), ends)?;
                Poll::Ready(Ok((room, ends)))
            }
            Arriving::Chunked(decoder, begun) if begun.is_empty() => {
                let (taken, ends) = ready!(poll_chunks(&mut self.stream, cx, decoder, buf))?;
                if taken == 0 && !ends {
                    // The begin of a trailer section, which is read as a whole.
                    begun.extend_from_slice(buf);
                    return Poll::Ready(Ok((buf.len(), false)));
                }
                Poll::Ready(Ok((taken, ends)))
            }
            Arriving::Chunked(decoder, begun) => {
                let before = begun.len();
                begun.extend_from_slice(buf);
                let Poll::Ready(done) = poll_chunks(&mut self.stream, cx, decoder, begun) else {
                    // The writer offers it again.
                    begun.truncate(before);
                    return Poll::Pending;
                };
                let (taken, ends) = done?;
                if !ends && taken <= before {
                    begun.drain(..taken);
                    return Poll::Ready(Ok((buf.len(), false)));
                }
                begun.clear();
                Poll::Ready(Ok((taken.saturating_sub(before), ends)))
            }
            Arriving::UntilShut => {
                let room = ready!(poll_room(&mut self.stream, cx, buf.len()))?.min(buf.len());
                send(&mut self.stream, buf.get(..room).unwrap_or_default(), false)?;
                Poll::Ready(Ok((room, false)))
            }
        }
    }

    /// The writer has no more. What had to be complete and is not, is given up: an end in order would make it look whole.
    pub(super) fn shut(mut self) {
        match self.arriving {
            // It fails where the server has reset the stream, which reading will tell.
            Arriving::UntilShut => drop(self.stream.send_data(Bytes::new(), true)),
            Arriving::Length(_) | Arriving::Chunked(..) => self.stream.send_reset(h2::Reason::CANCEL),
        }
    }

    /// Resolves once the stream has been reset.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }
}

/// Waits until the windows of the stream and of the connection have room, and the stream has not too much waiting to be
/// sent. It is never more than was wanted that is taken from the other streams.
fn poll_room(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>, want: usize) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(want);
    loop {
        let room = stream.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

/// Sends what whole or partial chunks there are in `buf`, as far as there is room; returns how much of `buf` that took,
/// and whether the body is complete.
fn poll_chunks(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    decoder: &mut ChunkDecoder,
    buf: &[u8],
) -> Poll<io::Result<(usize, bool)>> {
    let mut taken = 0;
    loop {
        let rest = buf.get(taken..).unwrap_or_default();
        // What is found may not fit, and then has not been read.
        let mut ahead = decoder.clone();
        match ahead.next(rest).map_err(invalid)? {
            (consumed, Chunk::NeedMore) => {
                *decoder = ahead;
                return Poll::Ready(Ok((taken + consumed, false)));
            }
            (consumed, Chunk::End { trailers }) => {
                *decoder = ahead;
                end(stream, rest.get(trailers).unwrap_or_default())?;
                return Poll::Ready(Ok((taken + consumed, true)));
            }
            (consumed, Chunk::Data(range)) => {
                let room = match poll_room(stream, cx, range.len()) {
                    Poll::Ready(room) => room?,
                    Poll::Pending if taken > 0 => return Poll::Ready(Ok((taken, false))),
                    Poll::Pending => return Poll::Pending,
                };
                if room < range.len() {
                    let fits = range.start + room;
                    decoder.next(rest.get(..fits).unwrap_or_default()).map_err(invalid)?;
                    send(stream, rest.get(range.start..fits).unwrap_or_default(), false)?;
                    return Poll::Ready(Ok((taken + fits, false)));
                }
                *decoder = ahead;
                let data = rest.get(range).unwrap_or_default();
                // An end that is already here goes in the same frame.
                let behind = rest.get(consumed..).unwrap_or_default();
                let mut further = decoder.clone();
                if let Ok((more, Chunk::End { trailers })) = further.next(behind)
                    && trailers.is_empty()
                {
                    *decoder = further;
                    send(stream, data, true)?;
                    return Poll::Ready(Ok((taken + consumed + more, true)));
                }
                send(stream, data, false)?;
                taken += consumed;
            }
        }
    }
}

fn send(stream: &mut SendStream<Bytes>, data: &[u8], ends: bool) -> io::Result<()> {
    if data.is_empty() && !ends {
        return Ok(());
    }
    stream.send_data(Bytes::copy_from_slice(data), ends).map_err(broken)
}

/// Ends the body, with the trailers that may be forwarded.
fn end(stream: &mut SendStream<Bytes>, section: &[u8]) -> io::Result<()> {
    let mut trailers = HeaderMap::new();
    for (name, value) in trailer_fields(section) {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            continue;
        };
        trailers.try_append(name, value).map_err(io::Error::other)?;
    }
    if trailers.is_empty() {
        return send(stream, &[], true);
    }
    stream.send_trailers(trailers).map_err(broken)
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}

fn invalid(reject: crate::http::Reject) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reject)
}
