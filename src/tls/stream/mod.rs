//! A TLS connection with the interface of a plain stream.

mod held;
mod transport;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ProtocolVersion};

use self::held::Held;
use super::session::Session;
use crate::runtime::Stream;

/// A connected stream of bytes over TLS.
///
/// It has the methods of [`Stream`] and keeps their contracts, with these additions:
///
/// - **Ends.** The peer's end in order is its close_notify. Where the connection ends without one, a read fails with
///   [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): what was read may be a part of what was sent.
/// - **Writes.** A write is over when the kernel has all records that it made. One that is pending has made them already,
///   so the next ones have to go on with the same bytes, all at once or not, and fail if they do not.
/// - **Memory.** While nothing is on its way, it holds no buffers.
/// - **What is for TLS alone**, session tickets and key updates, is done with below the reads. What has to be sent in
///   answer goes with the next write, or when the stream would wait for the peer.
pub struct TlsStream {
    stream: Stream,
    session: RefCell<Session>,
    /// The write that is pending.
    held: Cell<Option<Held>>,
    /// The last write had to wait: less is encrypted at a time until one has not, so that a peer that reads slowly is seen
    /// to read.
    congested: Cell<bool>,
    /// The kernel has taken some of the records of the last write.
    begun: Cell<bool>,
    /// How many bytes of records the kernel has taken.
    passed: Cell<u64>,
    /// The connection has ended below TLS.
    cut: Cell<bool>,
    ending: Cell<Ending>,
    alpn: Option<Box<[u8]>>,
}

/// How far the end of this side's direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Open,
    /// The close_notify waits to be sent.
    Queued,
    Done,
}

/// How much is encrypted at a time for a peer that does not keep up: one record.
const CONGESTED: usize = 16 << 10;

/// How much that was queued by the handshake goes along with a write rather than before it.
const ALONG: usize = 16 << 10;

impl TlsStream {
    /// A connection whose handshake is still to come.
    pub(super) fn begin(stream: Stream, session: Session) -> Self {
        Self {
            stream,
            session: RefCell::new(session),
            held: Cell::new(None),
            congested: Cell::new(false),
            begun: Cell::new(false),
            passed: Cell::new(0),
            cut: Cell::new(false),
            ending: Cell::new(Ending::Open),
            alpn: None,
        }
    }

    /// Notes what the handshake has settled.
    pub(super) fn settle(&mut self) {
        self.alpn = self.session.get_mut().common().alpn_protocol().map(Box::from);
    }

