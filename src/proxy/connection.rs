//! A client's connection, from its first byte to its last.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::cut::{AtWork, UnderWay};
use super::downstream::{Awaited, Downstream, HeadRead};
use super::failure::{Blame, Failure};
use super::rewrite::Forwarded;
use super::scratch::Scratch;
use super::streams;
use super::tcp::{self, Ended};
use super::tunnel::{self, Tunnel};
use super::{Handler, Keeper, Parting, Permit, Resting, ServiceContext, Terms};
use super::{exchange, greet, respond};
use crate::h2::ServerStream;
use crate::runtime::Buffer;
use crate::wire::Wire;

/// What becomes of a client's connection after an exchange.
pub(super) enum Next {
    /// Another request may come.
    KeepAlive,
    /// No request had come after all.
    StillIdle,
    /// It is closed; the client expects that and sends nothing more.
    Close,
    /// It is closed, and what the client has of a response may be a part of it.
    Abort,
    /// It is closed, and the client may not know yet.
    Linger,
    /// It is closed, and the rest of a request that was answered early may be on its way.
    Absorb,
    /// It is a tunnel from now on.
    Tunnel(Box<Tunnel>),
}

/// How long a connection that River closes is still read from, so that what the client sends meanwhile does not
/// reset it and take the response with it (RFC 9112 §9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How long it is where the client may be sending a body that nobody wants any more: clients that read no response
/// before they have sent all of it are to see it, too.
const ABSORB: Duration = Duration::from_secs(30);

/// How long such a client may be silent.
const ABSORB_SILENCE: Duration = Duration::from_secs(5);

/// A client that has sent nothing for so long after a response is at rest: another request need not come soon.
const RESTED: Duration = Duration::from_millis(20);

/// How a connection stops being served as one that brings requests.
enum End {
    Close,
    Abort,
    Linger {
        silence: Duration,
        most: Duration,
    },
    Tunnel(Box<Tunnel>),
    /// It is one of HTTP/2 from its begin.
    Http2,
    Depart {
        permit: Permit,
        /// It has just had a response, and is likely to send another request at once.
        is_busy: bool,
    },
}

/// Serves a client's connection until it ends, which is `None`, or until it departs.
pub fn serve(
    context: &Rc<ServiceContext>,
    terms: &Arc<Terms>,
    connection: Box<Resting>,
    keeper: &dyn Keeper,
) -> impl Future<Output = Option<Parting>> {
    // An `async fn` would keep room for the connection as it was.
    let begun = Box::pin(begin(context, terms, connection));
    async move {
        let (mut downstream, tunnel) = begun.await?;
        let end = match (tunnel, &context.service.handler) {
            (Some(tunnel), _) => End::Tunnel(tunnel),
            (None, Handler::Tcp(service)) => {
                match Box::pin(tcp::begin(context, &mut downstream, &service.routes)).await {
                    Some(tunnel) => End::Tunnel(tunnel),
                    None => End::Close,
                }
            }
            (None, Handler::Proxy { .. } | Handler::Respond(_)) => {
                exchanges(context, terms, &mut downstream).await
            }
        };
        match end {
            End::Close => {
                downstream.stream.finish();
                downstream.finished(context).await;
                None
            }
            // Not in order, if the socket has been told so; over TLS, it is not unless it is finished.
            End::Abort => None,
            End::Linger { silence, most } => {
                downstream.linger(&context.handle, silence, most).await;
                downstream.finished(context).await;
                None
            }
            End::Tunnel(tunnel) => {
                keeper.tunnels();
                Box::pin(through(context, downstream, tunnel)).await
            }
            End::Http2 => {
                Box::pin(streams::serve(context, downstream, keeper)).await;
                None
            }
            End::Depart { permit, is_busy } => {
                // The next request would wait for a new connection to the server otherwise. One that rests would only take it
                // from those that are still here.
                let spare = if is_busy { context.take_spare() } else { None };
                parted(downstream.part(context, None, spare, permit))
            }
        }
    }
}

