//! Connections that change protocols: 101 and the tunnel after it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use support::log::field;
use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

const OFFER: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";

const ACCEPT: [(&str, &str); 3] =
    [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "v")];

fn echoing() -> Origin {
    Origin::with(|request, reply| {
        assert!(request.fields.lists("connection", "upgrade"), "{request:?}");
        assert_eq!(request.fields.get("upgrade"), Some("websocket"));
        assert_eq!(request.fields.get("sec-websocket-key"), Some("k"));
        reply.tunnel(&ACCEPT)
    })
}

/// A connection that has changed protocols.
#[track_caller]
fn tunnel(river: &Running) -> Conn {
    let mut conn = Conn::open(river.web());
    conn.send(OFFER);
    assert_eq!(conn.read_head().1, 101);
    conn
}

#[test]
fn bytes_go_both_ways() {
    let origin = echoing();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    // Some bytes of the new protocol come right behind the offer.
    conn.send(format!("{OFFER}early "));
    let (head, status) = conn.read_head();
    assert_eq!(status, 101);
    assert_eq!(head.fields.get("connection"), Some("upgrade"));
    assert_eq!(head.fields.get("upgrade"), Some("websocket"));
    assert_eq!(head.fields.get("sec-websocket-accept"), Some("v"));
    conn.send(b"bytes\0\xff\r\n\r\n");
    assert_eq!(conn.reader().exactly(17).unwrap(), b"early bytes\0\xff\r\n\r\n");
    let block: Vec<u8> = (0..200_000).map(|at| (at % 251) as u8).collect();
    for _ in 0..10 {
        conn.send(&block);
        assert!(conn.reader().exactly(block.len()).unwrap() == block);
    }
    conn.finish();
    conn.expect_closed();
    origin.wait_open_connections(PATIENCE, |open| open == 0);
}

