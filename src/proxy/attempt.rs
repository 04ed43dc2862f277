//! One attempt to get a response's head from a server.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::ServiceContext;
use super::downstream::Downstream;
use super::failure::{Failure, client_gone};
use super::pump::{PumpError, Waiting};
use super::upload::{Upload, UploadState, body_failure};
use crate::h2::client::Ending;
use crate::http::{HeadLimits, Method, ResponseHead, Unparsed, parse_response};
use crate::runtime::{Buffer, Timer};
use crate::upstream::Connection;

/// One attempt to get a response's head: what was sent and what has come.
pub(super) struct Attempt<'a> {
    pub(super) context: &'a ServiceContext,
    pub(super) downstream: &'a mut Downstream,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) upload: &'a mut Upload,
    pub(super) head: &'a mut ResponseHead,
    /// Read from the server and not yet used.
    pub(super) received: &'a mut Buffer,
    /// The client holds its body back until the server asks for it, which it has not done.
    pub(super) held_back: bool,
    /// No later than this, whatever happens.
    pub(super) until: Instant,
}

/// Why an attempt brought no response.
pub(super) enum Lost {
    /// The connection had been closed before this request reached the server.
    Stale(Failure),
    /// The server refuses to begin with the request.
    Refused(Failure),
    /// The server has never looked at the request, and will not: its connection ended before.
    Unseen(Failure),
    Failed(Failure),
    /// The client went away, so nobody is left to be told.
    ClientGone(Failure),
}

impl Attempt<'_> {
    /// Sends what is to be sent and reads until the next head is whole; its length among what is `received`.
    pub(super) async fn response_head(&mut self, server: &Connection, method: Method) -> Result<usize, Lost> {
        let limits = HeadLimits {
            max_bytes: self.context.head_limits.max_bytes,
            max_fields: self.context.head_limits.max_fields,
        };
        let mut stall = Stall::default();
        let outcome = poll_fn(|cx| {
            let mut attempted = false;
            loop {
                if let Err(lost) = self.poll_upload(cx, server) {
                    return Poll::Ready(Err(lost));
                }
                if let Poll::Ready(outcome) = self.poll_head(cx, server, method, &limits) {
                    return Poll::Ready(outcome);
                }
                if self.downstream.stream.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Lost::ClientGone(client_gone())));
                }
                let lost = ready!(stall.poll(cx, self));
                if attempted || self.upload.pump.waiting() != Waiting::Sink {
                    return Poll::Ready(Err(lost));
                }
                attempted = true;
                server.stream.attempt_write();
            }
        })
        .await;
        if outcome.is_err() {
            // It may hold the half of a head, and the next one is another server's.
            self.head.clear();
        }
        outcome
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, server: &Connection) -> Result<(), Lost> {
        match self.upload.poll(cx, self.downstream, self.out, &server.stream) {
            None | Some(PumpError::Sink(_)) => Ok(()),
            Some(error @ PumpError::Source(_)) => Err(Lost::ClientGone(body_failure(&error))),
            Some(error) => Err(Lost::Failed(body_failure(&error))),
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        server: &Connection,
        method: Method,
        limits: &HeadLimits,
    ) -> Poll<Result<usize, Lost>> {
        loop {
            if !self.received.is_empty() {
                match parse_response(self.received.unread(), limits, &method, self.head) {
                    Ok(length) => return Poll::Ready(Ok(length)),
                    Err(Unparsed::NeedMore) => {}
                    Err(Unparsed::Reject(reject)) => {
                        let why = format!("the server's response is malformed: {}", reject.why);
                        return Poll::Ready(Err(Lost::Failed(Failure::upstream(502, why))));
                    }
                }
            }
            if self.received.space_mut().is_empty() && !self.received.grow(limits.max_bytes + 1) {
                let failure = Failure::upstream(502, "the head of the server's response is too large");
                return Poll::Ready(Err(Lost::Failed(failure)));
            }
            let why = match ready!(server.stream.poll_read(cx, self.received.space_mut())) {
                Ok(0) => "the server closed the connection before its response".to_owned(),
                Ok(count) => {
                    self.received.filled(count);
                    continue;
                }
                Err(error) => format!("the server's connection failed before its response: {error}"),
            };
            let failure = Failure::upstream(502, why);
            let ending = server.stream.ending();
            let lost = match () {
                () if ending == Ending::Refused => Lost::Refused,
                () if ending == Ending::Unseen => Lost::Unseen,
                () if ending == Ending::Said => Lost::Failed,
                () if server.is_reused() && self.received.is_empty() => Lost::Stale,
                () => Lost::Failed,
            };
            return Poll::Ready(Err(lost(failure)));
        }
    }
}

/// Tells a stall from progress while a response is awaited.
#[derive(Default)]
struct Stall {
    seen: Option<(UploadState, Waiting, u64)>,
}

impl Stall {
    fn poll(&mut self, cx: &mut Context<'_>, attempt: &Attempt<'_>) -> Poll<Lost> {
        let upload = &*attempt.upload;
        let timeouts = &attempt.context.service.timeouts;
        let now = (upload.state, upload.pump.waiting(), upload.pump.moves());
        let (patience, late): (_, fn(bool) -> Failure) = match now {
            (UploadState::Running, Waiting::Source, _) if attempt.held_back && !upload.pump.has_begun() => {
                (timeouts.upstream_read, |_| {
                    Failure::upstream(
                        504,
                        "the server did not ask for the body within the upstream_read or request time-out",
                    )
                })
            }
            (UploadState::Running, Waiting::Source, _) => (timeouts.body, |in_all| {
                Failure::downstream(
                    408,
                    if in_all {
                        "the client did not send all of its body within the request time-out"
                    } else {
                        "the client sent nothing of its body within the body time-out"
                    },
                )
            }),
            (UploadState::Running, Waiting::Sink, _) => (timeouts.upstream_write, |in_all| {
                Failure::upstream(
                    504,
                    if in_all {
                        "the server did not take all of the request within the request time-out"
                    } else {
                        "the server took nothing of the request within the upstream_write time-out"
                    },
                )
            }),
            (UploadState::Done | UploadState::Broken, ..) => (timeouts.upstream_read, |_| {
                Failure::upstream(
                    504,
                    "the server sent no response within the upstream_read or request time-out",
                )
            }),
        };
        let timer: &Timer = &attempt.downstream.timer;
        if self.seen != Some(now) {
            self.seen = Some(now);
            timer.set((attempt.context.handle.now() + patience).min(attempt.until));
        }
        timer.poll_expired(cx).map(|()| Lost::Failed(late(attempt.context.handle.now() >= attempt.until)))
    }
}
