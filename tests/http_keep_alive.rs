//! Connections that are kept, on either side, and the order of answers on them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use support::*;

/// One worker, so that there is one pool.
fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

#[test]
fn both_sides_are_kept() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for nth in 0..5 {
        let response = conn.get(&format!("/{nth}"));
        assert_eq!(response.text(), format!("GET /{nth}\n"));
        assert!(!response.closed && !response.fields.has("connection"), "{response:?}");
    }
    // Another client takes the same connection over.
    assert_eq!(get(river.web(), "/other").status, 200);
    let requests = origin.wait_requests(6, PATIENCE);
    let places: Vec<_> = requests.iter().map(|request| (request.connection, request.nth)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    assert!(conn.is_quiet());
}

#[test]
fn close_is_obeyed_after_the_response() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /a HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n");
    let response = conn.read_response("GET");
    assert_eq!(response.fields.get("connection"), Some("close"));
    conn.expect_closed_within(SOON);
    // That was between the client and River; the server's connection is used again.
    assert_eq!(get(river.web(), "/b").status, 200);
    let requests = origin.wait_requests(2, PATIENCE);
    assert!(!requests[0].fields.has("connection"), "{:?}", requests[0]);
    assert_eq!((requests[1].connection, requests[1].nth), (0, 1));
}

#[test]
fn requests_behind_a_close_are_not_forwarded() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(conn.read_response("GET").text(), "GET /a\n");
    conn.finish();
    conn.expect_closed();
    assert_eq!(get(river.web(), "/c").status, 200);
    let targets: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/a", "/c"]);
}

#[test]
fn a_server_that_closes_is_obeyed() {
    let origin = Origin::with(|request, reply| {
        if request.target == "/last" {
            reply.close();
            return reply.respond(200, &[("connection", "close"), ("keep-alive", "timeout=5")], b"bye");
        }
        reply.respond(200, &[("connection", "keep-alive"), ("keep-alive", "timeout=5")], b"more")
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for (path, body) in [("/", "more"), ("/last", "bye"), ("/", "more")] {
        let response = conn.get(path);
        assert_eq!(response.text(), body);
        assert!(!response.fields.has("connection") && !response.fields.has("keep-alive"), "{response:?}");
    }
    let places: Vec<_> =
        origin.requests().into_iter().map(|request| (request.connection, request.nth)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0)]);
}

#[test]
fn an_old_client_is_closed_unless_it_asks_to_stay() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for path in ["/a", "/b"] {
        conn.send(format!("GET {path} HTTP/1.0\r\nhost: old.example\r\nconnection: Keep-Alive\r\n\r\n"));
        let response = conn.read_response("GET");
        assert_eq!(response.fields.get("connection"), Some("keep-alive"));
        assert_eq!(response.text(), format!("GET {path}\n"));
    }
    conn.send("GET /c HTTP/1.0\r\nhost: old.example\r\n\r\n");
    let response = conn.read_response("GET");
    assert_eq!(response.fields.get("connection"), Some("close"));
    conn.expect_closed_within(SOON);
    let requests = origin.wait_requests(3, PATIENCE);
    // River speaks HTTP/1.1 to the server, and keeps that connection.
    assert!(requests[2].raw.starts_with(b"GET /c HTTP/1.1\r\n"));
    assert_eq!((requests[2].connection, requests[2].nth), (0, 2));
    assert_eq!(requests[2].fields.get("host"), Some("old.example"));
}

/// To close while the client's bytes lie unread would reset the connection, and what it has not read yet of the response
/// would be lost.
#[test]
fn bytes_behind_the_last_request_do_not_cost_its_response() {
    let gate = Arc::new(std::sync::Barrier::new(2));
    let waiting = gate.clone();
    let origin = Origin::with(move |_, reply| {
        waiting.wait();
        reply.respond(200, &[], &vec![b'x'; 300_000])
    });
    let river = proxy(&origin);
    let mut sent = 0;
    for _ in 0..10 {
        for head in ["POST / HTTP/1.0\r\n", "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"] {
            let mut conn = Conn::open(river.web());
            conn.send(format!("{head}content-length: 1\r\n\r\nx"));
            sent += 1;
            origin.wait_requests(sent, PATIENCE);
            // Some browsers ended a POST so.
            conn.send("\r\n");
            gate.wait();
            // It reads more slowly than River writes.
            for _ in 0..5 {
                std::thread::park_timeout(std::time::Duration::from_millis(5));
                let _ = conn.reader().fill();
            }
            let response = conn.read_response("POST");
            assert_eq!((response.body.len(), response.closed), (300_000, true));
        }
    }
}

