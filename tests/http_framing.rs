//! Requests that are not exactly right: refused, and nothing of them reaches a server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::log::field;
use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

/// Heads that are refused, with the status. Each is sent with a hidden request behind it.
const HEADS: &[(u16, &str)] = &[
    // Lines and white space.
    (400, "GET / HTTP/1.1\nHost: a\n\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\rZ: z\r\n\r\n"),
    (400, "GET / HTTP/1.1\rHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    (400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Methods, targets, versions.
    (400, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, "AVERYLONGMETHODTHATNOSERVEREVERHEARDOF / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET path HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /#fragment HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\\..\\ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET http://user@host/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET ftp://host/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, "GET /\r\nHost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1x\r\nHost: a\r\n\r\n"),
    (400, "GET / http/1.1\r\nHost: a\r\n\r\n"),
    (505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    // Names and values.
    (400, "GET / HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX(Y): z\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: z\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\x0bz\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n"),
    // Host.
    (400, "GET / HTTP/1.1\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    (400, "GET / HTTP/1.1\r\nHost: a:port\r\n\r\n"),
    (400, "GET http://b/ HTTP/1.1\r\n\r\n"),
    // Framing.
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        400,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    (501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    // Expectations that nobody here can meet.
    (417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
    // Another protocol altogether.
    (400, "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03"),
    (400, "SSH-2.0-OpenSSH_9.6\r\n"),
];

const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: hidden\r\n\r\n";

#[test]
fn malformed_heads_are_refused_and_not_forwarded() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    for (nth, (status, head)) in HEADS.iter().enumerate() {
        let mut conn = Conn::open(river.web());
        conn.send(format!("{head}{HIDDEN}"));
        conn.finish();
        let response =
            conn.try_read_response("GET").unwrap_or_else(|error| panic!("no response to {head:?}: {error}"));
        assert_eq!((response.status, response.closed), (*status, true), "{head:?}");
        assert_eq!(response.fields.get("connection"), Some("close"));
        assert_eq!(response.fields.get("content-type"), Some("text/plain"));
        assert!(
            response.text().starts_with(&format!("{status} ")) && response.body.len() < 50,
            "{response:?}"
        );
        conn.expect_closed();
        let line = river.wait_nth_line("request failed", nth).text;
        assert_eq!(field(&line, "blame").as_deref(), Some("downstream"), "{line}");
        assert_eq!(field(&line, "status"), Some(status.to_string()), "{line}");
        assert!(field(&line, "why").is_some_and(|why| !why.is_empty()), "{line}");
    }
    // Nothing of all that reached the server, not even a connection.
    assert_eq!(origin.connections(), 0);
    assert_eq!(get(river.web(), "/good").status, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_request_before_a_malformed_one_is_answered() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    for (status, head) in HEADS {
        // A second empty line is an error only at the begin; behind a request too.
        let mut conn = Conn::open(river.web());
        conn.send(format!("GET /first HTTP/1.1\r\nhost: a\r\n\r\n{head}{HIDDEN}"));
        conn.finish();
        assert_eq!(conn.read_response("GET").text(), "GET /first\n");
        let response = conn.read_response("GET");
        assert_eq!((response.status, response.closed), (*status, true), "{head:?}");
        conn.expect_closed();
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), HEADS.len());
    assert!(requests.iter().all(|request| request.target == "/first" && request.body.is_empty()));
    assert_eq!(origin.connections(), 1);
}

/// Chunked bodies that go wrong after a good beginning.
const CHUNKS: &[&str] = &[
    "x\r\n",
    "-1\r\n",
    "+1\r\na\r\n",
    "0x1\r\na\r\n",
    " 1\r\na\r\n",
    "1 \r\na\r\n",
    "\r\n",
    "1\na\r\n",
    "1\ra\r\n",
    "1\r\nab\r\n",
    "1\r\na\n",
    "1;\r\na\r\n",
    "1;a=\r\na\r\n",
    "1;a=\"b\r\na\r\n",
    "1;a\0b\r\na\r\n",
    "1;a\nb\r\na\r\n",
    "fffffffffffffffff\r\n",
    "8000000000000000\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\nx : y\r\n\r\n",
    "0\r\nx: y\r\n z\r\n\r\n",
    "0\r\nx: y\n\r\n",
    "0\n\r\n",
];

#[test]
fn chunks_that_go_wrong_end_the_request_on_both_sides() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    assert_eq!(get(river.web(), "/pooled").status, 200);
    for (nth, rest) in CHUNKS.iter().enumerate() {
        for apart in [false, true] {
            let mut conn = Conn::open(river.web());
            let begin = "POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
            if apart {
                conn.send(begin);
                // The beginning is on its way to the server before the rest comes.
                origin.wait_open_connections(PATIENCE, |open| open > 0);
                conn.send(rest);
            } else {
                conn.send(format!("{begin}{rest}"));
            }
            conn.send(HIDDEN);
            conn.finish();
            let response = conn.read_response("POST");
            assert_eq!((response.status, response.closed), (400, true), "{rest:?}");
            conn.expect_closed();
            let failed = |lines: &[log::Line]| {
                let failed = lines.iter().filter(|line| line.text.contains("request failed"));
                failed.clone().nth(2 * nth + usize::from(apart)).map(|line| line.text.clone())
            };
            let line = river.log().wait_for("why it failed", PATIENCE, failed);
            assert_eq!(field(&line, "blame").as_deref(), Some("downstream"), "{line}");
        }
    }
    // Connections on which a request was broken off are not used again.
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    assert_eq!(get(river.web(), "/good").status, 200);
    let targets: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/pooled", "/good"]);
}

#[test]
fn a_body_cut_short_is_no_request() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    for text in [
        "POST /cut HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfive.",
        "POST /cut HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive.\r\n",
        "POST /cut HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive.\r\n0\r\n",
    ] {
        let mut conn = Conn::open(river.web());
        conn.send(text);
        conn.finish();
        let response = conn.read_response("POST");
        assert_eq!((response.status, response.closed), (400, true), "{text:?}");
        conn.expect_closed();
    }
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    assert_eq!(origin.requests().len(), 0);
}

/// What River and a lenient server might read differently: the hidden request must never be seen as one.
#[test]
fn hidden_requests_stay_hidden() {
    const INNER: &str = "GET /hidden HTTP/1.1\r\nHost: hidden\r\n\r\n";
    let origin = Origin::echo();
    let river = proxy(&origin);
    // These are valid, and the hidden request is body.
    let valid = [
        format!("POST /outer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{INNER}", INNER.len()),
        format!(
            "POST /outer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{INNER}\r\n0\r\n\r\n",
            INNER.len()
        ),
        // A field that only looks like framing is not.
        format!(
            "POST /outer HTTP/1.1\r\nhost: a\r\nTransfer_Encoding: chunked\r\ncontent-length: {}\r\n\r\n{INNER}",
            INNER.len()
        ),
        // What Connection names cannot take the framing away.
        format!(
            "POST /outer HTTP/1.1\r\nhost: a\r\nconnection: content-length\r\ncontent-length: {}\r\n\r\n{INNER}",
            INNER.len()
        ),
        // A GET has a body if it says so.
        format!("GET /outer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{INNER}", INNER.len()),
    ];
    for text in &valid {
        let mut conn = Conn::open(river.web());
        conn.send(text);
        let response = conn.read_response("POST");
        assert!(response.text().ends_with(INNER), "{response:?}");
        assert!(conn.is_quiet());
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), valid.len());
    assert!(requests.iter().all(|request| request.target == "/outer" && request.body == INNER.as_bytes()));
}
