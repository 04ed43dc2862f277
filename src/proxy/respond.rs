//! Answers that River gives by itself: a service's fixed one, and those to requests that failed.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use http::StatusCode;

use super::connection::{Next, log};
use super::downstream::Downstream;
use super::failure::{Failure, send_failure};
use super::pump::{Ends, Outgoing, Pump};
use super::scratch::{Scratch, note_line};
use super::upload::{body_failure, request_body};
use super::{Respond, ServiceContext, rewrite};
use crate::http::{Method, Version};

/// What an answer has to know of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) version: Version,
    pub(super) head: bool,
    /// The connection can go on after the answer.
    pub(super) keep_alive: bool,
    /// All of the request has come.
    pub(super) received: bool,
    /// It speaks gRPC over HTTP/2.
    pub(super) grpc: bool,
}

impl Client {
    /// Of a request that could not be understood.
    pub(super) fn unknown() -> Self {
        Self { version: Version::Http11, head: false, keep_alive: false, received: false, grpc: false }
    }
}

/// The answer to a request that may be forwarded no further (RFC 9110 §7.6.2). What TRACE would bring back may hold
/// credentials, so River does not do it.
pub(super) fn last_hop(method: Method) -> Respond {
    let status = if method == Method::Options { StatusCode::OK } else { StatusCode::NOT_IMPLEMENTED };
    Respond { status, headers: Vec::new(), body: Vec::new() }
}

/// A body up to this size is copied behind its head: one plain write costs less than a gathering one. A larger one
/// goes from where it is, however many clients take their time with it.
const COPIED: usize = 8 << 10;

/// Gives the service's fixed answer, after the request's body has been read and thrown away.
pub(super) async fn fixed(
    context: &ServiceContext,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    head_length: usize,
    began: Instant,
    answer: &Respond,
) -> Next {
    let request = &scratch.request;
    let mut client = Client {
        version: request.version,
        head: request.method == Method::Head,
        keep_alive: request.keep_alive,
        received: false,
        grpc: downstream.is_http2() && rewrite::is_grpc(downstream.unread.unread(), request),
    };
    // Who waits to be told to go on is told the answer instead, and the body is never sent (RFC 9110 §10.1.1).
    let expects = request.expect_continue;
    let body = request_body(&request.framing, Outgoing::Identity, context);
    let (begin, end) = (request.method_span.range().start, request.target.range().end + " HTTP/1.1".len());
    note_line(&mut scratch.line, downstream.unread.unread().get(begin..end).unwrap_or_default());
    downstream.unread.consume(head_length);
    let outcome = match body {
        Ok(pump) if expects && !pump.has_arrived() => {
            client.keep_alive = false;
            Ok(())
        }
        Ok(pump) => discard(context, downstream, &mut scratch.to_upstream, pump, began).await,
        Err(failure) => Err(failure),
    };
    if let Err(refusal) = outcome {
        log(context, downstream, &scratch.line, "", &refusal);
        client.keep_alive = false;
        return failure(context, downstream, scratch, &refusal, client).await;
    }
    let asked_to_stay = client.keep_alive;
    client.keep_alive &= !downstream.is_leaving(context);
    let out = &mut scratch.to_downstream;
    let reason = answer.status.canonical_reason().unwrap_or_default();
    rewrite::status_line(out, answer.status.as_u16(), reason.as_bytes());
    for (name, value) in &answer.headers {
        rewrite::field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    rewrite::date(out);
    if !matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        rewrite::content_length(out, answer.body.len() as u64);
    }
    rewrite::connection(out, client.keep_alive, client.version);
    out.extend_from_slice(b"\r\n");
    let mut body: &[u8] = if client.head { &[] } else { &answer.body };
    if body.len() <= COPIED {
        out.extend_from_slice(body);
        body = &[];
    }
    if !client.keep_alive {
        downstream.stream.hold();
    }
    match downstream.send(&scratch.to_downstream, body, context).await {
        Ok(()) if client.keep_alive => Next::KeepAlive,
        Ok(()) if expects || downstream.may_send_more(asked_to_stay) => Next::Linger,
        Ok(()) => Next::Close,
        Err(error) => {
            log(context, downstream, &scratch.line, "", &send_failure(&error));
            Next::Abort
        }
    }
}

/// Tells the client why its request failed. The connection goes on where `client` allows it.
pub(super) async fn failure(
    context: &ServiceContext,
    downstream: &Downstream,
    scratch: &mut Scratch,
    failure: &Failure,
    client: Client,
) -> Next {
    let reason = StatusCode::from_u16(failure.status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error");
    let out = &mut scratch.to_downstream;
    out.clear();
    let mut body = format!("{} {reason}\n", failure.status);
    if client.grpc {
        grpc_failure(out, failure.status, &body);
        body.clear();
    } else {
        rewrite::status_line(out, failure.status, reason.as_bytes());
        rewrite::date(out);
        out.extend_from_slice(b"Content-Type: text/plain\r\n");
    }
    rewrite::content_length(out, body.len() as u64);
    let keep_alive = client.keep_alive && !downstream.is_leaving(context);
    rewrite::connection(out, keep_alive, client.version);
    out.extend_from_slice(b"\r\n");
    if !client.head {
        out.extend_from_slice(body.as_bytes());
    }
    if !keep_alive {
        downstream.stream.hold();
    }
    match downstream.send(out, &[], context).await {
        Ok(()) if keep_alive => Next::KeepAlive,
        // Who was too slow is not waited for at length.
        Ok(()) if client.received || failure.status == 408 => Next::Linger,
        Ok(()) => Next::Absorb,
        Err(_) => Next::Abort,
    }
}

/// Begins an answer that gRPC calls Trailers-Only: all is well with HTTP, and the call has failed.
fn grpc_failure(out: &mut Vec<u8>, status: u16, message: &str) {
    rewrite::status_line(out, 200, b"OK");
    rewrite::date(out);
    out.extend_from_slice(b"Content-Type: application/grpc\r\n");
    rewrite::field(out, b"grpc-status", grpc_status(status));
    // In ASCII, and without a percent sign, it need not be encoded.
    rewrite::field(out, b"grpc-message", message.trim_end().as_bytes());
}

/// What a client of gRPC makes of an HTTP status (`http-grpc-status-mapping.md` of the gRPC documents), and for a message
/// that is too large, which that does not list, RESOURCE_EXHAUSTED.
fn grpc_status(status: u16) -> &'static [u8] {
    match status {
        400 => b"13",
        413 => b"8",
        429 | 502 | 503 | 504 => b"14",
        _ => b"2",
    }
}

/// Reads a request's body and throws it away.
async fn discard(
    context: &ServiceContext,
    downstream: &mut Downstream,
    out: &mut Vec<u8>,
    mut pump: Pump,
    began: Instant,
) -> Result<(), Failure> {
    let timeouts = &context.service.timeouts;
    let Downstream { stream, unread, timer, .. } = downstream;
    let mut moves = u64::MAX;
    poll_fn(|cx| {
        match pump.poll(cx, &mut Ends { source: stream, unread, sink: None, out }) {
            Poll::Ready(outcome) => return Poll::Ready(outcome.map_err(|error| body_failure(&error))),
            Poll::Pending => {}
        }
        if moves != pump.moves() {
            moves = pump.moves();
            timer.set((context.handle.now() + timeouts.body).min(began + timeouts.request));
        }
        timer
            .poll_expired(cx)
            .map(|()| Err(Failure::downstream(408, "the body took longer than the body or request time-out")))
    })
    .await
}