#[test]
fn an_empty_line_between_requests_is_no_request() {
    let origin = Origin::echo();
    let config =
        Config::proxy(&origin).system("workers: 1").with("timeouts: (head: \"300ms\", idle: \"20s\")");
    let river = River::with_config(config).serve();
    let mut conn = Conn::open(river.web());
    for body in ["x\r\n", "x"] {
        conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n{body}"));
        assert_eq!(conn.read_response("POST").text(), "POST /\nx");
        conn.send("\r\n");
        // Longer than a head may take.
        conn.socket().set_read_timeout(std::time::Duration::from_millis(600)).unwrap();
        assert_eq!(conn.reader().fill().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        conn.socket().set_read_timeout(PATIENCE).unwrap();
    }
    assert!(!river.log().contains("request failed"));
}

#[test]
fn an_old_client_needs_no_host() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /a HTTP/1.0\r\n\r\n");
    assert_eq!(conn.read_response("GET").status, 200);
    let requests = origin.wait_requests(1, PATIENCE);
    assert_eq!(requests[0].fields.get("host"), Some(origin.address().to_string().as_str()));
    // Which the client did not ask for.
    assert!(!requests[0].fields.has("x-forwarded-host"), "{:?}", requests[0]);
}

#[test]
fn an_old_client_gets_old_framing() {
    let origin =
        Origin::with(|_, reply| reply.respond_chunked(200, &[], &[b"one ", b"two"], &[("x-sum", "7")]));
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let response = conn.read_response("GET");
    assert!(!response.fields.has("transfer-encoding") && !response.fields.has("content-length"));
    assert_eq!(response.fields.get("connection"), Some("close"));
    assert_eq!(response.text(), "one two");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (origin, first) = Origin::gated(
        |target| target == "/0",
        |request, reply| {
            reply.respond(
                200,
                &[],
                format!("{} {}", request.target, String::from_utf8_lossy(&request.body)).as_bytes(),
            )
        },
    );
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    let mut all = String::new();
    for nth in 0..40 {
        all.push_str(&match nth % 4 {
            0 => format!("GET /{nth} HTTP/1.1\r\nhost: a\r\n\r\n"),
            1 => format!("POST /{nth} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nlen{nth:02}"),
            2 => format!(
                "POST /{nth} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nch\r\n3\r\nu{nth:02}\r\n0\r\n\r\n"
            ),
            // One empty line too many, as some clients send after a body (RFC 9112 §2.2).
            _ => format!("\r\nPUT /{nth} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"),
        });
    }
    conn.send(&all);
    origin.wait_requests(1, PATIENCE);
    // The first is slow; nothing overtakes it.
    assert_eq!(origin.requests().len(), 1);
    assert!(conn.is_quiet());
    first.open();
    for nth in 0..40 {
        let body = match nth % 4 {
            1 => format!("len{nth:02}"),
            2 => format!("chu{nth:02}"),
            _ => String::new(),
        };
        assert_eq!(conn.read_response("GET").text(), format!("/{nth} {body}"));
    }
    assert!(conn.is_quiet());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    let text = "POST /slow HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4;a=b\r\nslow\r\n0\r\nx-t: 1\r\n\r\n";
    for _ in 0..2 {
        for byte in text.as_bytes() {
            conn.send([*byte]);
        }
        assert_eq!(conn.read_response("POST").text(), "POST /slow\nslow");
    }
    assert_eq!(origin.requests()[1].trailers.get("x-t"), Some("1"));
}

#[test]
fn a_client_that_has_finished_sending_gets_its_responses() {
    let (origin, gate) =
        Origin::gated(|_| true, |request, reply| reply.respond(200, &[], request.target.as_bytes()));
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n");
    conn.finish();
    origin.wait_requests(1, PATIENCE);
    gate.open();
    assert_eq!(conn.read_response("GET").text(), "/a");
    assert_eq!(conn.read_response("GET").text(), "/b");
    conn.expect_closed_within(SOON);
}

#[test]
fn a_head_that_was_given_up_does_not_disturb_the_next_connection() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    for _ in 0..3 {
        let mut given_up = Conn::open(river.web());
        given_up.send(format!("GET /half HTTP/1.1\r\nhost: a\r\nx-long: {}", "a".repeat(150)));
        given_up.finish();
        given_up.expect_closed();
        // Its head ends before the place where the other one was given up, its body behind it.
        let body = "b".repeat(160);
        let mut conn = Conn::open(river.web());
        conn.send(format!("POST /w HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        assert_eq!(conn.read_response("POST").text(), format!("POST /w\n{body}"));
    }
    assert_eq!(origin.requests().len(), 3);
}