#[test]
fn what_the_server_says_behind_its_101_arrives() {
    let origin = Origin::with(|_, reply| {
        reply.raw(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello")?;
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut conn = tunnel(&river);
    assert_eq!(conn.reader().until_end().unwrap(), b"hello");
}

#[test]
fn the_clients_end_is_passed_on_and_the_other_direction_stays() {
    let origin = Origin::with(|_, reply| {
        reply.head(101, &ACCEPT)?;
        let seen = reply.read_rest()?;
        // Only after the end does it say anything.
        reply.raw(format!("{} bytes", seen.len()).as_bytes())?;
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut conn = tunnel(&river);
    conn.send("12345");
    conn.finish();
    assert_eq!(conn.reader().until_end().unwrap(), b"5 bytes");
}

#[test]
fn the_servers_end_is_passed_on_and_the_other_direction_stays() {
    let (said, heard) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let origin = Origin::with(move |_, reply| {
        reply.head(101, &ACCEPT)?;
        reply.raw(b"bye")?;
        reply.finish()?;
        let seen = reply.read_rest()?;
        said.lock().unwrap().send(seen).unwrap();
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut conn = tunnel(&river);
    assert_eq!(conn.reader().until_end().unwrap(), b"bye");
    conn.send("still here");
    conn.finish();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"still here");
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let origin = echoing();
    let river = proxy(&origin);
    let conn = tunnel(&river);
    conn.reset();
    origin.wait_open_connections(PATIENCE, |open| open == 0);

    let resetting = Origin::with(|_, reply| {
        reply.head(101, &ACCEPT)?;
        reply.read_some()?;
        reply.reset()
    });
    let river = proxy(&resetting);
    let mut conn = tunnel(&river);
    conn.send("x");
    conn.expect_gone_within(PATIENCE);
}

/// Sends until nothing more is taken.
fn fill(socket: &socket::Socket) {
    let block = vec![b'x'; 64 << 10];
    let mut last = std::time::Instant::now();
    until("the tunnel is full", PATIENCE, || {
        while rustix::net::send(socket, &block, rustix::net::SendFlags::DONTWAIT).is_ok() {
            last = std::time::Instant::now();
        }
        last.elapsed() > std::time::Duration::from_millis(300)
    });
}

/// A direction that waits for room reads nothing, so it does not see the end of its source.
#[test]
fn a_reset_is_seen_while_the_other_side_takes_nothing() {
    let config = |origin: &Origin| {
        Config::proxy(origin)
            .system("workers: 1")
            .with("timeouts: (send: \"300ms\", upstream_write: \"300ms\")")
    };
    let ends = |river: &Running, blame: &str| {
        let line = river.wait_for_line("request failed", PATIENCE).text;
        assert_eq!(field(&line, "blame").as_deref(), Some(blame), "{line}");
        assert!(line.contains("request=\"GET /chat HTTP/1.1\" "), "{line}");
        assert!(field(&line, "upstream").unwrap().starts_with("127.0.0.1:"), "{line}");
    };
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let deaf = Origin::with(move |_, reply| {
        reply.head(101, &ACCEPT)?;
        waiting.pass();
        reply.reset()
    });
    let river = River::with_config(config(&deaf)).serve();
    let conn = tunnel(&river);
    fill(conn.socket());
    conn.reset();
    ends(&river, "downstream");
    gate.open();

    let talking = Origin::with(|_, reply| {
        reply.head(101, &ACCEPT)?;
        fill(reply.socket());
        reply.reset()
    });
    let river = River::with_config(config(&talking)).serve();
    let _conn = tunnel(&river);
    ends(&river, "upstream");
    talking.wait_open_connections(PATIENCE, |open| open == 0);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[("upgrade", "other")], b"no"));
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        conn.send(OFFER);
        let response = conn.read_response("GET");
        assert_eq!((response.status, response.text().as_str(), response.closed), (200, "no", false));
        assert!(!response.fields.has("upgrade"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_required_upgrade_says_to_what() {
    let origin = Origin::with(|_, reply| {
        reply.respond(426, &[("connection", "upgrade"), ("upgrade", "websocket")], b"not like this")
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        let response = conn.get("/").expect_status(426);
        assert_eq!(response.fields.get("upgrade"), Some("websocket"));
        assert_eq!((response.fields.get("connection"), response.closed), (Some("upgrade"), false));
    }
}

#[test]
fn a_switch_that_was_not_asked_for_is_refused() {
    let refused = |request: &str, answer: &'static str| {
        let origin = Origin::with(move |_, reply| {
            reply.raw(answer.as_bytes())?;
            assert!(reply.read_some()?.is_empty(), "River ends it");
            reply.close();
            Ok(())
        });
        let river = proxy(&origin);
        let mut conn = Conn::open(river.web());
        conn.send(request);
        let response = conn.read_response("GET").expect_status(502);
        assert!(response.interim.is_empty());
        let line = river.wait_for_line("request failed", PATIENCE).text;
        assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
        origin.wait_open_connections(PATIENCE, |open| open == 0);
    };
    let accept = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    refused("GET / HTTP/1.1\r\nhost: a\r\n\r\n", accept);
    refused("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n", accept);
    refused("GET / HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", accept);
    refused("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", accept);
    refused(OFFER, "HTTP/1.1 101 Switching Protocols\r\n\r\n");
    refused(OFFER, "HTTP/1.0 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
}

#[test]
fn an_upgrade_in_the_middle_of_a_body_is_refused() {
    let origin = Origin::builder()
        .on_head(|_, reply| {
            reply.head(101, &ACCEPT)?;
            while !reply.read_some()?.is_empty() {}
            Ok(Next::Done)
        })
        .start();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 10\r\n\r\nfive.",
    );
    let response = conn.read_response("POST").expect_status(502);
    assert!(response.closed);
}

#[test]
fn connect_is_refused() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    for text in [
        "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\nbytes of the tunnel",
        "CONNECT /path HTTP/1.1\r\nhost: a:443\r\n\r\n",
        "CONNECT http://a/ HTTP/1.0\r\n\r\n",
    ] {
        let mut conn = Conn::open(river.web());
        conn.send(text);
        let response = conn.read_response("CONNECT").expect_status(501);
        assert!(response.closed);
        conn.finish();
        conn.expect_closed();
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_slow_end_of_a_tunnel_slows_the_other() {
    const MUCH: usize = 64 << 20;
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::with(move |_, reply| {
        reply.head(101, &ACCEPT)?;
        waiting.pass();
        let mut seen = 0;
        while seen < MUCH {
            seen += reply.read_some()?.len();
        }
        reply.raw(b"all")?;
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut conn = tunnel(&river);
    let socket::Socket::Tcp(stream) = conn.socket() else { panic!("not TCP") };
    let mut stream = stream.try_clone().unwrap();
    stream.set_nonblocking(true).unwrap();
    let block = vec![b'x'; 64 << 10];
    let mut sent = 0;
    let mut last = std::time::Instant::now();
    until("the tunnel is full", PATIENCE, || {
        while let Ok(count) = std::io::Write::write(&mut stream, &block) {
            sent += count;
            last = std::time::Instant::now();
            assert!(sent < MUCH, "River takes everything");
        }
        last.elapsed() > std::time::Duration::from_millis(300)
    });
    stream.set_nonblocking(false).unwrap();
    gate.open();
    while sent < MUCH {
        let count = block.len().min(MUCH - sent);
        std::io::Write::write_all(&mut stream, &block[..count]).unwrap();
        sent += count;
    }
    assert_eq!(conn.reader().exactly(3).unwrap(), b"all");
}
