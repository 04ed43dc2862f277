//! Interim responses (1xx), and bodies that wait for one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::log::field;
use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

const EXPECTING: &str = "POST /e HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 5\r\n\r\n";

#[test]
fn continue_reaches_the_client_before_the_body_is_sent() {
    let origin = Origin::asking_for_bodies();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        conn.send(EXPECTING);
        let head = conn.reader().head().unwrap().unwrap();
        assert_eq!(String::from_utf8(head.raw).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        conn.send("hello");
        let response = conn.read_response("POST");
        assert_eq!((response.text().as_str(), response.closed), ("POST /e\nhello", false));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_body_that_does_not_wait_for_continue_is_forwarded() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send(format!("{EXPECTING}hello"));
    let response = conn.read_response("POST");
    assert_eq!((response.text().as_str(), response.interim.len()), ("POST /e\nhello", 0));
}

#[test]
fn a_refusal_instead_of_continue_ends_the_connection() {
    for status in [401, 417] {
        let origin = Origin::builder()
            .on_head(move |request, reply| {
                if request.fields.has("expect") {
                    reply.respond(status, &[("x-why", "no")], b"refused")?;
                    // The connection stays: the server still waits for the body.
                    assert!(reply.read_some()?.is_empty(), "River sends no body that it does not have");
                    return Ok(Next::Done);
                }
                Ok(Next::Read)
            })
            .start();
        let river = proxy(&origin);
        let mut conn = Conn::open(river.web());
        conn.send(EXPECTING);
        let response = conn.read_response("POST").expect_status(status);
        assert_eq!((response.text().as_str(), response.closed), ("refused", true));
        // What a client sends all the same does not destroy the response, and is no request.
        conn.send("helloGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
        conn.finish();
        conn.expect_closed();
        // The server's connection, on which a body is owed, is used no more.
        origin.wait_open_connections(PATIENCE, |open| open == 0);
        assert_eq!(get(river.web(), "/after").status, 200);
        let requests = origin.requests();
        assert_eq!((requests.len(), requests[0].connection), (1, 1));
    }
}

#[test]
fn an_early_refusal_of_a_large_body_can_be_read() {
    let origin = Origin::builder()
        .on_head(|_, reply| {
            reply.respond(413, &[("connection", "close")], b"too much")?;
            Ok(Next::Done)
        })
        .start();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    conn.send(vec![b'x'; 100_000]);
    let response = conn.read_response("POST").expect_status(413);
    assert_eq!((response.text().as_str(), response.closed), ("too much", true));
    conn.send(vec![b'x'; 100_000]);
    conn.finish();
    conn.expect_closed();
}

#[test]
fn expectations_of_old_clients_are_ignored() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("POST /e HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(conn.read_response("POST").text(), "POST /e\nhello");
    assert!(!origin.requests()[0].fields.has("expect"));
}

#[test]
fn early_hints_are_forwarded_to_those_who_know_them() {
    let origin = Origin::with(|_, reply| {
        reply.interim(102, &[])?;
        reply.interim(103, &[("link", "</a.css>"), ("x-hop", "1"), ("connection", "x-hop")])?;
        reply.interim(103, &[("link", "</b.css>")])?;
        reply.respond(200, &[], b"page")
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        let response = conn.get("/");
        assert_eq!(response.text(), "page");
        let interim: Vec<_> = response
            .interim
            .iter()
            .map(|(status, fields)| (*status, fields.0.len(), fields.get("link")))
            .collect();
        assert_eq!(interim, [(102, 0, None), (103, 1, Some("</a.css>")), (103, 1, Some("</b.css>"))]);
    }
    let mut old = Conn::open(river.web());
    old.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let response = old.read_response("GET");
    assert_eq!((response.interim.len(), response.text().as_str()), (0, "page"));
}

#[test]
fn a_hint_is_not_kept_back_until_the_response() {
    let gate = std::sync::Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::with(move |_, reply| {
        reply.interim(103, &[("link", "</a.css>")])?;
        waiting.pass();
        reply.respond(200, &[], b"page")
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    assert!(conn.reader().head().unwrap().unwrap().start.starts_with("HTTP/1.1 103 "));
    gate.open();
    assert_eq!(conn.read_response("GET").text(), "page");
}

#[test]
fn interim_responses_without_end_are_refused() {
    let origin = Origin::with(|request, reply| {
        let hints = if request.target == "/few" { 1000 } else { 10_000 };
        for _ in 0..hints {
            reply.interim(103, &[("link", "</a.css>")])?;
        }
        reply.respond(200, &[], b"page")
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/few").interim.len(), 1000);
    let response = conn.get("/many").expect_status(502);
    assert_eq!((response.interim.len(), response.closed), (1000, false));
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
    assert!(field(&line, "why").unwrap().contains("interim"), "{line}");
    assert_eq!(conn.get("/few").status, 200);
}

#[test]
fn an_end_between_interim_and_final_response_is_no_response() {
    let origin = Origin::with(|request, reply| {
        if request.target == "/good" {
            return reply.respond(200, &[], b"");
        }
        reply.interim(103, &[("link", "</a.css>")])?;
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    // A pooled connection that has answered something is not stale, and the request is not repeated.
    assert_eq!(conn.get("/good").status, 200);
    assert_eq!(conn.get("/bad").expect_status(502).interim.len(), 1);
    assert_eq!(origin.requests().len(), 2);
    let mut conn = Conn::open(river.web());
    conn.request("HEAD", "/bad");
    assert_eq!(conn.read_response("HEAD").status, 502);
    assert!(conn.is_quiet());
}