    /// The protocol that both sides agreed on (RFC 7301), if they did.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The peer's own certificate, in DER, if it has shown one that was accepted.
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        self.session.borrow().peer_certificate().cloned()
    }

    /// The version of TLS that is spoken.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.session.borrow().common().protocol_version()
    }

    /// Whether the session goes on from an earlier one, which saves the certificates.
    pub fn is_resumed(&self) -> bool {
        self.session.borrow().common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The stream below.
    #[cfg(test)]
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// How many bytes its buffers take.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.session.borrow().held()
    }

    /// Reads what is there, into the start of `buf`; 0 means that the peer has ended its direction in order, or that `buf`
    /// is empty.
    ///
    /// # Errors
    ///
    /// What `recv(2)` reports; `UnexpectedEof` where the connection ends without the peer's close_notify; `InvalidData`
    /// for what is no TLS, or was changed on its way; never `WouldBlock`.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut session = self.session.borrow_mut();
        loop {
            match session.read(buf) {
                Ok(0) if session.has_ended() => return Poll::Ready(Ok(0)),
                Ok(0) => {}
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) => {
                    self.send_rest(&mut session, cx);
                    return Poll::Ready(Err(invalid(error)));
                }
            }
            ready!(self.poll_receive(&mut session, cx))?;
        }
    }

    /// Resolves once a read is worth its call; it may resolve without cause. Until then it keeps the waker.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = self.session.borrow_mut();
        if !session.is_starved() || self.cut.get() {
            return Poll::Ready(());
        }
        ready!(self.poll_idle(&mut session, cx));
        Poll::Ready(())
    }

    /// Resolves once the connection is gone in both directions, as after a reset, whatever is left to read. It shares the
    /// waker of [`poll_readable`](Self::poll_readable).
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_gone(cx)
    }

    /// Sends a part of `buf` from its start, and returns how many bytes that was: at least 1, unless `buf` is empty.
    ///
    /// # Errors
    ///
    /// What `send(2)` reports; `InvalidData` where what has been received was no TLS; `InvalidInput` where another write
    /// is pending, which did not begin with the same bytes; `BrokenPipe` after the end of this direction; never
    /// `WouldBlock`.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Like [`poll_write`](Self::poll_write), from several slices. Short ones are sent in one record.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write).
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut session = self.session.borrow_mut();
        if let Some(held) = self.held.get() {
            if !held.is_of(bufs) {
                let why = "another write is pending on the TLS connection";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
            let sent = ready!(self.poll_flush(&mut session, cx));
            let count = held.count.min(bufs.iter().map(|buf| buf.len()).sum());
            self.held.set(held.without(count));
            return Poll::Ready(sent.map(|()| count));
        }
        if self.ending.get() != Ending::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if session.outgoing.len() > ALONG {
            ready!(self.poll_flush(&mut session, cx))?;
        }
        self.begun.set(false);
        let most = if self.congested.get() { CONGESTED } else { usize::MAX };
        let count = match session.write(bufs, most) {
            Ok(count) => count,
            Err(error) => {
                self.send_rest(&mut session, cx);
                return Poll::Ready(Err(invalid(error)));
            }
        };
        match self.poll_flush(&mut session, cx) {
            Poll::Ready(sent) => {
                self.congested.set(false);
                Poll::Ready(sent.map(|()| count))
            }
            Poll::Pending => {
                self.congested.set(true);
                self.held.set(Some(Held::new(bufs, count)));
                Poll::Pending
            }
        }
    }

    /// Whether the peer may receive some of the last write, although it is pending or has failed.
    pub fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// How many bytes the kernel has taken so far, of whatever there was to send. A write of which it has taken a part is
    /// pending all the same, so this tells a peer that reads slowly from one that does not read. It wraps around.
    pub fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// Makes the next write an attempt, even where none is known to be worth it.
    pub fn attempt_write(&self) {
        self.stream.attempt_write();
    }

    /// Whether anything has happened on a connection where nothing should: data, an end or an error. A session ticket is
    /// no such thing, so what has arrived is looked at.
    pub fn is_stale(&self) -> bool {
        if self.cut.get() {
            return true;
        }
        let mut session = self.session.borrow_mut();
        // What is left is asked for by whoever keeps the connection, with its own waker.
        let cx = &mut Context::from_waker(Waker::noop());
        while !session.has_news() && self.stream.is_stale() {
            match self.poll_receive(&mut session, cx) {
                Poll::Ready(Ok(())) => session.absorb(),
                Poll::Ready(Err(_)) => return true,
                // Nothing is there after all, or it was put off until the task has given way.
                Poll::Pending => return self.stream.is_stale(),
            }
        }
        session.has_news()
    }

    /// Why the connection has failed, if it has and nobody has been told yet, neither here nor by a read or write.
    pub fn take_error(&self) -> Option<io::Error> {
        self.stream.take_error()
    }

    /// Closes one direction or both, in order: the peer is sent a close_notify. Where there is no room for it yet, that takes
    /// [`poll_finished`](Self::poll_finished), or reads.
    ///
    /// # Errors
    ///
    /// What `shutdown(2)` reports: `NotConnected` if the peer has reset the connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Read {
            return self.stream.shutdown(Shutdown::Read);
        }
        let mut session = self.session.borrow_mut();
        if self.ending.get() == Ending::Open {
            // A session that has failed has sent its alert, and there is nothing to end.
            let _ = session.end();
            self.ending.set(Ending::Queued);
            // Its records go first, and nobody asks for its outcome any more.
            self.held.set(None);
        }
        let cx = &mut Context::from_waker(Waker::noop());
        let outcome = match self.poll_end(&mut session, cx) {
            Poll::Ready(outcome) => outcome,
            // It is sent when the peer has made room, while somebody reads or waits for it.
            Poll::Pending => Ok(()),
        };
        if how == Shutdown::Both { self.stream.shutdown(Shutdown::Both) } else { outcome }
    }

    /// Resolves once the end of this direction, where [`shutdown`](Self::shutdown) was asked for it, has gone to the kernel
    /// with all that was written before, or never will. It shares the waker of the writes.
    pub fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ending.get() != Ending::Queued {
            return Poll::Ready(());
        }
        self.poll_end(&mut self.session.borrow_mut(), cx).map(drop)
    }

    /// Whether closing the connection resets it. Without a close_notify, which no closing by itself sends, the peer can
    /// tell the end from one in order anyway.
    ///
    /// # Errors
    ///
    /// What `setsockopt(2)` reports.
    pub fn reset_on_close(&self, reset: bool) -> io::Result<()> {
        self.stream.reset_on_close(reset)
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        // A server that is no longer needed is told so. To a client only what was shut down in order is an end in order:
        // a response that was cut short must not look whole.
        let session = self.session.get_mut();
        let idle = session.outgoing.is_empty() && !session.has_news() && !self.cut.get();
        if session.is_client() && idle && !session.common().is_handshaking() {
            let _ = self.shutdown(Shutdown::Write);
        }
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream")
            .field("stream", &self.stream)
            .field("session", &self.session)
            .field("held", &self.held)
            .field("cut", &self.cut)
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
