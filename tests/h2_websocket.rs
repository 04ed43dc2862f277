//! WebSockets over HTTP/2 (RFC 8441) to servers in HTTP/1.1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io;

use ::bytes::Bytes;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::{HeaderValue, Method, Request};
use support::h2::{H2, exactly, get, read, receive, wait};
use support::*;

/// The proof that a server gives (RFC 6455 §4.2.2), made by other means than River's.
fn accept(key: &str) -> String {
    let hash =
        digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    let bits: String = hash.as_ref().iter().map(|byte| format!("{byte:08b}")).collect::<String>() + "0000";
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let six = bits.as_bytes().chunks_exact(6);
    let text: String = six
        .map(|six| char::from(letters[usize::from_str_radix(std::str::from_utf8(six).unwrap(), 2).unwrap()]))
        .collect();
    text + "="
}

fn switch(request: &support::Request, reply: &mut Reply<'_>) -> io::Result<()> {
    let key = request.fields.get("sec-websocket-key").unwrap();
    assert_eq!(key.len(), 24);
    let proof = accept(key);
    reply.tunnel(&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &proof)])
}

/// The request for a WebSocket.
fn ask() -> Request<()> {
    let mut request = Request::builder().method(Method::CONNECT).uri("http://host/chat?x").body(()).unwrap();
    request.extensions_mut().insert(::h2::ext::Protocol::from("websocket"));
    request.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chat"));
    request
}

fn client(river: &Running) -> H2 {
    let client = H2::open(river.web());
    client.wait_extended_connect();
    client
}

#[test]
fn a_websocket_is_one_of_http_1_to_the_server() {
    let origin = Origin::with(switch);
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut client = client(&river);
    let (response, mut sending) = client.begin(ask(), false);
    let response = wait("a response", response).unwrap();
    assert_eq!(response.status().as_u16(), 200);
    for absent in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(absent), "{absent}");
    }
    let mut receiving = response.into_body();
    sending.send_data(Bytes::from_static(b"\x81\x05hello"), false).unwrap();
    assert_eq!(exactly(&mut receiving, 7), b"\x81\x05hello");
    let block = vec![7; 300_000];
    let writer = std::thread::spawn(move || {
        support::h2::send_all(&mut sending, &block, false).unwrap();
        sending
    });
    assert_eq!(exactly(&mut receiving, 300_000).len(), 300_000);
    let mut sending = writer.join().unwrap();
    // Others share the connection.
    sending.send_data(Bytes::from_static(b"bye"), true).unwrap();
    assert_eq!(exactly(&mut receiving, 3), b"bye");
    while let Some(data) = receive(&mut receiving) {
        assert!(data.unwrap().is_empty());
    }
    let seen = origin.requests();
    let value = |name| seen[0].fields.get(name);
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("GET", "/chat?x"));
    assert_eq!(
        (value("host"), value("upgrade"), value("connection")),
        (Some("host"), Some("websocket"), Some("upgrade"))
    );
    assert_eq!((value("sec-websocket-version"), value("sec-websocket-protocol")), (Some("13"), Some("chat")));
    origin.wait_open_connections(PATIENCE, |open| open == 0);
}

#[test]
fn a_server_that_does_not_prove_it_is_one_is_refused() {
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        "/chat?x" => reply.tunnel(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ]),
        _ => reply.respond(200, &[], b"fine"),
    });
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut client = client(&river);
    let (response, _sending) = client.begin(ask(), false);
    assert_eq!(read(response).unwrap().status.as_u16(), 502);
    assert_eq!(client.get("/fine").text(), "fine");
}

#[test]
fn a_server_that_refuses_is_heard_and_one_that_does_not_understand_is_no_tunnel() {
    let origin = Origin::with(|request, reply| {
        let status = if request.fields.has("x-refuse") { 403 } else { 200 };
        reply.respond(status, &[], b"no")
    });
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut client = client(&river);
    let mut refused = ask();
    refused.headers_mut().insert("x-refuse", HeaderValue::from_static("1"));
    let (response, _sending) = client.begin(refused, false);
    let answer = read(response).unwrap();
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (403, "no"));
    let (response, _sending) = client.begin(ask(), false);
    assert_eq!(read(response).unwrap().status.as_u16(), 502);
    assert_eq!(client.ask(get("/"), b"").text(), "no");
}

#[test]
fn a_websocket_that_is_reset_ends_at_the_server() {
    let origin = Origin::with(switch);
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut client = client(&river);
    let (response, mut sending) = client.begin(ask(), false);
    let receiving = wait("a response", response).unwrap().into_body();
    origin.wait_open_connections(PATIENCE, |open| open == 1);
    sending.send_reset(::h2::Reason::CANCEL);
    drop((receiving, sending));
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    assert!(client.is_open());
}
