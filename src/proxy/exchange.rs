//! A request that is forwarded to a server, and its response.

use std::time::Instant;

use http::HeaderValue;

use super::attempt::{Attempt, Lost};
use super::connection::{Next, log};
use super::download::{Response, send_response};
use super::downstream::Downstream;
use super::failure::{Failure, client_gone, send_failure};
use super::pump::Outgoing;
use super::respond::{self, Client};
use super::scratch::{Scratch, note_line};
use super::tunnel::Tunnel;
use super::upload::{Upload, UploadState, request_body};
use super::{ServiceContext, rewrite};
use crate::h2::client::websocket_key;
use crate::http::{Framing, Method, Version};
use crate::runtime::Buffer;
use crate::upstream::{Acquired, ConnectError, Connection, Tried, Upstreams};
use crate::wire::Wire;

/// What must be remembered of a request once its head has been sent on.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// It asks for a WebSocket.
    pub(super) websocket: bool,
    pub(super) expect_continue: bool,
    pub(super) grpc: bool,
    pub(super) began: Instant,
}

/// More interim responses than this before the final one are refused. A server that says 102 (Processing) every second
/// for as long as a request takes by default stays below; the request time-out bounds them too.
const MOST_INTERIM: usize = 1000;

/// How often a request is repeated that servers refuse to begin with. After as many tries it goes to another server, if
/// there is one.
const MOST_REFUSED: u32 = 3;

/// How often a request is repeated that no server has looked at, because connections ended before; no longer than the
/// connect time-out after the first time.
const MOST_UNSEEN: u32 = 100;

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
    if rewrite::forwards_left(downstream.unread.unread(), head) == Some(0) {
        let answer = respond::last_hop(head.method);
        return Box::pin(respond::fixed(context, downstream, scratch, head_length, began, &answer)).await;
    }
    let request = Request {
        method: head.method,
        version: head.version,
        keep_alive: head.keep_alive,
        upgrade: head.upgrade,
        websocket: head.upgrade && websocket_key(downstream.unread.unread(), head).is_some(),
        expect_continue: head.expect_continue,
        grpc: downstream.is_http2() && rewrite::is_grpc(downstream.unread.unread(), head),
        began,
    };
    let via = via.map(HeaderValue::as_bytes);
    let mut upload = match begin(context, upstreams, downstream, scratch, head_length, via) {
        Ok(upload) => upload,
        Err(failure) => {
            return Box::pin(fail(context, downstream, scratch, &request, "", &failure, false)).await;
        }
    };
    let mut received = context.handle.buffers().take();
    let (server, length) =
        match respond_to(context, upstreams, downstream, scratch, &mut upload, &mut received, &request).await
        {
            Ok(found) => found,
            Err((_, Lost::ClientGone(failure))) => {
                log(context, downstream, &scratch.line, "", &failure);
                return Next::Close;
            }
            Err((
                server,
                Lost::Stale(failure) | Lost::Refused(failure) | Lost::Unseen(failure) | Lost::Failed(failure),
            )) => {
                let received_all = upload.state == UploadState::Done || upload.pump.has_arrived();
                let failed = fail(context, downstream, scratch, &request, &server, &failure, received_all);
                return Box::pin(failed).await;
            }
        };
    if scratch.response.status == 101 {
        let name = upstreams.name(&server).to_owned();
        let tunnel = switch(context, downstream, scratch, name, server, received, length, via, &request);
        return Next::Tunnel(tunnel);
    }
    let response = Response { server: &server, received: &mut received, length };
    let (next, reusable) =
        send_response(context, upstreams, downstream, scratch, &mut upload, response, &request, via).await;
    // A stream is not kept but let end.
    let may_stay = context.leaving.keeps_upstreams() || matches!(server.stream, Wire::H2Client(_));
    if reusable && received.is_empty() && may_stay {
        upstreams.release(server);
    }
    next
}

/// Writes the head for the server, and as much of the body behind it as is there and small.
fn begin(
    context: &ServiceContext,
    upstreams: &Upstreams,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    head_length: usize,
    via: Option<&[u8]>,
) -> Result<Upload, Failure> {
    let head = &scratch.request;
    let outgoing = if head.framing == Framing::Chunked { Outgoing::Chunked } else { Outgoing::Identity };
    let body = match via {
        Some(via) if rewrite::is_loop(downstream.unread.unread(), head, via) => {
            Err(Failure::river(508, "the request has come through here too often"))
        }
        _ => request_body(&head.framing, outgoing, context),
    };
    let rewriting = rewrite::RequestContext {
        forwarded: &downstream.forwarded,
        via,
        http2: downstream.is_http2(),
        host: upstreams.default_host(),
    };
    let line = rewrite::request(&mut scratch.to_upstream, downstream.unread.unread(), head, &rewriting);
    let line = scratch.to_upstream.get(..line).unwrap_or_default();
    note_line(&mut scratch.line, line);
    downstream.unread.consume(head_length);
    let mut pump = body?;
    pump.hide(downstream.forwarded.client_auth());
    pump.stage(&mut downstream.unread, &mut scratch.to_upstream);
    if head.framing == Framing::None && !head.upgrade && downstream.is_http2() {
        // Nothing comes behind the one request, and there may be many streams that wait for their responses.
        downstream.unread.shed();
    }
    Ok(Upload { pump, state: UploadState::Running })
}

