//! A response's body on its way to the client.

use std::future::poll_fn;
use std::net::Shutdown;
use std::task::{Poll, ready};

use super::connection::{Next, log};
use super::downstream::Downstream;
use super::exchange::Request;
use super::failure::{Failure, TOOK_NOTHING, client_gone, send_failure};
use super::pump::{Ends, Incoming, Outgoing, Pump, PumpError, Waiting};
use super::scratch::Scratch;
use super::upload::{Upload, UploadState, body_failure, chunk_decoder};
use super::{ServiceContext, fields, rewrite};
use crate::http::{Framing, ResponseHead, Version};
use crate::runtime::Buffer;
use crate::upstream::{Connection, Upstreams};
use crate::wire::Wire;

/// A response whose head has been read.
pub(super) struct Response<'a> {
    pub(super) server: &'a Connection,
    /// Begins with the head.
    pub(super) received: &'a mut Buffer,
    /// The head's length.
    pub(super) length: usize,
}

/// Sends a response on to the client, while what is left of the request goes to the server. Returns, too, whether the
/// server's connection may carry another request if nothing has come behind the response.
#[expect(clippy::too_many_arguments, reason = "the halves of one exchange, each used here for the last time")]
pub(super) async fn send_response(
    context: &ServiceContext,
    upstreams: &Upstreams,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    upload: &mut Upload,
    response: Response<'_>,
    request: &Request,
    via: Option<&[u8]>,
) -> (Next, bool) {
    let Response { server, received, length } = response;
    let Begun { pump: mut download, ends_by_close, keep_alive, reusable } =
        begin(context, downstream, scratch, upload, received, length, request, via);
    let out = &mut scratch.to_downstream;
    if ends_by_close {
        // The body would look whole if the connection ended in order before all of it is written, and it may end at any
        // point: with a failure, a drain that takes too long, the process. Where the socket cannot be told so, nothing
        // more can be done for the client.
        let _ = downstream.stream.reset_on_close(true);
    }
    let timeouts = &context.service.timeouts;
    let held_back = request.expect_continue && !upload.pump.has_begun();
    let mut seen = None;
    let mut cut_short = false;
    let outcome = poll_fn(|cx| {
        let mut attempted = false;
        loop {
            let fault = match upload.poll(cx, downstream, &mut scratch.to_upstream, &server.stream) {
                // The server takes no more of it, which it may well say in its response.
                None | Some(PumpError::Sink(_)) => None,
                // A client that is refused ends its side (RFC 9112 §9.5), and the server has to know.
                Some(PumpError::Truncated) => {
                    cut_short = true;
                    let _ = server.stream.shutdown(Shutdown::Write);
                    None
                }
                Some(error) => Some(body_failure(&error)),
            };
            let sink = Some(&downstream.stream);
            let mut ends = Ends { source: &server.stream, unread: received, sink, out };
            if let Poll::Ready(outcome) = download.poll(cx, &mut ends) {
                return Poll::Ready(outcome.map_err(|error| download_failure(&error, cut_short)));
            }
            if let Some(fault) = fault {
                return Poll::Ready(Err(fault));
            }
            if downstream.stream.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(client_gone()));
            }
            let uploading = (upload.state == UploadState::Running).then(|| upload.pump.waiting());
            // A server that waits for the rest of the request has nothing to say until it comes. What the client held
            // back until it was asked for, it need not send at all now.
            let starving = uploading == Some(Waiting::Source) && (!held_back || upload.pump.has_begun());
            let (patience, failure): (_, fn(bool) -> Failure) = match download.waiting() {
                Waiting::Source if starving => (timeouts.body, |_| {
                    Failure::downstream(408, "the client sent nothing of its body within the body time-out")
                }),
                Waiting::Source => (timeouts.upstream_read, silent),
                Waiting::Sink => (timeouts.send, |_| Failure::downstream(499, TOOK_NOTHING)),
            };
            let now = (download.waiting(), starving, download.moves(), upload.pump.moves());
            if seen != Some(now) {
                seen = Some(now);
                downstream.timer.set(context.handle.now() + patience);
            }
            ready!(downstream.timer.poll_expired(cx));
            if attempted || (download.waiting() != Waiting::Sink && uploading != Some(Waiting::Sink)) {
                if download.waiting() == Waiting::Sink {
                    // What was written would stay in the kernel's memory for as long as the client keeps its window
                    // closed and says that it is there, which costs it nothing.
                    let _ = downstream.stream.reset_on_close(true);
                }
                return Poll::Ready(Err(failure(cut_short)));
            }
            attempted = true;
            downstream.stream.attempt_write();
            server.stream.attempt_write();
        }
    })
    .await;
    if let Err(failure) = outcome {
        log(context, downstream, &scratch.line, upstreams.name(server), &failure);
        return (Next::Abort, false);
    }
    if ends_by_close {
        let _ = downstream.stream.reset_on_close(false);
    }
    let sent_whole = upload.state == UploadState::Done;
    let next = if keep_alive {
        Next::KeepAlive
    } else if !sent_whole {
        Next::Absorb
    } else if downstream.may_send_more(request.keep_alive) {
        Next::Linger
    } else {
        Next::Close
    };
    (next, reusable && sent_whole)
}

