//! WebSockets to servers over HTTP/2 (RFC 8441), from clients of either version.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use ::bytes::Bytes;
use http::Method;
use support::h2::{H2, exactly, receive, wait};
use support::h2_frames::{END_HEADERS, Frames, HEADERS, SETTINGS, STATUS_200};
use support::log::field;
use support::*;

/// The key and the proof of RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A server that shouts back what it is told over a WebSocket; not over one for `/no`.
fn shouting() -> H2Origin {
    let settle = |settings: &mut ::h2::server::Builder| {
        settings.enable_connect_protocol();
    };
    H2Origin::settled(settle, |mut exchange| async move {
        if exchange.request.protocol.as_deref() != Some("websocket") || exchange.request.path == "/no" {
            return exchange.respond(403, &[], b"no").await;
        }
        let mut body = exchange.begin(200, &[("sec-websocket-protocol", "chat")]);
        while let Some(piece) = exchange.piece().await {
            body.part(&piece.to_ascii_uppercase()).await;
        }
        body.last(b"bye").await;
    })
}

fn river(origin: &H2Origin) -> Running {
    River::with_config(support::h2::config(&format!("connectors: (servers: [{}])", origin.server()))).serve()
}

fn ask(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: host\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

#[test]
fn a_client_of_http_1_gets_one() {
    let origin = shouting();
    let river = river(&origin);
    let mut conn = Conn::open(river.web());
    conn.send(ask("/chat?x"));
    let head = conn.reader().head().unwrap().unwrap();
    assert_eq!(head.start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!(head.fields.get("upgrade"), Some("websocket"));
    assert_eq!(head.fields.get("sec-websocket-accept"), Some(PROOF));
    assert_eq!(head.fields.get("sec-websocket-protocol"), Some("chat"));
    for _ in 0..10 {
        conn.send("hello");
        assert_eq!(conn.reader().exactly(5).unwrap(), b"HELLO");
    }
    // Requests of others share its connection.
    assert_eq!(get(river.web(), "/").status, 403);
    conn.finish();
    assert_eq!(conn.read_to_end(), b"bye");
    let request = origin.wait_requests(2).remove(1);
    assert_eq!((&*request.method, &*request.path, &*request.scheme), ("CONNECT", "/chat?x", "http"));
    assert_eq!(request.field("sec-websocket-version"), Some("13"));
    for gone in ["sec-websocket-key", "connection", "upgrade", "host"] {
        assert!(!request.fields.contains_key(gone), "{gone}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_server_whose_settings_come_in_parts_is_waited_for_until_all_of_them_are_there() {
    let frames = Frames::listen();
    let settings = format!("connectors: (servers: [{}])", frames.server());
    let river = River::with_config(support::h2::config(&settings)).serve();
    let mut conn = Conn::open(river.web());
    conn.send(ask("/chat"));
    let mut server = frames.accept_silently();
    // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3), without its last byte.
    server.bytes(&[0, 0, 6, SETTINGS, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0]);
    conn.socket().set_read_timeout(Duration::from_millis(300)).unwrap();
    let early = conn.try_read_head();
    assert!(early.is_err(), "{early:?}");
    conn.socket().set_read_timeout(PATIENCE).unwrap();
    server.bytes(&[1]);
    let stream = server.wait(HEADERS).stream;
    server.send(HEADERS, END_HEADERS, stream, STATUS_200);
    assert_eq!(conn.read_head().1, 101);
}

#[test]
fn a_client_of_http_2_gets_one() {
    let origin = shouting();
    let river = river(&origin);
    let mut client = H2::open(river.web());
    client.wait_extended_connect();
    let mut request = support::h2::request(Method::CONNECT, "/chat");
    request.extensions_mut().insert(::h2::ext::Protocol::from("websocket"));
    let (response, mut sending) = client.begin(request, false);
    let response = wait("a response", response).unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut receiving = response.into_body();
    sending.send_data(Bytes::from_static(b"hello"), false).unwrap();
    assert_eq!(exactly(&mut receiving, 5), b"HELLO");
    sending.send_data(Bytes::new(), true).unwrap();
    assert_eq!(exactly(&mut receiving, 3), b"bye");
    while let Some(data) = receive(&mut receiving) {
        assert!(data.unwrap().is_empty());
    }
}

#[test]
fn a_server_that_does_not_want_one_says_so() {
    let origin = shouting();
    let river = river(&origin);
    let mut conn = Conn::open(river.web());
    conn.send(ask("/no"));
    assert_eq!(conn.read_response("GET").expect_status(403).text(), "no");
}

#[test]
fn a_server_that_has_not_offered_them_is_not_asked() {
    let origin = H2Origin::echo();
    let river = river(&origin);
    let mut conn = Conn::open(river.web());
    conn.send(ask("/chat"));
    conn.read_response("GET").expect_status(502);
    let line = river.wait_for_line("GET /chat ", PATIENCE).text;
    assert!(field(&line, "why").unwrap().contains("has not offered WebSockets"), "{line}");
    assert!(origin.requests().is_empty());
    // Other protocols than this cannot be offered in HTTP/2, and need not be (RFC 9110 §7.8).
    let mut conn = Conn::open(river.web());
    conn.send("GET /other HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
    assert_eq!(conn.read_response("GET").expect_status(200).text(), "GET /other\n");
}
