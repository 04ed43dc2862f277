//! Which server a request goes to, and over which connection: reuse, retries, turns, refusals.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::log::field;
use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

fn with_connectors(connectors: &str, more: &str) -> Running {
    let settings = format!("connectors: ({connectors}){more}");
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &settings);
    River::with_config(config).serve()
}

/// An origin whose connections answer one request, and end without an answer at the next.
fn ends_at_the_second(how: fn(&mut reply::Reply<'_>) -> std::io::Result<()>) -> Origin {
    Origin::with(move |request, reply| {
        if request.nth > 0 {
            reply.close();
            return how(reply);
        }
        reply.respond(200, &[], request.target.as_bytes())
    })
}

const CLOSES: fn(&mut reply::Reply<'_>) -> std::io::Result<()> = |_| Ok(());
const RESETS: fn(&mut reply::Reply<'_>) -> std::io::Result<()> = |reply| reply.reset();

#[test]
fn a_request_whose_message_is_not_at_hand_any_more_is_not_repeated() {
    let plain = |pad: usize, body: usize| {
        let (pad, body) = ("p".repeat(pad), "x".repeat(body));
        format!("PUT /put HTTP/1.1\r\nhost: a\r\npad: {pad}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let chunked = "PUT /put HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\none\r\n1b\r\nGET /smuggled HTTP/1.1\r\nX: \r\n0\r\n\r\n";
    for how in [CLOSES, RESETS] {
        for message in [plain(1, 12_000), plain(17_000, 9_000), plain(1, 200_000), chunked.to_owned()] {
            let origin = ends_at_the_second(how);
            let river = proxy(&origin);
            let mut conn = Conn::open(river.web());
            assert_eq!(conn.get("/first").status, 200);
            // In two parts: the head has gone when the last of the body comes.
            let (most, last) = message.split_at(message.len() - 40);
            conn.send(most);
            conn.send(last);
            assert_eq!(conn.read_response("PUT").status, 502);
            // Whatever a fresh connection brings now is whole.
            assert_eq!(get(river.web(), "/next").text(), "/next");
            let seen: Vec<_> =
                origin.wait_requests(3, PATIENCE).iter().map(|request| request.target.clone()).collect();
            assert_eq!(seen, ["/first", "/put", "/next"]);
            assert_eq!(origin.connections(), 2);
        }
    }
}

#[test]
fn a_request_that_meets_a_stale_connection_is_repeated_if_that_is_safe() {
    for how in [CLOSES, RESETS] {
        let origin = ends_at_the_second(how);
        let river = proxy(&origin);
        let mut conn = Conn::open(river.web());
        let mut nth = 0;
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"] {
            assert_eq!(conn.get("/first").status, 200);
            conn.send(format!("{method} /{method} HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody"));
            let response = conn.read_response(method);
            assert_eq!((response.status, response.closed), (200, false), "{method}");
            // Once on the stale connection, once on a fresh one, each time whole.
            let requests = origin.wait_requests(nth + 3, PATIENCE);
            let seen: Vec<_> = requests[nth..]
                .iter()
                .map(|request| (request.target.clone(), request.nth, request.body.len()))
                .collect();
            let target = format!("/{method}");
            assert_eq!(seen, [("/first".into(), 0, 0), (target.clone(), 1, 4), (target, 0, 4)]);
            // The fresh one has answered once; this ends it.
            conn.send("POST /end HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(conn.read_response("POST").status, 502);
            nth += 4;
        }
        assert_eq!(origin.requests().len(), nth);
    }
}

#[test]
fn a_request_that_is_not_safe_to_repeat_is_not_repeated() {
    for how in [CLOSES, RESETS] {
        let origin = ends_at_the_second(how);
        let river = proxy(&origin);
        let mut conn = Conn::open(river.web());
        for (nth, method) in ["POST", "PATCH", "LOCK", "get"].into_iter().enumerate() {
            assert_eq!(conn.get("/first").status, 200);
            conn.send(format!("{method} /m HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody"));
            let response = conn.read_response(method);
            assert_eq!((response.status, response.closed), (502, false), "{method}");
            assert_eq!(origin.requests().len(), 2 * nth + 2);
            let line = river.wait_for_line(&format!("{method} /m "), PATIENCE).text;
            assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
        }
    }
}

#[test]
fn a_body_that_is_not_at_hand_is_not_repeated() {
    let origin = Origin::builder()
        .on_head(|request, reply| {
            if request.nth > 0 {
                // Before any of the body was read, which may still be with the client.
                reply.close();
                return Ok(Next::Done);
            }
            Ok(Next::Read)
        })
        .start();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/first").status, 200);
    conn.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    conn.send(vec![b'x'; 10_000]);
    assert!(conn.read_response("PUT").expect_status(502).closed);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_request_is_repeated_once_only() {
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    // Answers the first request of all, and nothing afterwards.
    let origin = Origin::with(move |_, reply| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            return reply.respond(200, &[], b"");
        }
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/first").status, 200);
    assert_eq!(conn.get("/second").status, 502);
    assert_eq!((origin.requests().len(), origin.connections()), (3, 2));
    // A fresh connection that ends without an answer is no stale one.
    assert_eq!(conn.get("/third").status, 502);
    assert_eq!((origin.requests().len(), origin.connections()), (4, 3));
}

#[test]
fn a_request_that_was_answered_in_part_is_not_repeated() {
    let origin = Origin::with(|request, reply| {
        if request.nth > 0 {
            reply.close();
            return reply.raw(b"HTTP/1.1 200");
        }
        reply.respond(200, &[], b"")
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/first").status, 200);
    assert_eq!(conn.get("/second").status, 502);
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn idle_connections_that_a_server_closes_are_closed_and_not_used() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/").status, 200);
    let sockets = || river.fds().iter().filter(|fd| fd.starts_with("socket:")).count();
    let before = sockets();
    origin.close_connections();
    until("the idle connection is closed", PATIENCE, || sockets() == before - 1);
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(conn.read_response("POST").status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let dir = Dir::new();
    let path = dir.join("app.sock");
    let tcp = Origin::echo();
    let address = tcp.address();
    let unix = Origin::builder().start_unix(&path);
    let config = Config::new()
        .system("workers: 1")
        .service("web", &["127.0.0.1:0"], &config::connectors(&[address.into()]))
        .service("unix", &["127.0.0.1:0"], &config::connectors(&[path.as_path().into()]));
    let river = River::in_dir(dir).config(config).serve();
    let mut conns = [Conn::open(river.web()), Conn::open(river.address("unix", 0))];
    for conn in &mut conns {
        assert_eq!(conn.get("/before").status, 200);
    }
    tcp.stop();
    unix.stop();
    for conn in &mut conns {
        let response = conn.get("/between").expect_status(502);
        assert!(!response.closed);
    }
    let tcp = Origin::builder().start_at(address);
    let unix = Origin::builder().start_unix(&path);
    for conn in &mut conns {
        assert_eq!(conn.get("/after").text(), "GET /after\n");
    }
    assert_eq!((tcp.connections(), unix.connections()), (1, 1));
}

#[test]
fn a_connection_carries_no_more_requests_than_it_may() {
    let origin = Origin::echo();
    let river =
        with_connectors(&format!("servers: [(addr: \"{}\")], pool: (max_requests: 3)", origin.address()), "");
    let mut conn = Conn::open(river.web());
    for _ in 0..8 {
        assert_eq!(conn.get("/").status, 200);
    }
    let places: Vec<_> =
        origin.requests().into_iter().map(|request| (request.connection, request.nth)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]);
}

#[test]
fn idle_connections_are_closed_in_time() {
    let origin = Origin::echo();
    let river = with_connectors(
        &format!("servers: [(addr: \"{}\")], pool: (idle_timeout: \"100ms\")", origin.address()),
        "",
    );
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/").status, 200);
    origin.wait_open_connections(SOON, |open| open == 0);
    assert_eq!(conn.get("/").status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn no_more_idle_connections_are_kept_than_may_be() {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b""));
    for (most, kept) in [("2", 2), ("0", 0)] {
        let river = with_connectors(
            &format!("servers: [(addr: \"{}\")], pool: (max_idle: {most})", origin.address()),
            "",
        );
        let before = origin.requests().len();
        let mut conns: Vec<Conn> = (0..6).map(|_| Conn::open(river.web())).collect();
        for conn in &mut conns {
            conn.request("GET", "/");
        }
        origin.wait_requests(before + 6, PATIENCE);
        gate.open();
        for conn in &mut conns {
            assert_eq!(conn.read_response("GET").status, 200);
        }
        origin.wait_open_connections(PATIENCE, |open| open == kept);
        drop(river);
        origin.wait_open_connections(PATIENCE, |open| open == 0);
    }
}

#[test]
fn servers_take_turns() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::echo()).collect();
    let targets: Vec<Target> = origins.iter().map(|origin| origin.target().clone()).collect();
    let config =
        Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &config::connectors(&targets));
    let river = River::with_config(config).serve();
    let mut conn = Conn::open(river.web());
    for nth in 0..12 {
        assert_eq!(conn.get(&format!("/{nth}")).status, 200);
        let counts: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }
    assert!(origins.iter().all(|origin| origin.requests().len() == 4 && origin.connections() == 1));
}

#[test]
fn weights_are_shares() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::echo()).collect();
    let weights = [5, 2, 1];
    let servers: Vec<String> = origins
        .iter()
        .zip(weights)
        .map(|(origin, weight)| format!("(addr: \"{}\", weight: {weight})", origin.address()))
        .collect();
    let river = with_connectors(&format!("servers: [{}]", servers.join(", ")), "");
    let mut conn = Conn::open(river.web());
    for _ in 0..80 {
        assert_eq!(conn.get("/").status, 200);
    }
    let counts: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    assert_eq!(counts, [50, 20, 10]);
}

#[test]
fn a_server_that_refuses_is_passed_over() {
    let origins = [Origin::echo(), Origin::echo()];
    let refusing = origin::refusing();
    let river = with_connectors(
        &format!(
            "servers: [(addr: \"{}\"), (addr: \"{refusing}\", weight: 3), (addr: \"{}\")]",
            origins[0].address(),
            origins[1].address()
        ),
        "",
    );
    let mut conn = Conn::open(river.web());
    for nth in 0..20 {
        conn.send(format!("POST /{nth} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx"));
        assert_eq!(conn.read_response("POST").status, 200);
    }
    // Every request once, whatever was tried for it.
    let mut seen: HashMap<String, usize> = HashMap::new();
    for request in origins.iter().flat_map(|origin| origin.requests()) {
        *seen.entry(request.target).or_default() += 1;
    }
    assert!(seen.len() == 20 && seen.values().all(|count| *count == 1), "{seen:?}");
    assert!(origins.iter().all(|origin| origin.requests().len() >= 6));
}

#[test]
fn where_all_refuse_the_client_is_told() {
    let (one, other) = (origin::refusing(), origin::refusing());
    let river = with_connectors(&format!("servers: [(addr: \"{one}\"), (addr: \"{other}\")]"), "");
    let mut conn = Conn::open(river.web());
    for _ in 0..3 {
        let response = conn.get("/").expect_status(502);
        assert_eq!((response.text().as_str(), response.closed), ("502 Bad Gateway\n", false));
    }
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    assert!(conn.read_response("POST").expect_status(502).closed);
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
    let why = field(&line, "why").unwrap();
    assert!(why.contains(&one.to_string()) || why.contains(&other.to_string()), "{why}");
}

#[test]
fn workers_keep_pools_of_their_own_and_all_answer() {
    let origin = Origin::echo();
    let river = River::with_config(Config::proxy(&origin).system("workers: 3")).serve();
    let mut conns: Vec<Conn> = (0..9).map(|_| Conn::open(river.web())).collect();
    for _ in 0..5 {
        for conn in &mut conns {
            assert_eq!(conn.get("/").status, 200);
        }
    }
    assert!(origin.connections() <= 3, "{} connections", origin.connections());
}
