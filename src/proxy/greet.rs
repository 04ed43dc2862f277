//! What comes before a client's first request: the TLS handshake.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::SystemTime;

use super::downstream::Downstream;
use super::{ServiceContext, Terms, rewrite};
use crate::http::Version;
use crate::runtime::{Buffer, Stream, Timer};
use crate::tls::{self, Accepted, HandshakeError};
use crate::wire::Wire;

/// How the answer to plain HTTP ends, on a port where TLS is spoken.
const PLAIN: &[u8] = b"400 Bad Request: this is plain HTTP, and TLS is spoken on this port (https://)\n";

/// Makes TLS with a client. None where that comes to nothing, which is logged then.
pub(super) async fn client(
    context: &ServiceContext,
    terms: &Terms,
    stream: Stream,
    peer: Option<SocketAddr>,
    acceptor: &tls::Acceptor,
    timer: &Timer,
) -> Option<Wire> {
    match tls::accept(stream, acceptor, &context.handle, timer).await {
        Ok(Accepted::Tls(stream)) => Some(stream.into()),
        Ok(Accepted::Plain(stream, received)) => {
            log(context, terms, peer, &"the client speaks plain HTTP");
            refuse_plain(context, stream, received, peer).await;
            None
        }
        // So does whoever looks whether the port is open.
        Err(HandshakeError::Silent) => None,
        Err(error) => {
            log(context, terms, peer, &error);
            None
        }
    }
}

/// What servers are told of a client's certificate. None where the client is not to be served, which is logged then.
pub(super) fn introduce(
    context: &ServiceContext,
    terms: &Terms,
    auth: &tls::ClientAuth,
    stream: &Wire,
    peer: Option<SocketAddr>,
) -> Option<Vec<u8>> {
    let certificate = stream.peer_certificate();
    auth.fields(certificate.as_deref(), SystemTime::now())
        .inspect_err(|why| log(context, terms, peer, why))
        .ok()
}

/// Whether a client of a tcp service, whose servers are told nothing of it, may be served. If not, that is logged.
pub(super) fn admit(
    context: &ServiceContext,
    terms: &Terms,
    auth: &tls::ClientAuth,
    stream: &Wire,
    peer: Option<SocketAddr>,
) -> bool {
    let certificate = stream.peer_certificate();
    auth.admit(certificate.as_deref(), SystemTime::now())
        .inspect_err(|why| log(context, terms, peer, why))
        .is_ok()
}

fn log(context: &ServiceContext, terms: &Terms, peer: Option<SocketAddr>, why: &dyn std::fmt::Display) {
    let (service, listener, why) = (&*context.service.name, &terms.listener, why.to_string());
    let client = peer.map_or_else(|| "unix".to_owned(), |peer| peer.ip().to_string());
    tracing::info!(target: "river::proxy", service, %listener, client, why, "TLS handshake failed");
}

/// Tells a client that it should have spoken TLS, in the language that it understands.
async fn refuse_plain(context: &ServiceContext, stream: Stream, received: Buffer, peer: Option<SocketAddr>) {
    let mut downstream = Downstream {
        stream: stream.into(),
        unread: received,
        timer: context.handle.timer(),
        peer,
        forwarded: Rc::default(),
        pipelines: false,
        requests: 0,
        offered: None,
    };
    let mut answer = Vec::new();
    rewrite::status_line(&mut answer, 400, b"Bad Request");
    rewrite::date(&mut answer);
    rewrite::field(&mut answer, b"Content-Type", b"text/plain");
    rewrite::content_length(&mut answer, PLAIN.len() as u64);
    rewrite::connection(&mut answer, false, Version::Http11);
    answer.extend_from_slice(b"\r\n");
    if downstream.send(&answer, PLAIN, context).await.is_ok() {
        downstream.linger(&context.handle, super::connection::LINGER, super::connection::LINGER).await;
    }
}
