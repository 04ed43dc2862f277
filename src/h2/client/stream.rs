//! One stream of a connection to a server, as a connection in HTTP/1.1 that carries one exchange.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::SendRequest;

use super::connection::{ConnectionId, Shared};
use super::ending::Ending;
use super::receiving::{Receiving, Wanted};
use super::request::{self, Unsendable};
use super::sending::{Arriving, Sending};
use crate::h2::websocket::proof;
use crate::http::{HeadLimits, Method, RequestHead, Unparsed, parse_request};

/// A stream that a request in HTTP/1.1 is written to, and the response to it read from in HTTP/1.1.
///
/// The stream is opened once the request's head is whole. Dropped before both have come to their end, it is reset
/// (`CANCEL`). Reading returns 0 behind the response.
pub struct ClientStream {
    state: RefCell<State>,
    shared: Rc<Shared>,
}

struct State {
    out: Out,
    /// `None` until the request's head has been sent.
    response: Option<Receiving>,
    /// Waits for that.
    reader: Option<Waker>,
    /// Why there is no stream, until it has been told.
    failure: Option<io::Error>,
    /// What is known of why the response did not come.
    ending: Ending,
    /// The stream's number, once there is one.
    number: Option<u32>,
}

/// The request's way out.
enum Out {
    /// Its head is not whole; what there is of it.
    Head(SendRequest<Bytes>, Vec<u8>),
    Body(Sending),
    /// All of it has been sent, or no more will be.
    Done,
}

/// The largest head that the proxy may write: the largest that it may be sent, and what it adds.
const HEAD: HeadLimits = HeadLimits { max_bytes: 2 << 20, max_fields: 1000 };

impl ClientStream {
    pub(super) fn new(shared: Rc<Shared>, connection: SendRequest<Bytes>) -> Self {
        let state = State {
            out: Out::Head(connection, Vec::new()),
            response: None,
            reader: None,
            failure: None,
            ending: Ending::default(),
            number: None,
        };
        Self { state: RefCell::new(state), shared }
    }

    /// What is known of the request, once reading has failed.
    pub fn ending(&self) -> Ending {
        self.state.borrow().ending
    }

    /// Tells the streams of one connection from those of others.
    pub fn connection(&self) -> ConnectionId {
        self.shared.id
    }

    /// Says that the response has been read to its end, which the stream may not have come to: then its connection sees
    /// to that, rather than to reset it.
    pub fn finish(self) {
        let mut state = self.state.borrow_mut();
        if matches!(state.out, Out::Done)
            && let Some(stream) = state.response.take().and_then(Receiving::unended)
        {
            self.shared.let_end(stream);
        }
    }

    /// Reads what there is of the response, in HTTP/1.1; 0 at its end.
    ///
    /// # Errors
    ///
    /// What ended the stream: a reset by the server, a failure of the connection, a request that HTTP/2 has no form for.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let state = &mut *self.state.borrow_mut();
        match &mut state.response {
            _ if buf.is_empty() => Poll::Ready(Ok(0)),
            Some(response) => {
                let read = ready!(response.poll_read(cx, buf));
                Poll::Ready(read.map_err(|error| {
                    let cause = self.shared.cause(error, state.number);
                    state.ending = cause.ending();
                    cause.into()
                }))
            }
            None => state.poll_failed(cx).map(Err),
        }
    }

    /// Resolves once a read has something to tell.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        match &mut state.response {
            Some(response) => response.poll_readable(cx),
            None if state.failure.is_some() => Poll::Ready(()),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Resolves once the stream has been reset while the request was on its way.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state.borrow_mut().out {
            Out::Body(sending) => sending.poll_gone(cx),
            Out::Head(..) | Out::Done => Poll::Pending,
        }
    }

    /// Takes a part of the request, in HTTP/1.1: its head, then as much of its body as the server's windows have room
    /// for.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the server takes no more of it; what reading tells else.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let state = &mut *self.state.borrow_mut();
        let head = match &mut state.out {
            Out::Head(..) => match ready!(state.poll_write_head(cx, buf, &self.shared)) {
                Ok(count) => count,
                Err(error) => return Poll::Ready(Err(error)),
            },
            Out::Body(_) => 0,
            Out::Done => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        let rest = buf.get(head..).unwrap_or_default();
        if rest.is_empty() {
            return Poll::Ready(Ok(head));
        }
        match state.poll_write_body(cx, rest) {
            Poll::Ready(Ok(count)) => Poll::Ready(Ok(head + count)),
            // The next write tells it.
            _ if head > 0 => Poll::Ready(Ok(head)),
            other => other,
        }
    }

    /// Like [`poll_write`](Self::poll_write), from several slices.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write).
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut count = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match self.poll_write(cx, buf) {
                Poll::Ready(Ok(some)) => {
                    count += some;
                    if some < buf.len() {
                        break;
                    }
                }
                // The next write tells it.
                _ if count > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(count))
    }

    /// The writer has no more: a request that is not complete is given up, a tunnel ends in this direction.
    pub fn shutdown_write(&self) {
        let out = &mut self.state.borrow_mut().out;
        match std::mem::replace(out, Out::Done) {
            Out::Body(sending) => sending.shut(),
            Out::Head(..) | Out::Done => {}
        }
    }
}

