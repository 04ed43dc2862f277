//! What the proxy reads requests from and writes them to, whatever lies below: one byte stream each, in HTTP/1.1.
//!
//! A [`Wire`] has the methods of [`runtime::Stream`](crate::runtime::Stream) and keeps their contracts; a kind of it that
//! cannot do a thing says so where it is asked for it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::h2::ServerStream;
use crate::h2::client::{ClientStream, Ending};
use crate::runtime::{Buffer, SpliceError, Spliced, Stream};
use crate::tls::TlsStream;

/// A connection to a client or to a server, as the proxy uses it.
///
/// All methods take `&self`: one task may read while another writes. Of each direction one task can wait at a time; the
/// last to ask is woken.
#[derive(Debug)]
pub enum Wire {
    /// A plain socket, TCP or Unix.
    Plain(Stream),
    /// TLS over a socket.
    Tls(Box<TlsStream>),
    /// A stream of HTTP/2 that a client has opened, which carries one exchange.
    H2Server(Box<ServerStream>),
    /// A stream of an HTTP/2 connection to a server, which carries one exchange.
    H2Client(Box<ClientStream>),
}

impl From<Stream> for Wire {
    fn from(stream: Stream) -> Self {
        Self::Plain(stream)
    }
}

impl From<Box<TlsStream>> for Wire {
    fn from(stream: Box<TlsStream>) -> Self {
        Self::Tls(stream)
    }
}

