//! The client's side of a connection.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use super::ServiceContext;
use super::depart::{Offer, Parting, Permit, Resting};
use super::failure::Failure;
use super::rewrite::Forwarded;
use super::tunnel::Tunnel;
use crate::h2::PREFACE;
use crate::http::{RequestHead, Unparsed, parse_request};
use crate::runtime::{Buffer, Handle, Timer};
use crate::upstream::Spare;
use crate::wire::Wire;

/// A client's connection: the stream, what was read of it and not yet used, and its one timer.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) stream: Wire,
    /// Given back to the worker while the connection is idle.
    pub(super) unread: Buffer,
    pub(super) timer: Timer,
    /// The client's address; none for a client on a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// What is said of the client to servers; made once.
    pub(super) forwarded: Rc<Forwarded>,
    /// The client has sent a request before it had the response to the last, and may do so again.
    pub(super) pipelines: bool,
    /// How many requests were answered.
    pub(super) requests: u64,
    /// When it was last offered to another instance, as [`Leaving`](super::Leaving) counts it.
    pub(super) offered: Option<u64>,
}

/// How waiting for a request ended.
pub(super) enum Awaited {
    /// The first bytes of a request are there.
    Request,
    /// The client closed, or the time was up.
    Nothing,
    /// The connection may depart.
    Permit(Permit),
}

/// How reading a head ended.
pub(super) enum HeadRead {
    /// It is whole and takes so many bytes of what is unread.
    Whole(usize),
    /// The client closed or reset the connection before the head's end.
    Gone,
    /// Nothing has come after all.
    Nothing,
    /// It is to be refused.
    Refuse(Failure),
}