impl State {
    /// Reads the request's head, and opens the stream once it is whole; returns how much of `buf` it took.
    fn poll_write_head(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
        shared: &Shared,
    ) -> Poll<io::Result<usize>> {
        let Out::Head(_, begun) = &mut self.out else { return Poll::Ready(Ok(0)) };
        let before = begun.len();
        // Mostly it comes whole, and is read where it is.
        let joined = (before > 0).then(|| [begun, buf].concat());
        let text = joined.as_deref().unwrap_or(buf);
        let mut head = shared.scratch.borrow_mut();
        head.clear();
        let length = match parse_request(text, &HEAD, &mut head) {
            Ok(length) => length,
            Err(Unparsed::NeedMore) => {
                begun.extend_from_slice(buf);
                return Poll::Ready(Ok(buf.len()));
            }
            Err(Unparsed::Reject(reject)) => {
                return Poll::Ready(Err(self.give_up(io::Error::other(reject))));
            }
        };
        let key = request::websocket_key(text, &head);
        if key.is_some() {
            ready!(shared.poll_settled(cx));
        }
        if let Err(why) = self.open(text, &head, key, shared) {
            return Poll::Ready(Err(self.give_up(why)));
        }
        self.wake_reader();
        Poll::Ready(Ok(length.saturating_sub(before)))
    }

    /// Opens the stream with the request's head; a WebSocket is asked for where there is a `key` of one.
    fn open(
        &mut self,
        text: &[u8],
        head: &RequestHead,
        key: Option<&[u8]>,
        shared: &Shared,
    ) -> io::Result<()> {
        let Out::Head(connection, _) = &mut self.out else { return Ok(()) };
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let (request, arriving, wanted) = match key {
            Some(_) if !connection.is_extended_connect_protocol_enabled() => {
                return Err(invalid(Unsendable::WebSocket));
            }
            Some(key) => {
                let request = request::websocket(text, head, &shared.scheme).map_err(invalid)?;
                (request, Some(Arriving::UntilShut), Wanted::WebSocket(proof(key)))
            }
            None => {
                let request = request::request(text, head, &shared.scheme).map_err(invalid)?;
                let wanted = if head.method == Method::Head { Wanted::Head } else { Wanted::Response };
                (request, Arriving::of(&head.framing), wanted)
            }
        };
        match connection.send_request(request, arriving.is_none()) {
            Ok((response, stream)) => {
                let number = response.stream_id().as_u32();
                self.number = Some(number);
                self.response = Some(Receiving::new(response, wanted, shared.follow(number)));
                self.out = arriving.map_or(Out::Done, |arriving| Out::Body(Sending::new(stream, arriving)));
                Ok(())
            }
            Err(error) => {
                // Nothing of it has been sent, unless it is the request's own fault.
                if error.is_go_away() || error.is_io() {
                    self.ending = Ending::Unseen;
                }
                Err(shared.cause(error, None).into())
            }
        }
    }

    fn poll_write_body(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Out::Body(sending) = &mut self.out else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let (taken, ends) = match ready!(sending.poll_write(cx, buf)) {
            Ok(wrote) => wrote,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if ends {
            self.out = Out::Done;
        }
        Poll::Ready(Ok(taken))
    }

    /// There will be no stream. What is told to the writer is `BrokenPipe`; the reader hears why.
    fn give_up(&mut self, why: io::Error) -> io::Error {
        self.out = Out::Done;
        self.failure = Some(why);
        self.wake_reader();
        io::ErrorKind::BrokenPipe.into()
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(error);
        }
        if matches!(self.out, Out::Done) {
            return Poll::Ready(io::ErrorKind::BrokenPipe.into());
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        // What is left of the stream goes first, so that there is room for another.
        let state = self.state.get_mut();
        state.out = Out::Done;
        state.response = None;
        self.shared.closed_one();
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("ending", &self.ending()).finish_non_exhaustive()
    }
}
