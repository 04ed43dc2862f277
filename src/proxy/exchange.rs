//! A request that is forwarded to a server, and its response.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use http::HeaderValue;

use super::connection::{Next, log};
use super::downstream::Downstream;
use super::failure::Failure;
use super::pump::{Ends, Incoming, Outgoing, Pump, PumpError, Waiting};
use super::respond::{self, Client, body_failure};
use super::scratch::Scratch;
use super::{ServiceContext, rewrite, tunnel};
use crate::http::{
    ChunkDecoder, Framing, HeadLimits, Method, ResponseHead, Unparsed, Version, parse_response,
};
use crate::runtime::{Buffer, Stream, Timer};
use crate::upstream::{ConnectError, Connection, Tried, Upstreams};

/// What must be remembered of a request once its head has been sent on.
struct Request {
    method: Method,
    version: Version,
    keep_alive: bool,
    upgrade: bool,
    expect_continue: bool,
    began: Instant,
}

/// One attempt to get a response's head: what was sent and what has come.
struct Attempt<'a> {
    context: &'a ServiceContext,
    downstream: &'a mut Downstream,
    out: &'a mut Vec<u8>,
    upload: &'a mut Upload,
    head: &'a mut ResponseHead,
    /// Read from the server and not yet used.
    received: &'a mut Buffer,
    /// The client holds its body back until the server asks for it, which it has not done.
    held_back: bool,
    /// No later than this, whatever happens.
    until: Instant,
}