/// Watches the sockets of a connection that is to be served here, and shakes hands with a client that speaks TLS;
/// `None` where that fails.
///
/// Apart from [`serve`], whose future would carry all that this needs for as long as the connection lives.
async fn begin(
    context: &ServiceContext,
    terms: &Terms,
    connection: Box<Resting>,
) -> Option<(Downstream, Option<Box<Tunnel>>)> {
    let Resting { client, peer, requests, pipelines, tunnel, spare, offered, shared } = *connection;
    let handle = &context.handle;
    if let Some(spare) = spare {
        context.add_spare(spare);
    }
    // However it ends, and if it is cancelled, both peers are to hear of it.
    let take = |socket, is_tcp| {
        let mut stream = if is_tcp { handle.tcp_stream(socket) } else { handle.stream(socket)? };
        if shared {
            stream.end_when_dropped();
        }
        Ok::<_, io::Error>(stream)
    };
    // One on a Unix socket has no address.
    let taken = take(client, peer.is_some()).and_then(|stream| {
        let tunnel = tunnel.map(|tunnel| {
            let (server, moved) = *tunnel;
            Ok::<_, io::Error>(Box::new(Tunnel::resume(take(server, false)?.into(), moved, handle)))
        });
        Ok((stream, tunnel.transpose()?))
    });
    let (stream, tunnel) = match taken {
        Ok(taken) => taken,
        Err(error) => {
            tracing::error!(target: "river::proxy", %error, "a connection is none of a stream socket and is closed");
            return None;
        }
    };
    let timer = handle.timer();
    let is_secure = terms.tls.is_some() && !shared;
    let stream = match &terms.tls {
        // What another instance passes on is plain: it could not have passed it on otherwise.
        Some(acceptor) if !shared => greet::client(context, terms, stream, peer, acceptor, &timer).await?,
        _ => stream.into(),
    };
    let mut forwarded = Forwarded::of(peer.map(|peer| peer.ip()), is_secure);
    if let Some(auth) = &terms.client_auth
        && matches!(context.service.handler, Handler::Tcp(_))
    {
        if !greet::admit(context, terms, auth, &stream, peer) {
            return None;
        }
    } else if let Some(auth) = &terms.client_auth {
        let lines = greet::introduce(context, terms, auth, &stream, peer)?;
        forwarded.add_client(auth, &lines);
    }
    let downstream = Downstream {
        forwarded: forwarded.into(),
        stream,
        unread: handle.buffers().take(),
        timer,
        peer,
        pipelines,
        requests,
        offered,
    };
    Some((downstream, tunnel))
}

/// Answers requests until the connection is something else.
async fn exchanges(context: &ServiceContext, terms: &Terms, downstream: &mut Downstream) -> End {
    let handle = &context.handle;
    let timeouts = &context.service.timeouts;
    let patience = if downstream.requests == 0 { timeouts.head } else { timeouts.idle };
    let mut since = handle.now();
    let mut until = since + patience;
    if downstream.stream.alpn() == Some(b"h2") {
        return End::Http2;
    }
    // Over TLS it is chosen in the handshake or not at all (RFC 9113 §3.1).
    let is_plain = terms.tls.is_none();
    let mut undecided = terms.offer_h2 && is_plain && downstream.requests == 0;
    loop {
        downstream.unread.shed();
        match downstream.await_request(context, until).await {
            Awaited::Request => {}
            Awaited::Nothing => return End::Close,
            Awaited::Permit(permit) => {
                let is_busy = downstream.requests > 0 && handle.now() < since + RESTED;
                return End::Depart { permit, is_busy };
            }
        }
        downstream.unread.supply();
        if undecided {
            match downstream.begins_http2(until).await {
                None => continue,
                Some(true) => return End::Http2,
                Some(false) => undecided = false,
            }
        }
        loop {
            let mut under_way = UnderWay::begin(context, downstream.client(), false);
            // Most connections are idle most of the time, and are not to carry the room for a request then.
            let next = Box::pin(one_request(context, downstream, under_way.scratch())).await;
            under_way.end();
            match next {
                Next::StillIdle => break,
                Next::KeepAlive => {
                    downstream.requests += 1;
                    since = handle.now();
                    until = since + timeouts.idle;
                    if downstream.unread.is_empty() {
                        // While the connection that its request was sent on is the newest idle one.
                        if let Some(permit) = downstream.permit_now(context) {
                            return End::Depart { permit, is_busy: true };
                        }
                        break;
                    }
                    // The next request is already here.
                    downstream.pipelines = true;
                }
                Next::Close => return End::Close,
                Next::Abort => return End::Abort,
                Next::Linger => return End::Linger { silence: LINGER, most: LINGER },
                Next::Absorb => return End::Linger { silence: ABSORB_SILENCE, most: ABSORB },
                Next::Tunnel(tunnel) => return End::Tunnel(tunnel),
            }
        }
    }
}

/// Answers the one request of a stream of HTTP/2, whose head is `unread`, and serves it as a tunnel if that is what it
/// becomes. `tunnels` is told so.
pub(super) async fn one_stream(
    context: &ServiceContext,
    stream: Box<ServerStream>,
    unread: Buffer,
    peer: Option<SocketAddr>,
    forwarded: Rc<Forwarded>,
    tunnels: impl FnOnce(),
) {
    let mut under_way = UnderWay::begin(context, peer.map(|peer| peer.ip()), true);
    let mut downstream = Downstream {
        stream: Wire::H2Server(stream),
        unread,
        timer: under_way.scratch().timer.take().unwrap_or_else(|| context.handle.timer()),
        peer,
        forwarded,
        pipelines: false,
        requests: 0,
        offered: None,
    };
    let next = one_request(context, &mut downstream, under_way.scratch()).await;
    if let Next::Tunnel(tunnel) = next {
        under_way.end();
        tunnels();
        Box::pin(through(context, downstream, tunnel)).await;
    } else {
        let Downstream { stream, timer, .. } = downstream;
        // The stream ends here, before another may have what it had.
        drop(stream);
        timer.rest();
        under_way.scratch().timer = Some(timer);
        under_way.end();
    }
}