/// A response whose head is written for the client.
struct Begun {
    pump: Pump,
    /// Its body ends with the client's connection.
    ends_by_close: bool,
    /// The client's connection stays.
    keep_alive: bool,
    /// The server's connection may carry another request.
    reusable: bool,
}

/// Writes the head for the client, and as much of the body behind it as is there and small.
#[expect(
    clippy::too_many_arguments,
    reason = "a part of `send_response`, whose future would carry what this needs"
)]
fn begin(
    context: &ServiceContext,
    downstream: &Downstream,
    scratch: &mut Scratch,
    upload: &Upload,
    received: &mut Buffer,
    length: usize,
    request: &Request,
    via: Option<&[u8]>,
) -> Begun {
    let head = &scratch.response;
    let (incoming, outgoing, framing) = response_body(&head.framing, request.version, context);
    let ends_by_close = framing == Framing::UntilClose;
    let leaving = downstream.is_leaving(context);
    let keep_alive = request.keep_alive && upload.state == UploadState::Done && !ends_by_close && !leaving;
    let reusable = head.keep_alive && !matches!(incoming, Incoming::UntilClose);
    let out = &mut scratch.to_downstream;
    out.clear();
    let rewriting = rewrite::ResponseContext { via, framing, keep_alive, client_version: request.version };
    let handed = hand_over(downstream, received.unread(), head, &rewriting, context);
    if !handed {
        rewrite::response(out, received.unread(), head, &rewriting);
    }
    received.consume(length);
    if matches!(incoming, Incoming::Length(left) if left > received.capacity() as u64) {
        received.widen();
    }
    let mut pump = Pump::new(incoming, outgoing, u64::MAX);
    if !keep_alive {
        pump.is_last();
    }
    if !handed {
        pump.stage(received, out);
    }
    Begun { pump, ends_by_close, keep_alive, reusable }
}

/// Hands a head to a stream of HTTP/2 as it is parsed; false where it is to be written, to fail there if it fails.
fn hand_over(
    downstream: &Downstream,
    buf: &[u8],
    head: &ResponseHead,
    rewriting: &rewrite::ResponseContext<'_>,
    context: &ServiceContext,
) -> bool {
    let Wire::H2Server(stream) = &downstream.stream else { return false };
    if !stream.takes_head() {
        return false;
    }
    let fields = fields::response(buf, head, rewriting, &context.recent);
    fields.is_some_and(|fields| stream.send_head(head.status, fields, rewriting.framing).is_ok())
}

/// How a response's body comes, how it goes on, and what its head says of that.
fn response_body(
    framing: &Framing,
    client: Version,
    context: &ServiceContext,
) -> (Incoming, Outgoing, Framing) {
    let (identity, chunked) = (Outgoing::Identity, Outgoing::Chunked);
    match (*framing, client) {
        (Framing::None, _) => (Incoming::Length(0), identity, Framing::None),
        (Framing::Length(length), _) => (Incoming::Length(length), identity, Framing::Length(length)),
        (Framing::Chunked, Version::Http11) => {
            (Incoming::Chunked(chunk_decoder(context)), chunked, Framing::Chunked)
        }
        (Framing::Chunked, Version::Http10) => {
            (Incoming::Chunked(chunk_decoder(context)), identity, Framing::UntilClose)
        }
        // In chunks the client can tell a whole body from a broken one, and its connection can stay.
        (Framing::UntilClose, Version::Http11) => (Incoming::UntilClose, chunked, Framing::Chunked),
        (Framing::UntilClose, Version::Http10) => (Incoming::UntilClose, identity, Framing::UntilClose),
    }
}

/// The server has sent nothing for too long.
fn silent(cut_short: bool) -> Failure {
    if cut_short {
        return body_failure(&PumpError::Truncated);
    }
    Failure::upstream(504, "the server sent nothing of its body within the upstream_read time-out")
}

/// `cut_short` is whether the server did not get the whole request, through the client's fault.
fn download_failure(error: &PumpError, cut_short: bool) -> Failure {
    match error {
        PumpError::Source(_) | PumpError::Truncated if cut_short => body_failure(&PumpError::Truncated),
        PumpError::Source(error) => {
            Failure::upstream(502, format!("the server's connection failed in its response: {error}"))
        }
        PumpError::Truncated => Failure::upstream(502, "the server closed before the end of its response"),
        PumpError::Malformed(why) => {
            Failure::upstream(502, format!("the server's response is malformed: {why}"))
        }
        PumpError::TooLarge => Failure::upstream(502, "the server's response is too large"),
        PumpError::Sink(error) => send_failure(error),
    }
}