/// The request on its way to the server.
struct Upload {
    pump: Pump,
    state: UploadState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UploadState {
    Running,
    Done,
    /// The server takes no more of it, or the client sends no more; a response may still come.
    Broken,
}

/// Why an attempt brought no response.
enum Lost {
    /// The connection had been closed before this request reached the server.
    Stale(Failure),
    Failed(Failure),
    /// The client went away, so nobody is left to be told.
    ClientGone(Failure),
}

/// More interim responses than this before the final one are refused.
const MOST_INTERIM: usize = 16;

/// The longest part of a request line that goes into a log line.
const LOGGED_LINE: usize = 200;

/// The longest line, and the longest trailer section, of a chunked body.
const CHUNK_LINE: usize = 4 << 10;

/// Forwards a request whose head has been read and brings its response back.
pub(super) async fn run(
    context: &ServiceContext,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    head_length: usize,
    began: Instant,
    via: Option<&HeaderValue>,
) -> Next {
    let Some(upstreams) = &context.upstreams else { return Next::Close };
    let head = &scratch.request;
    let request = Request {
        method: head.method,
        version: head.version,
        keep_alive: head.keep_alive,
        upgrade: head.upgrade,
        expect_continue: head.expect_continue,
        began,
    };
    let outgoing = if head.framing == Framing::Chunked { Outgoing::Chunked } else { Outgoing::Identity };
    let body = request_body(&head.framing, outgoing, context);
    let via = via.map(HeaderValue::as_bytes);
    let rewriting =
        rewrite::RequestContext { forwarded: &downstream.forwarded, via, host: upstreams.default_host() };
    let line = rewrite::request(&mut scratch.to_upstream, downstream.unread.unread(), head, &rewriting);
    let line = scratch.to_upstream.get(..line.min(LOGGED_LINE)).unwrap_or_default();
    scratch.line.extend_from_slice(line);
    downstream.unread.consume(head_length);
    let mut pump = match body {
        Ok(pump) => pump,
        Err(failure) => return fail(context, downstream, scratch, &request, "", &failure, false).await,
    };
    pump.stage(&mut downstream.unread, &mut scratch.to_upstream);
    let mut upload = Upload { pump, state: UploadState::Running };

    let mut received = context.handle.buffers().take();
    let (server, length) =
        match respond_to(context, upstreams, downstream, scratch, &mut upload, &mut received, &request).await
        {
            Ok(found) => found,
            Err((_, Lost::ClientGone(failure))) => {
                log(context, downstream, &scratch.line, "", &failure);
                return Next::Close;
            }
            Err((server, Lost::Stale(failure) | Lost::Failed(failure))) => {
                let received_all = upload.state == UploadState::Done || upload.pump.has_arrived();
                let failure = &failure;
                return fail(context, downstream, scratch, &request, &server, failure, received_all).await;
            }
        };
    if scratch.response.status == 101 {
        let out = &mut scratch.to_downstream;
        let rewriting = response_rewriting(via, Framing::None, true, request.version);
        rewrite::response(out, received.unread(), &scratch.response, &rewriting);
        received.consume(length);
        scratch.to_upstream.clear();
        let ends = tunnel::Ends {
            server: &server.stream,
            name: upstreams.name(&server),
            line: &scratch.line,
            received,
            to_upstream: &mut scratch.to_upstream,
            to_downstream: out,
        };
        tunnel::run(context, downstream, ends).await;
        return Next::Close;
    }
    let response = Response { server, received, length };
    send_response(context, upstreams, downstream, scratch, upload, response, &request, via).await
}

/// The body of a request as its head announces it, refused where that is already too large.
pub(super) fn request_body(
    framing: &Framing,
    outgoing: Outgoing,
    context: &ServiceContext,
) -> Result<Pump, Failure> {
    let most = context.service.limits.max_body;
    let incoming = match *framing {
        Framing::None | Framing::UntilClose => Incoming::Length(0),
        Framing::Length(length) if length > most => return Err(body_failure(&PumpError::TooLarge)),
        Framing::Length(length) => Incoming::Length(length),
        Framing::Chunked => Incoming::Chunked(chunk_decoder(context)),
    };
    Ok(Pump::new(incoming, outgoing, most))
}

fn chunk_decoder(context: &ServiceContext) -> ChunkDecoder {
    ChunkDecoder::new(CHUNK_LINE, context.service.limits.max_head)
}

/// Sends the request and waits for the head of its final response, or of a 101.
///
/// Where an idle connection turns out to have been closed, the request goes once more over a fresh one, if it is safe
/// to repeat (RFC 9110 §9.2.2) and all of it is at hand. On failure the first half names the server.
async fn respond_to(
    context: &ServiceContext,
    upstreams: &Upstreams,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    upload: &mut Upload,
    received: &mut Buffer,
    request: &Request,
) -> Result<(Connection, usize), (String, Lost)> {
    let timeouts = &context.service.timeouts;
    let until = request.began + timeouts.request;
    let replayable = upload.pump.has_arrived() && request.method.is_idempotent();
    let mut tried = Tried::default();
    let acquired = upstreams.acquire(&mut tried, timeouts.connect, until, &downstream.timer).await;
    let mut server = acquired.map_err(|error| (String::new(), Lost::Failed(connect_failure(&error))))?;
    let mut interim = 0;
    let mut retried = false;
    loop {
        let mut attempt = Attempt {
            context,
            downstream: &mut *downstream,
            out: &mut scratch.to_upstream,
            upload: &mut *upload,
            head: &mut scratch.response,
            received: &mut *received,
            held_back: request.expect_continue && interim == 0,
            until,
        };
        match attempt.response_head(&server, request.method).await {
            Ok(length) if scratch.response.status == 101 => {
                let asked = request.upgrade && upload.state == UploadState::Done;
                if asked && scratch.response.upgrade {
                    return Ok((server, length));
                }
                let failure =
                    Failure::upstream(502, "the server switched protocols without having been asked to");
                return Err((upstreams.name(&server).to_owned(), Lost::Failed(failure)));
            }
            Ok(length) if scratch.response.status < 200 => {
                interim += 1;
                if interim > MOST_INTERIM {
                    let failure = Failure::upstream(502, "the server sent too many interim responses");
                    return Err((upstreams.name(&server).to_owned(), Lost::Failed(failure)));
                }
                let sent = forward_interim(context, downstream, scratch, received, length, request).await;
                sent.map_err(|failure| (upstreams.name(&server).to_owned(), Lost::ClientGone(failure)))?;
            }
            Ok(length) => return Ok((server, length)),
            Err(Lost::Stale(_)) if replayable && !retried && interim == 0 => {
                retried = true;
                upload.pump.rewind();
                upload.state = UploadState::Running;
                received.clear();
                let again =
                    upstreams.reconnect(server, &mut tried, timeouts.connect, until, &downstream.timer).await;
                server = again.map_err(|error| (String::new(), Lost::Failed(connect_failure(&error))))?;
            }
            Err(lost) => return Err((upstreams.name(&server).to_owned(), lost)),
        }
    }
}

/// Sends an interim response on, except to clients that do not know them (RFC 9110 §15.2).
async fn forward_interim(
    context: &ServiceContext,
    downstream: &Downstream,
    scratch: &mut Scratch,
    received: &mut Buffer,
    length: usize,
    request: &Request,
) -> Result<(), Failure> {
    if request.version == Version::Http11 {
        let out = &mut scratch.to_downstream;
        out.clear();
        let rewriting = response_rewriting(None, Framing::None, true, request.version);
        rewrite::response(out, received.unread(), &scratch.response, &rewriting);
        let sent = downstream.send(out, context.service.timeouts.send, context.handle.now()).await;
        out.clear();
        sent.map_err(|error| Failure::downstream(499, format!("the client's connection failed: {error}")))?;
    }
    received.consume(length);
    Ok(())
}

impl Attempt<'_> {
    /// Sends what is to be sent and reads until the next head is whole; its length among what is `received`.
    async fn response_head(&mut self, server: &Connection, method: Method) -> Result<usize, Lost> {
        let limits = HeadLimits {
            max_bytes: self.context.head_limits.max_bytes,
            max_fields: self.context.head_limits.max_fields,
        };
        let mut stall = Stall::default();
        let outcome = poll_fn(|cx| {
            if let Err(lost) = self.poll_upload(cx, server) {
                return Poll::Ready(Err(lost));
            }
            if let Poll::Ready(outcome) = self.poll_head(cx, server, method, &limits) {
                return Poll::Ready(outcome);
            }
            if self.downstream.stream.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Lost::ClientGone(client_gone())));
            }
            stall.poll(cx, self).map(Err)
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
            let why = match std::task::ready!(server.stream.poll_read(cx, self.received.space_mut())) {
                Ok(0) => "the server closed the connection before its response".to_owned(),
                Ok(count) => {
                    self.received.filled(count);
                    continue;
                }
                Err(error) => format!("the server's connection failed before its response: {error}"),
            };
            let failure = Failure::upstream(502, why);
            let stale = server.is_reused() && self.received.is_empty();
            return Poll::Ready(Err(if stale { Lost::Stale(failure) } else { Lost::Failed(failure) }));
        }
    }
}