/// Serves a tunnel until it ends or departs.
async fn through(
    context: &ServiceContext,
    mut downstream: Downstream,
    mut tunnel: Box<Tunnel>,
) -> Option<Parting> {
    downstream.unread.shed();
    let at_work = AtWork::new(context, &downstream, &mut tunnel);
    let outcome = tunnel::run(context, &downstream, at_work.tunnel).await;
    at_work.end();
    match (&context.service.handler, &outcome) {
        (Handler::Tcp(_), outcome) => {
            let ended = match outcome {
                Ok(None) => Ended::InOrder,
                Ok(Some(_)) => Ended::Moved,
                Err(failure) => Ended::Failed(failure),
            };
            tcp::log(context, &downstream, &tunnel, &ended);
        }
        (Handler::Proxy { .. } | Handler::Respond(_), Ok(_)) => {}
        (Handler::Proxy { .. } | Handler::Respond(_), Err(failure)) => {
            log(context, &downstream, &tunnel.line, &tunnel.name, failure);
        }
    }
    let permit = outcome.ok().flatten()?;
    parted(downstream.part(context, Some(*tunnel), None, permit))
}

fn parted(parting: io::Result<Parting>) -> Option<Parting> {
    parting
        .inspect_err(|error| {
            tracing::error!(target: "river::proxy", %error, "a connection cannot be taken out of epoll and is closed");
        })
        .ok()
}

async fn one_request(context: &ServiceContext, downstream: &mut Downstream, scratch: &mut Scratch) -> Next {
    let began = context.handle.now();
    let until = began + context.service.timeouts.head;
    let read = downstream.read_head(context, &mut scratch.request, until).await;
    if !matches!(read, HeadRead::Whole(_)) {
        // It may hold the half of a head, and goes to another connection.
        scratch.request.clear();
    }
    match read {
        HeadRead::Whole(length) => match &context.service.handler {
            Handler::Proxy { via, .. } => {
                exchange::run(context, downstream, scratch, length, began, via.as_ref()).await
            }
            Handler::Respond(answer) => {
                respond::fixed(context, downstream, scratch, length, began, answer).await
            }
            // Nobody asks for one.
            Handler::Tcp(_) => Next::Close,
        },
        HeadRead::Gone => Next::Close,
        HeadRead::Nothing => Next::StillIdle,
        HeadRead::Refuse(failure) => {
            log(context, downstream, &[], "", &failure);
            respond::failure(context, downstream, scratch, &failure, respond::Client::unknown()).await
        }
    }
}

/// One line for an exchange that failed: what the client was told, who is to blame, and why.
pub(super) fn log(
    context: &ServiceContext,
    downstream: &Downstream,
    line: &[u8],
    upstream: &str,
    failure: &Failure,
) {
    log_request(context, downstream.client(), downstream.is_http2(), line, upstream, failure);
}

/// The same of a request whose connection is not at hand.
pub(super) fn log_request(
    context: &ServiceContext,
    client: Option<IpAddr>,
    is_http2: bool,
    line: &[u8],
    upstream: &str,
    failure: &Failure,
) {
    let service = &*context.service.name;
    let client = client.map_or_else(|| "unix".to_owned(), |client| client.to_string());
    let client = &*client;
    let request = as_spoken(line, is_http2);
    // What is not known is left out.
    let request = (!request.is_empty()).then_some(&*request);
    let upstream = (!upstream.is_empty()).then_some(upstream);
    let Failure { status, blame, why } = failure;
    let status = (*status > 0).then_some(*status);
    match blame {
        Blame::Downstream => {
            tracing::info!(target: "river::proxy", service, client, request, upstream, status, %blame, why, "request failed");
        }
        Blame::Upstream | Blame::River => {
            tracing::warn!(target: "river::proxy", service, client, request, upstream, status, %blame, why, "request failed");
        }
    }
}

/// A request's line with the version that the client spoke. Of a stream of HTTP/2, the line is one of HTTP/1.1 inside.
fn as_spoken(line: &[u8], is_http2: bool) -> Cow<'_, str> {
    match line.strip_suffix(b"HTTP/1.1") {
        Some(begin) if is_http2 => format!("{}HTTP/2.0", String::from_utf8_lossy(begin)).into(),
        _ => String::from_utf8_lossy(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that a function of four arguments returns.
    fn size_of_future<A, B, C, D, F: Future>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn size_of_request_future<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A connection carries the first all its life and the second while a request is under way. glibc hands out blocks
    /// of up to 1,032 bytes from a list of each thread, which costs next to nothing.
    #[test]
    fn futures_are_small() {
        let connection = size_of_future(serve);
        let request = size_of_request_future(one_request);
        let tunnel = size_of_request_future(through);
        println!("a connection's future: {connection} bytes; a request's: {request}; a tunnel's: {tunnel}");
        assert!(connection <= 512, "a connection's future has {connection} bytes");
        assert!(request <= 1032, "a request's future has {request} bytes");
        assert!(tunnel <= 1032, "a tunnel's future has {tunnel} bytes");
    }
}
