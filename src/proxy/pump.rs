//! Moves one message from a source to a sink: a head that is already written, then the body as it arrives.
//!
//! Bodies are never collected: a pump reads no further than one buffer ahead of what its sink has taken.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::http::{Chunk, ChunkDecoder, trailer_fields, write_chunk_size};
use crate::runtime::{Buffer, SMALL_BUFFER, SpliceError, Spliced};
use crate::tls::ClientAuth;
use crate::wire::Wire;

/// How the body arrives.
#[derive(Debug)]
pub(super) enum Incoming {
    /// So many bytes are still to come; 0 where there is no body or it has arrived.
    Length(u64),
    /// In chunks (RFC 9112 §7.1).
    Chunked(ChunkDecoder),
    /// Until the source closes.
    UntilClose,
}

/// How the body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// Byte for byte.
    Identity,
    /// In chunks of River's own making.
    Chunked,
}

/// Why a message did not get through.
#[derive(Debug)]
pub(super) enum PumpError {
    /// Reading from the source failed.
    Source(io::Error),
    /// The source closed before the body's end.
    Truncated,
    /// The body's framing is wrong.
    Malformed(&'static str),
    /// The body is larger than allowed.
    TooLarge,
    /// Writing to the sink failed.
    Sink(io::Error),
}

/// What a pump that is not finished waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// More bytes from the source.
    Source,
    /// Room in the sink.
    Sink,
}

/// One message under way.
#[derive(Debug)]
pub(super) struct Pump {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Bytes of the body that may still come.
    allowance: u64,
    /// How much of `out` the sink has taken.
    sent: usize,
    /// The body has arrived; what is left is to be flushed.
    arrived: bool,
    /// All of the message was in `out` before any of it was sent, so that it is there still.
    whole: bool,
    /// Nothing of the body has been sent or turned into what is, so that the message begins with `out` still.
    kept: bool,
    /// Some of the body has been read or used.
    begun: bool,
    /// The sink has taken some of the message.
    touched: bool,
    waiting: Waiting,
    /// Counts every successful read and write, and every other time that bytes have gone to the sink's peer, so that a
    /// stall can be told from progress.
    moves: u64,
    /// How many bytes the sink has taken.
    bytes: u64,
    /// No more is read at a time than a small buffer holds.
    little: bool,
    /// What the trailers of a request are not to say.
    hidden: Option<Arc<ClientAuth>>,
    /// The last read brought as much as was asked for, or about as much.
    streams: bool,
    /// Behind the message nothing comes on the sink but its end.
    is_last: bool,
}

/// The two ends of a pump and what lies between them.
pub(super) struct Ends<'a> {
    pub(super) source: &'a Wire,
    /// What has been read from the source and not yet been used.
    pub(super) unread: &'a mut Buffer,
    /// Where it goes; without a sink it is thrown away.
    pub(super) sink: Option<&'a Wire>,
    /// What has been written for the sink: the head at first, chunks later.
    pub(super) out: &'a mut Vec<u8>,
}

/// How much encoded data may wait for the sink before no more is decoded.
const HIGH_WATER: usize = 16 << 10;

/// A body up to this size is copied behind its head.
const STAGED: usize = 8 << 10;

/// From so many bytes on, moving them through a pipe costs less than copying them (`docs/performance.md`).
const LEAST_SPLICED: u64 = 8 << 10;

/// How much is buffered of what can only be read as a whole: a chunk's line, a trailer section.
const LARGEST_PIECE: usize = 64 << 10;

impl Pump {
    /// A pump whose `out` holds the message's head.
    pub(super) fn new(incoming: Incoming, outgoing: Outgoing, allowance: u64) -> Self {
        let arrived = matches!(incoming, Incoming::Length(0));
        Self {
            incoming,
            outgoing,
            allowance,
            sent: 0,
            arrived,
            whole: arrived,
            kept: true,
            begun: false,
            touched: false,
            waiting: Waiting::Sink,
            moves: 0,
            bytes: 0,
            little: false,
            hidden: None,
            streams: false,
            is_last: false,
        }
    }

    /// Nothing comes behind the message on its sink but the end of that, as soon as it is written: its last bytes may wait
    /// for that.
    pub(super) fn is_last(&mut self) {
        self.is_last = true;
    }