impl Upload {
    /// Moves what can be moved; says what broke it, once.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        downstream: &mut Downstream,
        out: &mut Vec<u8>,
        sink: &Stream,
    ) -> Option<PumpError> {
        if self.state != UploadState::Running {
            return None;
        }
        let Downstream { stream, unread, .. } = downstream;
        match self.pump.poll(cx, &mut Ends { source: stream, unread, sink: Some(sink), out }) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.state = UploadState::Done;
                None
            }
            Poll::Ready(Err(error)) => {
                self.state = UploadState::Broken;
                Some(error)
            }
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
        let (patience, failure): (_, fn() -> Failure) = match now {
            (UploadState::Running, Waiting::Source, _) if attempt.held_back && !upload.pump.has_begun() => {
                (timeouts.upstream_read, || {
                    Failure::upstream(
                        504,
                        "the server did not ask for the body within the upstream_read or request time-out",
                    )
                })
            }
            (UploadState::Running, Waiting::Source, _) => (timeouts.body, || {
                Failure::downstream(
                    408,
                    "the client sent nothing of its body within the body or request time-out",
                )
            }),
            (UploadState::Running, Waiting::Sink, _) => (timeouts.upstream_write, || {
                Failure::upstream(
                    504,
                    "the server took nothing of the request within the upstream_write or request time-out",
                )
            }),
            (UploadState::Done | UploadState::Broken, ..) => (timeouts.upstream_read, || {
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
        timer.poll_expired(cx).map(|()| Lost::Failed(failure()))
    }
}

/// A response whose head has been read.
struct Response {
    server: Connection,
    /// Begins with the head.
    received: Buffer,
    /// The head's length.
    length: usize,
}

#[expect(clippy::too_many_arguments, reason = "the halves of one exchange, each used here for the last time")]
async fn send_response(
    context: &ServiceContext,
    upstreams: &Upstreams,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    mut upload: Upload,
    response: Response,
    request: &Request,
    via: Option<&[u8]>,
) -> Next {
    let Response { server, mut received, length } = response;
    let head = &scratch.response;
    let (incoming, outgoing, framing) = response_body(&head.framing, request.version, context);
    let ends_by_close = framing == Framing::UntilClose;
    let leaving = downstream.is_leaving(context);
    let keep_alive = request.keep_alive && upload.state == UploadState::Done && !ends_by_close && !leaving;
    let reusable = head.keep_alive && !matches!(incoming, Incoming::UntilClose);
    let out = &mut scratch.to_downstream;
    out.clear();
    let rewriting = response_rewriting(via, framing, keep_alive, request.version);
    rewrite::response(out, received.unread(), head, &rewriting);
    received.consume(length);

    if matches!(incoming, Incoming::Length(left) if left > received.capacity() as u64) {
        received.widen();
    }
    let mut download = Pump::new(incoming, outgoing, u64::MAX);
    download.stage(&mut received, out);
    if ends_by_close {
        // The body would look whole if the connection ended in order before all of it is written, and it may end at any
        // point: with a failure, a drain that takes too long, the process. Where the socket cannot be told so, nothing
        // more can be done for the client.
        let _ = downstream.stream.reset_on_close(true);
    }
    let timeouts = &context.service.timeouts;
    let mut seen = None;
    let outcome = poll_fn(|cx| {
        // What breaks the upload now shows in the response, or in the connection's end after it.
        let _ = upload.poll(cx, downstream, &mut scratch.to_upstream, &server.stream);
        let sink = Some(&downstream.stream);
        let mut ends = Ends { source: &server.stream, unread: &mut received, sink, out };
        if let Poll::Ready(outcome) = download.poll(cx, &mut ends) {
            return Poll::Ready(outcome.map_err(|error| download_failure(&error)));
        }
        if downstream.stream.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(client_gone()));
        }
        let waiting = download.waiting();
        if seen != Some((waiting, download.moves(), upload.pump.moves())) {
            seen = Some((waiting, download.moves(), upload.pump.moves()));
            let patience = match waiting {
                Waiting::Source => timeouts.upstream_read,
                Waiting::Sink => timeouts.send,
            };
            downstream.timer.set(context.handle.now() + patience);
        }
        downstream.timer.poll_expired(cx).map(|()| {
            Err(match waiting {
                Waiting::Source => Failure::upstream(
                    504,
                    "the server sent nothing of its body within the upstream_read time-out",
                ),
                Waiting::Sink => Failure::downstream(
                    499,
                    "the client took nothing of the response within the send time-out",
                ),
            })
        })
    })
    .await;
    if let Err(failure) = outcome {
        log(context, downstream, &scratch.line, upstreams.name(&server), &failure);
        return Next::Close;
    }
    if ends_by_close {
        let _ = downstream.stream.reset_on_close(false);
    }
    let sent_whole = upload.state == UploadState::Done;
    if reusable && sent_whole && received.is_empty() && !context.is_draining() {
        upstreams.release(server);
    }
    if keep_alive {
        Next::KeepAlive
    } else if !sent_whole || downstream.may_send_more(request.keep_alive) {
        Next::Linger
    } else {
        Next::Close
    }
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