/// The tunnel that a 101 response of so many bytes makes of the two connections; its head is the first to go through.
#[expect(clippy::too_many_arguments, reason = "both halves of one exchange")]
fn switch(
    context: &ServiceContext,
    downstream: &mut Downstream,
    scratch: &mut Scratch,
    name: String,
    server: Connection,
    mut received: Buffer,
    length: usize,
    via: Option<&[u8]>,
    request: &Request,
) -> Box<Tunnel> {
    let mut out = std::mem::take(&mut scratch.to_downstream);
    let rewriting = rewrite::ResponseContext {
        via,
        framing: Framing::None,
        keep_alive: true,
        client_version: request.version,
    };
    rewrite::response(&mut out, received.unread(), &scratch.response, &rewriting);
    received.consume(length);
    let unread = std::mem::replace(&mut downstream.unread, context.handle.buffers().take());
    let (line, handle) = (&scratch.line, &context.handle);
    Box::new(Tunnel::begin(name, server.stream, line, unread, received, out, handle))
}

/// Sends the request and waits for the head of its final response, or of a 101.
///
/// Where an idle connection turns out to have been closed, the request goes once more over a fresh one, if not a byte of
/// it was sent (RFC 9112 §9.3.1), or if it is safe to repeat (RFC 9110 §9.2.2) and all of it is at hand. Where the server
/// says that it has not begun with it, it goes again whatever it is, if all of it that was sent is at hand. On failure the
/// first half names the server.
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
    let mut tried = Tried::new(request.websocket);
    if downstream.is_reset().await {
        return Err((String::new(), Lost::ClientGone(client_gone())));
    }
    let mut server = match upstreams.acquire(&mut tried, timeouts.connect, until, &downstream.timer) {
        Acquired::Ready(connection) => connection,
        Acquired::Connecting(connecting) => connected(downstream.while_there(connecting).await)?,
    };
    let mut interim = 0;
    let mut repeats = Repeats::default();
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
                let sent = forward_interim(context, downstream, scratch, received, length, request);
                let sent = Box::pin(sent).await;
                sent.map_err(|failure| (upstreams.name(&server).to_owned(), Lost::ClientGone(failure)))?;
            }
            Ok(length) => return Ok((server, length)),
            Err(ref lost) if interim == 0 && repeats.allow(context, lost, upload, request) => {
                upload.pump.rewind();
                upload.state = UploadState::Running;
                received.clear();
                let elsewhere = repeats.unseen > MOST_REFUSED;
                let connect = timeouts.connect;
                let again =
                    upstreams.reconnect(server, elsewhere, &mut tried, connect, until, &downstream.timer);
                server = connected(downstream.while_there(again).await)?;
            }
            Err(lost) => return Err((upstreams.name(&server).to_owned(), lost)),
        }
    }
}

/// The connection for which the client waited, unless it left.
fn connected(waited: Option<Result<Connection, ConnectError>>) -> Result<Connection, (String, Lost)> {
    let lost = match waited {
        Some(Ok(connection)) => return Ok(connection),
        Some(Err(error)) => Lost::Failed(connect_failure(&error)),
        None => Lost::ClientGone(client_gone()),
    };
    Err((String::new(), lost))
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
        let rewriting = rewrite::ResponseContext {
            via: None,
            framing: Framing::None,
            keep_alive: true,
            client_version: request.version,
        };
        rewrite::response(out, received.unread(), &scratch.response, &rewriting);
        let sent = downstream.send(out, &[], context).await;
        out.clear();
        sent.map_err(|error| send_failure(&error))?;
    }
    received.consume(length);
    Ok(())
}

/// How often a request has been repeated, by the reason.
#[derive(Default)]
struct Repeats {
    stale: u32,
    refused: u32,
    unseen: u32,
    /// When it was not looked at for the first time.
    since: Option<Instant>,
}

impl Repeats {
    /// Whether a request that was lost may be repeated; counts it if so.
    fn allow(&mut self, context: &ServiceContext, lost: &Lost, upload: &Upload, request: &Request) -> bool {
        let (count, most) = match lost {
            Lost::Stale(_) if upload.pump.has_touched() && !request.method.is_idempotent() => return false,
            Lost::Stale(_) => (&mut self.stale, 1),
            Lost::Refused(_) => (&mut self.refused, MOST_REFUSED),
            Lost::Unseen(_) => {
                let now = context.handle.now();
                let since = *self.since.get_or_insert(now);
                if now.saturating_duration_since(since) > context.service.timeouts.connect {
                    return false;
                }
                (&mut self.unseen, MOST_UNSEEN)
            }
            Lost::Failed(_) | Lost::ClientGone(_) => return false,
        };
        let allowed = upload.pump.is_at_hand() && *count < most;
        *count += u32::from(allowed);
        allowed
    }
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
    let keep_alive = request.keep_alive && body_received;
    let Request { version, grpc, .. } = *request;
    let client = Client { version, head, keep_alive, received: body_received, grpc };
    respond::failure(context, downstream, scratch, failure, client).await
}

pub(super) fn connect_failure(error: &ConnectError) -> Failure {
    match error {
        error if error.is_own() => Failure::river(503, error.to_string()),
        ConnectError::Full { .. } => Failure::upstream(503, error.to_string()),
        ConnectError::TimedOut { .. } => Failure::upstream(504, error.to_string()),
        ConnectError::Refused { .. }
        | ConnectError::Handshake { .. }
        | ConnectError::Protocol { .. }
        | ConnectError::Unsettled { .. }
        | ConnectError::Exhausted => Failure::upstream(502, error.to_string()),
    }
}