impl Downstream {
    /// The client's address without its port.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip())
    }

    /// It is a stream of HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.stream, Wire::H2Server(_))
    }

    /// Waits until the client sends something, not later than `until`, or until the connection may depart. The buffer is
    /// not needed meanwhile, and nothing is read.
    pub(super) async fn await_request(&self, context: &ServiceContext, until: Instant) -> Awaited {
        self.timer.set(until);
        let mut offer = Offer::default();
        poll_fn(|cx| {
            if self.stream.poll_readable(cx).is_ready() {
                return Poll::Ready(Awaited::Request);
            }
            if self.timer.poll_expired(cx).is_ready() {
                return Poll::Ready(Awaited::Nothing);
            }
            offer
                .poll(cx, &context.leaving, context.leaving.moves(self.offered) && self.stream.can_move())
                .map(Awaited::Permit)
        })
        .await
    }

    /// Lets the connection depart, if it may without waiting. Nothing may be unread.
    pub(super) fn permit_now(&self, context: &ServiceContext) -> Option<Permit> {
        self.stream.can_move().then(|| context.leaving.permit_now(self.offered)).flatten()
    }

    /// Whether the client begins as one of HTTP/2, no later known than `until`. `None` if it has sent nothing after all.
    /// What was read is unread.
    pub(super) async fn begins_http2(&mut self, until: Instant) -> Option<bool> {
        self.timer.set(until);
        poll_fn(|cx| {
            loop {
                let there = self.unread.unread();
                let known = there.len().min(PREFACE.len());
                if there.get(..known) != PREFACE.get(..known) {
                    return Poll::Ready(Some(false));
                }
                if known == PREFACE.len() {
                    return Poll::Ready(Some(true));
                }
                match self.stream.poll_read(cx, self.unread.space_mut()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(false)),
                    Poll::Ready(Ok(count)) => self.unread.filled(count),
                    Poll::Pending if self.unread.is_empty() => return Poll::Ready(None),
                    Poll::Pending => return self.timer.poll_expired(cx).map(|()| Some(false)),
                }
            }
        })
        .await
    }

    /// Whether it is a stream whose client has already reset it: then nothing is begun for it, however many of them come
    /// (CVE-2023-44487).
    pub(super) async fn is_reset(&self) -> bool {
        self.is_http2() && poll_fn(|cx| Poll::Ready(self.stream.poll_gone(cx).is_ready())).await
    }

    /// Waits for a connection to a server as long as the client is there to use it: none once that is gone, which drops
    /// what was begun.
    pub(super) fn while_there<T>(
        &self,
        mut connecting: Pin<Box<impl Future<Output = T>>>,
    ) -> impl Future<Output = Option<T>> {
        poll_fn(move |cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(Some(connected)),
            Poll::Pending => self.stream.poll_gone(cx).map(|()| None),
        })
    }

    /// Takes the connection apart, so that it can be served elsewhere. Nothing may have been read of it that is not in
    /// `tunnel`; `spare` goes along.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports; nothing is known to make it fail. The connection is closed then.
    pub(super) fn part(
        self,
        context: &ServiceContext,
        tunnel: Option<Tunnel>,
        spare: Option<Spare>,
        permit: Permit,
    ) -> io::Result<Parting> {
        debug_assert!(self.unread.is_empty(), "what was read would be lost");
        let tunnel = tunnel.map(Tunnel::into_parts).transpose()?.map(Box::new);
        let connection = Resting {
            client: self.stream.into_fd()?,
            peer: self.peer,
            requests: self.requests,
            pipelines: self.pipelines,
            tunnel,
            spare,
            offered: context.leaving.now(),
            shared: true,
        };
        Ok(Parting { connection, permit })
    }

    /// Reads until the head is whole, not later than `until`.
    pub(super) async fn read_head(
        &mut self,
        context: &ServiceContext,
        head: &mut RequestHead,
        until: Instant,
    ) -> HeadRead {
        self.timer.set(until);
        poll_fn(|cx| {
            loop {
                // An empty line by itself is no begin of a request (RFC 9112 §2.2): some clients end a body with one.
                if self.unread.unread() == b"\r\n" {
                    self.unread.clear();
                    head.clear();
                }
                if !self.unread.is_empty() {
                    match parse_request(self.unread.unread(), &context.head_limits, head) {
                        Ok(length) => return Poll::Ready(HeadRead::Whole(length)),
                        Err(Unparsed::Reject(reject)) => return Poll::Ready(HeadRead::Refuse(reject.into())),
                        Err(Unparsed::NeedMore) => {}
                    }
                }
                // One byte above the limit lets the parser see that the limit is passed.
                if self.unread.space_mut().is_empty() && !self.unread.grow(context.head_limits.max_bytes + 1)
                {
                    return Poll::Ready(HeadRead::Refuse(Failure::downstream(431, "the head is too large")));
                }
                match self.stream.poll_read(cx, self.unread.space_mut()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(HeadRead::Gone),
                    Poll::Ready(Ok(count)) => self.unread.filled(count),
                    Poll::Pending => break,
                }
            }
            if self.unread.is_empty() {
                // Where a read is still worth its call, it was only put off until the task has given way.
                return match self.stream.poll_readable(cx) {
                    Poll::Ready(()) => Poll::Pending,
                    Poll::Pending => Poll::Ready(HeadRead::Nothing),
                };
            }
            self.timer.poll_expired(cx).map(|()| {
                HeadRead::Refuse(Failure::downstream(408, "the head took longer than the head time-out"))
            })
        })
        .await
    }

    /// Sends all of `head` and of `body`; each write may wait for the send time-out.
    pub(super) async fn send(&self, head: &[u8], body: &[u8], context: &ServiceContext) -> io::Result<()> {
        let patience = context.service.timeouts.send;
        let mut sent = 0_usize;
        self.timer.set(context.handle.now() + patience);
        poll_fn(|cx| {
            let mut attempted = false;
            loop {
                let head_left = head.get(sent..).unwrap_or_default();
                let body_left = body.get(sent.saturating_sub(head.len())..).unwrap_or_default();
                let before = self.stream.passed();
                let written = match (head_left, body_left) {
                    ([], []) => return Poll::Ready(Ok(())),
                    (only, []) | ([], only) => self.stream.poll_write(cx, only),
                    _ => {
                        let both = [IoSlice::new(head_left), IoSlice::new(body_left)];
                        self.stream.poll_write_vectored(cx, &both)
                    }
                };
                match written {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => {
                        sent += count;
                        self.timer.set(context.handle.now() + patience);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {
                        if before != self.stream.passed() {
                            self.timer.set(context.handle.now() + patience);
                        }
                        ready!(self.timer.poll_expired(cx));
                        if attempted {
                            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                        }
                        attempted = true;
                        self.stream.attempt_write();
                    }
                }
            }
        })
        .await
    }

    /// Waits until the client has been sent what says that the connection ends in order, as long as it takes something
    /// within each send time-out: over TLS, a response without it looks cut short.
    pub(super) async fn finished(&self, context: &ServiceContext) {
        let patience = context.service.timeouts.send;
        self.timer.set(context.handle.now() + patience);
        poll_fn(|cx| {
            let mut attempted = false;
            loop {
                let before = self.stream.passed();
                if self.stream.poll_finished(cx).is_ready() {
                    return Poll::Ready(());
                }
                if before != self.stream.passed() {
                    self.timer.set(context.handle.now() + patience);
                }
                ready!(self.timer.poll_expired(cx));
                if attempted {
                    return Poll::Ready(());
                }
                attempted = true;
                self.stream.attempt_write();
            }
        })
        .await;
    }

    /// The connection is to be closed after the response at hand: it is told to leave, and nothing more has come on it.
    /// Requests that are already here are answered first, for a client does not expect them to be lost.
    pub(super) fn is_leaving(&self, context: &ServiceContext) -> bool {
        let closes = context.leaving.closes(self.offered)
            || (context.leaving.moves(self.offered) && !self.stream.can_move());
        closes && self.unread.is_empty() && self.stream.is_quiet()
    }

    /// The client has sent more than what was answered, or may be sending it while it is told that the connection ends.
    /// Closing at once would reset the connection then, and might take the response with it. `expects_to_stay` is whether
    /// its last request left the connection open; a client that does not pipeline sends nothing before it has read that
    /// it is not.
    pub(super) fn may_send_more(&self, expects_to_stay: bool) -> bool {
        !self.unread.is_empty() || !self.stream.is_quiet() || (expects_to_stay && self.pipelines)
    }

    /// Closes the connection after a response that the client may still be reading: takes what the client sends, and
    /// throws it away, until that closes too, is silent for `silence`, or has gone on for `most`.
    pub(super) async fn linger(&mut self, handle: &Handle, silence: Duration, most: Duration) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        self.unread.clear();
        let until = handle.now() + most;
        self.timer.set(handle.now() + silence);
        poll_fn(|cx| {
            loop {
                match self.stream.poll_read(cx, self.unread.space_mut()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(_)) => self.timer.set(until.min(handle.now() + silence)),
                    Poll::Pending => return self.timer.poll_expired(cx),
                }
            }
        })
        .await;
    }
}
