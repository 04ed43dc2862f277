//! Limits: how much a client may ask for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use support::log::field;
use support::*;

fn proxy(origin: &Origin, limits: &str) -> Running {
    let config = Config::proxy(origin).system("workers: 2").with(&format!("limits: ({limits})"));
    River::with_config(config).serve()
}

#[track_caller]
fn refused(river: &Running, text: &str, status: u16) {
    let mark = river.mark();
    let mut conn = Conn::open(river.web());
    // The server may close before all is sent.
    let _ = conn.try_send(text.as_bytes());
    let response = conn.read_response("GET").expect_status(status);
    assert!(response.closed);
    assert!(response.text().starts_with(&format!("{status} ")), "{response:?}");
    conn.finish();
    conn.expect_closed();
    let line = river.wait_line_after(mark, "request failed").text;
    assert_eq!(field(&line, "status"), Some(status.to_string()), "{line}");
    assert_eq!(field(&line, "blame").as_deref(), Some("downstream"), "{line}");
}

#[test]
fn heads_as_large_as_they_may_be_and_one_byte_more() {
    let origin = Origin::echo();
    let river = proxy(&origin, "max_head: \"2KiB\", max_headers: 20");
    let head = |length: usize| {
        let begin = "GET /h HTTP/1.1\r\nhost: a\r\nx-fill: ";
        format!("{begin}{}\r\n\r\n", "a".repeat(length - begin.len() - 4))
    };
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        conn.send(head(2048));
        assert_eq!(conn.read_response("GET").status, 200);
    }
    refused(&river, &head(2049), 431);
    refused(&river, &head(30_000), 431);
    // Found out without the end of the head.
    refused(&river, &head(30_000)[..2100], 431);

    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(length - 27));
    assert_eq!(target(2048).len(), 2048);
    conn.send(target(2048));
    assert_eq!(conn.read_response("GET").status, 200);
    // As long as the request line fits, it is the head that is too large.
    refused(&river, &target(2048 + 11), 431);
    refused(&river, &target(2048 + 12), 414);
    refused(&river, &target(30_000), 414);
    refused(&river, &target(30_000)[..2100], 414);

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(count - 1));
    conn.send(fields(20));
    assert_eq!(conn.read_response("GET").status, 200);
    refused(&river, &fields(21), 431);
    assert_eq!(origin.requests().len(), 4);
}

#[test]
fn bodies_as_large_as_they_may_be_and_one_byte_more() {
    let origin =
        Origin::with(|request, reply| reply.respond(200, &[], request.body.len().to_string().as_bytes()));
    let river = proxy(&origin, "max_body: \"100KiB\"");
    const MOST: usize = 100 << 10;
    let mut conn = Conn::open(river.web());
    conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MOST}\r\n\r\n{}", "x".repeat(MOST)));
    assert_eq!(conn.read_response("POST").text(), MOST.to_string());
    let chunked = |sizes: &[usize]| {
        let mut text = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for size in sizes {
            text.push_str(&format!("{size:x}\r\n{}\r\n", "x".repeat(*size)));
        }
        text + "0\r\n\r\n"
    };
    conn.send(chunked(&[MOST - 1000, 999, 1]));
    assert_eq!(conn.read_response("POST").text(), MOST.to_string());

    // Refused before anything is forwarded.
    let connections = origin.connections();
    refused(&river, &format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", MOST + 1), 413);
    refused(&river, "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9223372036854775807\r\n\r\n", 413);
    refused(
        &river,
        &format!("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n", MOST + 1),
        413,
    );
    assert_eq!(origin.connections(), connections);
    // Refused as soon as it shows.
    refused(&river, &chunked(&[MOST - 1000, 1000, 1]), 413);
    refused(&river, &chunked(&[MOST + 1]), 413);
    assert_eq!(origin.requests().len(), 2);
}

/// Many clients read nothing before they have sent everything.
#[test]
fn a_client_that_sends_all_of_a_refused_body_reads_the_refusal() {
    const MUCH: usize = 32 << 20;
    let origin = Origin::echo();
    let river = proxy(&origin, "max_body: \"100KiB\"");
    let mut conn = Conn::open(river.web());
    conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MUCH}\r\n\r\n"));
    conn.send(vec![b'x'; MUCH]);
    assert!(conn.read_response("POST").expect_status(413).closed);
    conn.finish();
    conn.expect_closed();
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    for workers in [1, 4] {
        let origin = Origin::echo();
        let config = Config::proxy(&origin)
            .system(&format!("workers: {workers}"))
            .with("limits: (max_connections: 3)");
        let river = River::with_config(config).serve();
        let mut served: Vec<Conn> = (0..3).map(|_| Conn::open(river.web())).collect();
        for conn in &mut served {
            assert_eq!(conn.get("/").status, 200);
        }
        let mut waiting: Vec<Conn> = (0..8).map(|_| Conn::open(river.web())).collect();
        for conn in &mut waiting {
            conn.request("GET", "/waiting");
        }
        // Those that are served go on, and none of the others is.
        for _ in 0..20 {
            for conn in &mut served {
                assert_eq!(conn.get("/").status, 200);
            }
        }
        let early = origin.requests().iter().filter(|request| request.target == "/waiting").count();
        assert_eq!(early, 0, "with {workers} workers");
        // Each that leaves makes room for one.
        for mut conn in waiting {
            drop(served.remove(0));
            assert_eq!(conn.read_response("GET").status, 200);
            served.push(conn);
        }
    }
}

#[test]
fn the_limit_of_one_service_is_not_another_ones() {
    let config = Config::new()
        .system("workers: 2")
        .service("web", &["127.0.0.1:0", "127.0.0.1:0"], &config::respond("web"))
        .with("limits: (max_connections: 1)")
        .service("other", &["127.0.0.1:0"], &config::respond("other"));
    let river = River::with_config(config).serve();
    let mut only = Conn::open(river.web());
    assert_eq!(only.get("/").text(), "web");
    // One count for all listeners of a service.
    let mut waiting = Conn::open(river.address("web", 1));
    waiting.request("GET", "/");
    for _ in 0..20 {
        assert_eq!(get(river.address("other", 0), "/").text(), "other");
    }
    assert!(waiting.is_quiet());
    drop(only);
    assert_eq!(waiting.read_response("GET").text(), "web");
}

#[test]
fn a_flood_at_the_limit_is_served_whole() {
    let origin = Arc::new(Origin::builder().forgetful().start());
    let config = Config::proxy(&origin).system("workers: 2").with("limits: (max_connections: 2)");
    let river = River::with_config(config).serve();
    let address = river.web();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..100 {
                    assert_eq!(get(address, "/").status, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}
