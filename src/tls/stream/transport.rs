//! What a TLS connection receives and sends below its reads and writes.

use std::io;
use std::net::Shutdown;
use std::task::{Context, Poll, ready};

use super::{Ending, TlsStream, invalid};
use crate::tls::session::Session;

impl TlsStream {
    /// Goes on with the handshake.
    pub(in crate::tls) fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.shake() {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) => ready!(self.poll_flush(&mut session, cx))?,
                Err(error) => {
                    self.send_rest(&mut session, cx);
                    return Poll::Ready(Err(invalid(error)));
                }
            }
            ready!(self.poll_receive(&mut session, cx))?;
        }
    }

    /// Receives once into a session that is starved.
    pub(super) fn poll_receive(&self, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.get() {
            return Poll::Ready(Err(truncated()));
        }
        ready!(self.poll_idle(session, cx));
        let received = match session.space() {
            Ok(space) => self.stream.poll_read(cx, space),
            Err(error) => return Poll::Ready(Err(invalid(error))),
        };
        match received {
            Poll::Ready(Ok(0)) => {
                self.cut.set(true);
                session.shed();
                Poll::Ready(Err(truncated()))
            }
            Poll::Ready(Ok(count)) => {
                session.filled(count);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                session.shed();
                Poll::Ready(Err(error))
            }
            Poll::Pending => {
                session.shed();
                // Nothing is there after all, or it is put off; the waker is with the socket either way.
                self.send_rest(session, cx);
                Poll::Pending
            }
        }
    }

    /// Resolves once there is something to receive. Before it waits, what the peer may be waiting for is sent.
    pub(super) fn poll_idle(&self, session: &mut Session, cx: &mut Context<'_>) -> Poll<()> {
        let readable = self.stream.poll_readable(cx);
        if readable.is_pending() {
            self.send_rest(session, cx);
        }
        readable
    }

    /// Sends what waits to be sent, as far as it goes, unless a writer sees to that.
    pub(super) fn send_rest(&self, session: &mut Session, cx: &mut Context<'_>) {
        if self.held.get().is_some() || (session.outgoing.is_empty() && self.ending.get() != Ending::Queued) {
            return;
        }
        // A connection that cannot be written to tells its reader so.
        let _ = self.poll_end(session, cx);
    }

    /// Sends what waits to be sent, and ends this direction where that was asked for.
    pub(super) fn poll_end(&self, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = ready!(self.poll_flush(session, cx));
        if self.ending.get() == Ending::Queued {
            self.ending.set(Ending::Done);
            sent.and(self.stream.shutdown(Shutdown::Write))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_flush(&self, session: &mut Session, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !session.outgoing.is_empty() {
            let waiting = session.outgoing.unread();
            let count = ready!(self.stream.poll_write(cx, waiting))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            session.outgoing.consume(count);
            self.begun.set(true);
            self.passed.set(self.passed.get().wrapping_add(count as u64));
        }
        session.outgoing.shed();
        Poll::Ready(Ok(()))
    }
}

fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without a close_notify")
}