fn response_rewriting(
    via: Option<&[u8]>,
    framing: Framing,
    keep_alive: bool,
    client_version: Version,
) -> rewrite::ResponseContext<'_> {
    rewrite::ResponseContext { via, framing, keep_alive, client_version }
}

async fn fail(
    context: &ServiceContext,
    downstream: &Downstream,
    scratch: &mut Scratch,
    request: &Request,
    server: &str,
    failure: &Failure,
    body_received: bool,
) -> Next {
    log(context, downstream, &scratch.line, server, failure);
    let head = request.method == Method::Head;
    let client = Client { version: request.version, head, keep_alive: request.keep_alive && body_received };
    respond::failure(context, downstream, scratch, failure, client).await
}

fn connect_failure(error: &ConnectError) -> Failure {
    match error {
        error if error.is_own() => Failure::river(503, error.to_string()),
        ConnectError::TimedOut { .. } => Failure::upstream(504, error.to_string()),
        ConnectError::Refused { .. } | ConnectError::Exhausted => Failure::upstream(502, error.to_string()),
    }
}

/// Nobody is left to read the response, so the server need not go on with it.
fn client_gone() -> Failure {
    Failure::downstream(499, "the client reset the connection before its response")
}

fn download_failure(error: &PumpError) -> Failure {
    match error {
        PumpError::Source(error) => {
            Failure::upstream(502, format!("the server's connection failed in its response: {error}"))
        }
        PumpError::Truncated => Failure::upstream(502, "the server closed before the end of its response"),
        PumpError::Malformed(why) => {
            Failure::upstream(502, format!("the server's response is malformed: {why}"))
        }
        PumpError::TooLarge => Failure::upstream(502, "the server's response is too large"),
        PumpError::Sink(error) => {
            Failure::downstream(499, format!("the client's connection failed: {error}"))
        }
    }
}