impl Wire {
    /// Reads what is there, into the start of `buf`; 0 means that the peer has ended its direction in order, or that `buf`
    /// is empty.
    ///
    /// # Errors
    ///
    /// What the stream below reports, a connection reset for one; never `WouldBlock`.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read(cx, buf),
            Self::Tls(stream) => stream.poll_read(cx, buf),
            Self::H2Server(stream) => stream.poll_read(cx, buf),
            Self::H2Client(stream) => stream.poll_read(cx, buf),
        }
    }

    /// Resolves once a read is worth its call; it may resolve without cause. Until then it keeps the waker.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_readable(cx),
            Self::Tls(stream) => stream.poll_readable(cx),
            Self::H2Server(stream) => stream.poll_readable(cx),
            Self::H2Client(stream) => stream.poll_readable(cx),
        }
    }

    /// Resolves once the connection is gone in both directions, as after a reset, whatever is left to read. It shares the
    /// waker of [`poll_readable`](Self::poll_readable).
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_gone(cx),
            Self::Tls(stream) => stream.poll_gone(cx),
            Self::H2Server(stream) => stream.poll_gone(cx),
            Self::H2Client(stream) => stream.poll_gone(cx),
        }
    }

    /// Takes a part of `buf` from its start, and returns how many bytes that was: at least 1, unless `buf` is empty.
    ///
    /// # Errors
    ///
    /// What the stream below reports; never `WouldBlock`.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write(cx, buf),
            Self::Tls(stream) => stream.poll_write(cx, buf),
            Self::H2Server(stream) => stream.poll_write(cx, buf),
            Self::H2Client(stream) => stream.poll_write(cx, buf),
        }
    }

    /// Like [`poll_write`](Self::poll_write), from several slices.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write).
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write_vectored(cx, bufs),
            Self::Tls(stream) => stream.poll_write_vectored(cx, bufs),
            Self::H2Server(stream) => stream.poll_write_vectored(cx, bufs),
            Self::H2Client(stream) => stream.poll_write_vectored(cx, bufs),
        }
    }

    /// Whether the peer may receive some of the last write, although it is pending or has failed. Only TLS passes bytes on
    /// that it has told nobody of.
    pub fn has_begun(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.has_begun(),
            Self::Plain(_) | Self::H2Server(_) | Self::H2Client(_) => false,
        }
    }

    /// How many bytes have gone to the peer that a pending write may have told nobody of. Only TLS counts them: its writes
    /// are over when all of their records have gone. It wraps around.
    pub fn passed(&self) -> u64 {
        match self {
            Self::Tls(stream) => stream.passed(),
            Self::Plain(_) | Self::H2Server(_) | Self::H2Client(_) => 0,
        }
    }

    /// Whether bytes can go to `sink` without being copied; see [`Stream::can_splice`].
    pub fn can_splice(&self, sink: &Self) -> bool {
        match (self, sink) {
            (Self::Plain(source), Self::Plain(sink)) => source.can_splice(sink),
            _ => false,
        }
    }

    /// Moves bytes to `sink` without copying them, as [`Stream::poll_splice`] does.
    ///
    /// # Errors
    ///
    /// What the streams below report.
    pub fn poll_splice(
        &self,
        cx: &mut Context<'_>,
        sink: &Self,
        most: usize,
        rest: &mut Buffer,
    ) -> Poll<Option<Result<Spliced, SpliceError>>> {
        match (self, sink) {
            (Self::Plain(source), Self::Plain(sink)) => source.poll_splice(cx, sink, most, rest),
            _ => Poll::Ready(None),
        }
    }

    /// Makes the next write an attempt, even where none is known to be worth it: this tells a peer that reads slowly from
    /// one that does not read.
    pub fn attempt_write(&self) {
        match self {
            Self::Plain(stream) => stream.attempt_write(),
            Self::Tls(stream) => stream.attempt_write(),
            // The windows are known, and the connection's driver makes attempts of its own.
            Self::H2Server(_) => {}
            // What its peer has room for is known.
            Self::H2Client(_) => {}
        }
    }

    /// Whether anything has happened on a connection where nothing should: bytes, a close or an error; or whether it is one
    /// that carries no second exchange.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_stale(),
            Self::Tls(stream) => stream.is_stale(),
            // Behind the one request nothing can come.
            Self::H2Server(_) => false,
            Self::H2Client(_) => true,
        }
    }

    /// The opposite of [`is_stale`](Self::is_stale).
    pub fn is_quiet(&self) -> bool {
        !self.is_stale()
    }

    /// Why the connection has failed, if it has and nobody has been told yet, neither here nor by a read or write.
    pub fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Plain(stream) => stream.take_error(),
            Self::Tls(stream) => stream.take_error(),
            Self::H2Server(_) => None,
            Self::H2Client(_) => None,
        }
    }

    /// Closes one direction or both; what was written before is still sent.
    ///
    /// # Errors
    ///
    /// What the stream below reports: `NotConnected` if the peer has reset the connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown(how),
            Self::Tls(stream) => stream.shutdown(how),
            Self::H2Server(stream) => stream.shutdown(how),
            Self::H2Client(stream) => {
                if how != Shutdown::Read {
                    stream.shutdown_write();
                }
                Ok(())
            }
        }
    }

    /// Whether closing the connection, however that comes about, tells the peer that this is no end in order. What has been
    /// written and not been received may be lost then.
    ///
    /// # Errors
    ///
    /// What the stream below reports.
    pub fn reset_on_close(&self, reset: bool) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.reset_on_close(reset),
            Self::Tls(stream) => stream.reset_on_close(reset),
            // It always does.
            Self::H2Server(_) => Ok(()),
            // It is reset if it is not complete.
            Self::H2Client(_) => Ok(()),
        }
    }

    /// What is written from now on is the last before [`finish`](Self::finish) or [`shutdown`](Self::shutdown), and may
    /// wait for that.
    pub fn hold(&self) {
        match self {
            Self::Plain(stream) => stream.hold(),
            // Whatever is last goes at once.
            Self::Tls(_) | Self::H2Server(_) | Self::H2Client(_) => {}
        }
    }

    /// Says that the connection is about to be closed in order, where closing it does not say so by itself. That may take
    /// [`poll_finished`](Self::poll_finished).
    pub fn finish(&self) {
        match self {
            Self::Plain(stream) => stream.release(),
            // The end of a stream is said by its last frame.
            Self::H2Server(_) | Self::H2Client(_) => {}
            // It fails where the peer has reset the connection: there is nobody to be told.
            Self::Tls(stream) => drop(stream.shutdown(Shutdown::Write)),
        }
    }

    /// Resolves once what [`finish`](Self::finish) or [`shutdown`](Self::shutdown) has to say to the peer has gone, or never
    /// will. It shares the waker of the writes. Only TLS has such a thing.
    pub fn poll_finished(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tls(stream) => stream.poll_finished(cx),
            Self::Plain(_) | Self::H2Server(_) | Self::H2Client(_) => Poll::Ready(()),
        }
    }

    /// Whether it is TLS over a socket.
    pub fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The protocol that was chosen in the TLS handshake (ALPN, RFC 7301), if one was.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.alpn(),
            Self::Plain(_) | Self::H2Server(_) | Self::H2Client(_) => None,
        }
    }

    /// The certificate that the peer has shown and that was accepted, in DER; none where it has shown none.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) | Self::H2Server(_) | Self::H2Client(_) => None,
            Self::Tls(stream) => stream.peer_certificate().map(|certificate| certificate.to_vec()),
        }
    }

    /// Whether the connection can be passed to another instance, by [`into_fd`](Self::into_fd).
    pub fn can_move(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            // The keys and the sequence numbers of its records would have to go too.
            Self::Tls(_) => false,
            Self::H2Server(_) | Self::H2Client(_) => false,
        }
    }

    /// What is known of what was written, once reading has failed: whether the peer has begun with it.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Plain(_) | Self::Tls(_) | Self::H2Server(_) => Ending::Unsaid,
            Self::H2Client(stream) => stream.ending(),
        }
    }

    /// Gives the socket up, so that it can be passed to another process.
    ///
    /// # Errors
    ///
    /// What the stream below reports; nothing is known to make it fail. `Unsupported` where the connection
    /// [cannot move](Self::can_move). It is closed then.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Plain(stream) => stream.into_fd(),
            Self::Tls(_) | Self::H2Server(_) | Self::H2Client(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Self::poll_read(&self, cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Self::poll_write(&self, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write_vectored(&self, cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.shutdown(Shutdown::Write);
        self.poll_finished(cx).map(|()| outcome)
    }
}