    /// Leaves trailers out that would say what only River may say of a client.
    pub(super) fn hide(&mut self, hidden: Option<Arc<ClientAuth>>) {
        self.hidden = hidden;
    }

    /// Begins again with what is in `out`, for another sink. Right only while the message [is at hand](Self::is_at_hand).
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.touched = false;
    }

    /// The sink has taken some of the message.
    pub(super) fn has_touched(&self) -> bool {
        self.touched
    }

    /// All of the message that the sink has taken can be sent again: nothing has been, or only the head, or `out` has the
    /// whole message.
    pub(super) fn is_at_hand(&self) -> bool {
        !self.touched || self.whole || self.kept
    }

    /// The whole message has arrived, wherever it is by now.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived
    }

    /// Some of the body has come.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiting
    }

    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// How many bytes the sink has taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the sink has yet to take of `out`.
    pub(super) fn left<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.sent..).unwrap_or_default()
    }

    /// Whether no more is read at a time, from now on, than a small buffer holds. Right only where whatever is read goes
    /// on as it is.
    pub(super) fn read_little(&mut self, little: bool) {
        self.little = little;
    }

    /// Copies a small body that is all there behind the head in `out`. Then the whole message goes in one plain write,
    /// which costs less than a gathering one, and can be sent again.
    pub(super) fn stage(&mut self, unread: &mut Buffer, out: &mut Vec<u8>) {
        if let Incoming::Length(left) = self.incoming
            && let Some(body) = usize::try_from(left).ok().and_then(|left| unread.unread().get(..left))
            && body.len() <= STAGED
        {
            out.extend_from_slice(body);
            unread.consume(body.len());
            self.incoming = Incoming::Length(0);
            (self.arrived, self.whole) = (true, true);
        }
    }

    /// Moves what can be moved now. Ready when the sink has taken the whole message.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            if self.sent < ends.out.len() || self.has_direct(ends) {
                self.waiting = Waiting::Sink;
                match self.poll_write(cx, ends) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Sink(error))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.arrived {
                return Poll::Ready(Ok(()));
            }
            if !ends.unread.is_empty() {
                // What has been sent goes, as soon as there is more. Until then it may have to be sent again.
                ends.out.clear();
                self.sent = 0;
                self.kept = false;
                self.begun = true;
                if self.convert(ends)? {
                    continue;
                }
            }
            self.waiting = Waiting::Source;
            match self.poll_splice(cx, ends) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(Ok(()))) => continue,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            if self.little && ends.unread.is_empty() && ends.unread.capacity() > SMALL_BUFFER {
                ends.unread.shed();
                ends.unread.supply();
            }
            if ends.unread.space_mut().is_empty() && !ends.unread.grow(LARGEST_PIECE) {
                return Poll::Ready(Err(PumpError::Malformed(
                    "a chunk's line or the trailer section is too long",
                )));
            }
            match ends.source.poll_read(cx, ends.unread.space_mut()) {
                Poll::Ready(Ok(0)) => self.source_ended(ends)?,
                Poll::Ready(Ok(count)) => {
                    self.moves += 1;
                    self.begun = true;
                    ends.unread.filled(count);
                    // There is more than fits: a body that streams.
                    if ends.unread.is_full() && !self.little {
                        self.streams = true;
                        if !self.splices(ends) {
                            ends.unread.widen();
                        }
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Source(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether what comes next can go to the sink without being copied, and is worth it.
    fn splices(&self, ends: &Ends<'_>) -> bool {
        let much = match self.incoming {
            Incoming::Length(left) => left >= LEAST_SPLICED,
            Incoming::UntilClose => self.streams,
            Incoming::Chunked(_) => false,
        };
        let identity = self.outgoing == Outgoing::Identity;
        much && identity && !self.little && ends.sink.is_some_and(|sink| ends.source.can_splice(sink))
    }

    /// Moves bytes of the body without copying them; `None` where that is not to be.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        ends: &mut Ends<'_>,
    ) -> Poll<Option<Result<(), PumpError>>> {
        if !ends.unread.is_empty() || !self.splices(ends) {
            return Poll::Ready(None);
        }
        let Some(sink) = ends.sink else { return Poll::Ready(None) };
        let most = match self.incoming {
            Incoming::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Incoming::UntilClose | Incoming::Chunked(_) => usize::MAX,
        };
        let Some(spliced) = ready!(ends.source.poll_splice(cx, sink, most, ends.unread)) else {
            return Poll::Ready(None);
        };
        Poll::Ready(Some(match spliced {
            Ok(Spliced { read: 0, .. }) => self.source_ended(ends),
            Ok(Spliced { read, taken }) => {
                self.moves += 1;
                self.begun = true;
                self.kept = false;
                self.streams = read as u64 >= LEAST_SPLICED;
                self.touched |= taken > 0;
                self.bytes += taken as u64;
                if let Incoming::Length(left) = &mut self.incoming {
                    *left = left.saturating_sub(taken as u64);
                    self.arrived = *left == 0;
                }
                Ok(())
            }
            Err(SpliceError::Source(error)) => Err(PumpError::Source(error)),
            Err(SpliceError::Sink(error)) => Err(PumpError::Sink(error)),
        }))
    }

    /// Bytes of the body can go to the sink from where they were read, without being copied.
    fn has_direct(&self, ends: &Ends<'_>) -> bool {
        self.direct(ends.unread) > 0
    }

    fn direct(&self, unread: &Buffer) -> usize {
        if self.outgoing != Outgoing::Identity {
            return 0;
        }
        let there = unread.unread().len();
        match self.incoming {
            Incoming::Length(left) => usize::try_from(left).map_or(there, |left| there.min(left)),
            Incoming::UntilClose => there,
            Incoming::Chunked(_) => 0,
        }
    }

    /// Writes what waits in `out` and, behind it in the same call, what can go directly.
    fn poll_write(&mut self, cx: &mut Context<'_>, ends: &mut Ends<'_>) -> Poll<io::Result<()>> {
        let direct = self.direct(ends.unread);
        let staged = self.left(ends.out);
        let body = ends.unread.unread().get(..direct).unwrap_or_default();
        let before = ends.sink.map(Wire::passed);
        if self.is_last
            && (self.arrived || matches!(self.incoming, Incoming::Length(left) if left == direct as u64))
            && let Some(sink) = ends.sink
        {
            sink.hold();
        }
        let written = match ends.sink {
            None => Poll::Ready(Ok(staged.len() + body.len())),
            Some(sink) if body.is_empty() => sink.poll_write(cx, staged),
            Some(sink) if staged.is_empty() => sink.poll_write(cx, body),
            Some(sink) => sink.poll_write_vectored(cx, &[IoSlice::new(staged), IoSlice::new(body)]),
        };
        if !matches!(written, Poll::Ready(Ok(_))) {
            self.touched |= ends.sink.is_some_and(Wire::has_begun);
            self.moves += u64::from(before != ends.sink.map(Wire::passed));
        }
        let count = ready!(written)?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.moves += 1;
        self.touched = true;
        self.bytes += count as u64;
        let of_body = count.saturating_sub(staged.len());
        self.sent += count - of_body;
        self.took(of_body, ends.unread);
        Poll::Ready(Ok(()))
    }

    /// Accounts for bytes of the body that went directly.
    fn took(&mut self, count: usize, unread: &mut Buffer) {
        unread.consume(count);
        self.begun |= count > 0;
        self.kept &= count == 0;
        if let Incoming::Length(left) = &mut self.incoming {
            *left = left.saturating_sub(count as u64);
            self.arrived = *left == 0;
        }
    }

    /// Turns what has been read into what is to be sent, where the two differ. True where that made anything new.
    fn convert(&mut self, ends: &mut Ends<'_>) -> Result<bool, PumpError> {
        match &mut self.incoming {
            Incoming::Chunked(decoder) => loop {
                let (consumed, chunk) =
                    decoder.next(ends.unread.unread()).map_err(|reject| PumpError::Malformed(reject.why))?;
                match chunk {
                    Chunk::NeedMore => {
                        ends.unread.consume(consumed);
                        return Ok(!ends.out.is_empty());
                    }
                    Chunk::Data(range) => {
                        let data = ends.unread.unread().get(range).unwrap_or_default();
                        let left =
                            self.allowance.checked_sub(data.len() as u64).ok_or(PumpError::TooLarge)?;
                        self.allowance = left;
                        write_data(self.outgoing, data, ends.out);
                        ends.unread.consume(consumed);
                        if ends.out.len() >= HIGH_WATER {
                            return Ok(true);
                        }
                    }
                    Chunk::End { trailers } => {
                        let section = ends.unread.unread().get(trailers).unwrap_or_default();
                        if self.outgoing == Outgoing::Chunked {
                            write_end(section, self.hidden.as_deref(), ends.out);
                        }
                        ends.unread.consume(consumed);
                        self.arrived = true;
                        return Ok(true);
                    }
                }
            },
            Incoming::UntilClose if self.outgoing == Outgoing::Chunked => {
                let data = ends.unread.unread();
                let count = data.len();
                write_data(self.outgoing, data, ends.out);
                ends.unread.consume(count);
                Ok(count > 0)
            }
            // These go directly.
            Incoming::Length(_) | Incoming::UntilClose => Ok(false),
        }
    }

    fn source_ended(&mut self, ends: &mut Ends<'_>) -> Result<(), PumpError> {
        match self.incoming {
            Incoming::UntilClose => {
                if self.outgoing == Outgoing::Chunked {
                    write_end(b"", None, ends.out);
                }
                self.arrived = true;
                Ok(())
            }
            Incoming::Length(_) | Incoming::Chunked(_) => Err(PumpError::Truncated),
        }
    }
}

fn write_data(outgoing: Outgoing, data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    match outgoing {
        Outgoing::Identity => out.extend_from_slice(data),
        Outgoing::Chunked => {
            write_chunk_size(data.len(), out);
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_end(trailers: &[u8], hidden: Option<&ClientAuth>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailer_fields(trailers) {
        if !hidden.is_some_and(|hidden| hidden.hides(name)) {
            super::rewrite::field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::runtime::{Handle, LARGE_BUFFER, block_on};

    /// A stream and the other end of its connection.
    fn pair(handle: &Handle) -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        (handle.stream(near.into()).unwrap().into(), listener.accept().unwrap().0)
    }

    #[test]
    fn a_pump_that_reads_little_soon_holds_little() {
        block_on(async |handle: Handle| {
            let ((source, mut writer), (sink, mut reader)) = (pair(&handle), pair(&handle));
            let writing = std::thread::spawn(move || writer.write_all(&vec![1; 64 << 20]));
            let mut pump = Pump::new(Incoming::UntilClose, Outgoing::Identity, u64::MAX);
            let (mut unread, mut out) = (handle.buffers().take(), Vec::new());
            let mut pump_until_full = async |pump: &mut Pump, may_end: &AtomicBool| loop {
                // What has been read by then is made room of in the poll behind it.
                let last = may_end.load(Ordering::SeqCst);
                std::future::poll_fn(|cx| {
                    let mut ends =
                        Ends { source: &source, unread: &mut unread, sink: Some(&sink), out: &mut out };
                    sink.attempt_write();
                    assert!(pump.poll(cx, &mut ends).is_pending());
                    Poll::Ready(())
                })
                .await;
                if last && pump.waiting() == Waiting::Sink {
                    return (unread.len(), unread.capacity());
                }
                futures_lite::future::yield_now().await;
            };
            let (_, capacity) = pump_until_full(&mut pump, &AtomicBool::new(true)).await;
            assert_eq!(capacity, LARGE_BUFFER);
            pump.read_little(true);
            let taken = std::sync::Arc::new(AtomicBool::new(false));
            let reading = std::thread::spawn({
                let taken = std::sync::Arc::clone(&taken);
                move || {
                    reader.read_exact(&mut vec![0; 4 << 20]).unwrap();
                    taken.store(true, Ordering::SeqCst);
                    reader
                }
            });
            let (held, capacity) = pump_until_full(&mut pump, &taken).await;
            assert!(held > 0 && held <= SMALL_BUFFER && capacity == SMALL_BUFFER, "{held} of {capacity}");
            drop((source, sink));
            drop(reading.join().unwrap());
            assert!(writing.join().unwrap().is_err());
        });
    }

    #[test]
    fn trailers_that_frame_or_route_are_not_forwarded() {
        let mut out = Vec::new();
        write_end(b"grpc-status: 0\r\nContent-Length: 5\r\nHost: evil\r\n", None, &mut out);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
    }
}
