//! Bodies: every framing in both directions, whole or visibly broken, and never collected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

/// Bytes in which a piece that is lost, doubled or moved shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 65_521) as u8).collect()
}

fn same(found: &[u8], expected: &[u8]) {
    let differ = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((found.len(), differ), (expected.len(), None));
}

#[test]
fn requests_by_length_and_chunked_arrive_as_they_were_sent() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[], b""));
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for (nth, length) in [0, 1, 100, 8191, 8192, 8193, 65_537].into_iter().enumerate() {
        let body = pattern(length);
        conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
        conn.send(&body);
        assert_eq!(conn.read_response("POST").status, 200);
        let request = &origin.wait_requests(2 * nth + 1, PATIENCE)[2 * nth];
        assert_eq!(request.fields.get("content-length"), Some(length.to_string().as_str()));
        assert!(!request.fields.has("transfer-encoding"));
        same(&request.body, &body);

        conn.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\ntrailer: x-sum\r\n\r\n");
        for chunk in body.chunks(4097) {
            conn.send(format!("{:X};ext=\"1\\\"\"\r\n", chunk.len()));
            conn.send(chunk);
            conn.send("\r\n");
        }
        conn.send("0\r\nX-Sum: 7\r\nContent-Length: 3\r\nHost: evil\r\n\r\n");
        assert_eq!(conn.read_response("PUT").status, 200);
        let request = &origin.wait_requests(2 * nth + 2, PATIENCE)[2 * nth + 1];
        assert_eq!(request.fields.get("transfer-encoding"), Some("chunked"));
        assert!(!request.fields.has("content-length"));
        assert_eq!(request.fields.get("trailer"), Some("x-sum"));
        assert_eq!(request.trailers.0, [("X-Sum".to_owned(), "7".to_owned())]);
        same(&request.body, &body);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn responses_by_length_and_chunked_arrive_as_they_were_sent() {
    let origin = Origin::with(|request, reply| {
        let (kind, length) = request.target[1..].split_once('/').unwrap();
        let body = pattern(length.parse().unwrap());
        match kind {
            "length" => reply.respond(200, &[], &body),
            _ => reply.respond_chunked(200, &[], &body.chunks(5000).collect::<Vec<_>>(), &[("x-sum", "9")]),
        }
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for length in [0, 1, 8191, 8192, 8193, 65_537, 1 << 20] {
        let plain = conn.get(&format!("/length/{length}"));
        assert_eq!(plain.fields.get("content-length"), Some(length.to_string().as_str()));
        same(&plain.body, &pattern(length));
        let chunked = conn.get(&format!("/chunked/{length}"));
        assert_eq!(chunked.fields.get("transfer-encoding"), Some("chunked"));
        assert_eq!(chunked.trailers.0, [("x-sum".to_owned(), "9".to_owned())]);
        same(&chunked.body, &pattern(length));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn responses_without_a_body() {
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        "/204" => reply.raw(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"),
        "/304" => reply.raw(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\netag: \"e\"\r\n\r\n"),
        "/head" => reply.respond(200, &[("x-a", "b")], &[b'x'; 1000]),
        "/head-chunked" => reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        "/head-bare" => reply.raw(b"HTTP/1.1 200 OK\r\n\r\n"),
        _ => reply.respond(200, &[], b""),
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        let none = conn.get("/204").expect_status(204);
        assert!(!none.fields.has("content-length"));
        let unchanged = conn.get("/304").expect_status(304);
        assert_eq!(unchanged.fields.get("content-length"), Some("1234"));
        conn.request("HEAD", "/head");
        let head = conn.read_response("HEAD");
        assert_eq!((head.fields.get("content-length"), head.fields.get("x-a")), (Some("1000"), Some("b")));
        for path in ["/head-chunked", "/head-bare"] {
            conn.request("HEAD", path);
            let head = conn.read_response("HEAD");
            assert!(head.status == 200 && !head.closed, "{head:?}");
        }
        let empty = conn.get("/else");
        assert_eq!((empty.fields.get("content-length"), empty.body.len()), (Some("0"), 0));
    }
    assert!(conn.is_quiet());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn what_ends_with_the_servers_connection_is_framed_anew() {
    let origin = Origin::with(|_, reply| {
        reply.close();
        reply.raw(b"HTTP/1.1 200 OK\r\n\r\n")?;
        reply.raw(&pattern(100_000))
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        let response = conn.get("/");
        assert_eq!(response.fields.get("transfer-encoding"), Some("chunked"));
        assert!(!response.closed);
        same(&response.body, &pattern(100_000));
    }
    let mut old = Conn::open(river.web());
    old.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let response = old.read_response("GET");
    assert_eq!(response.fields.get("connection"), Some("close"));
    same(&response.body, &pattern(100_000));
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    let origin = Origin::with(|request, reply| {
        match request.target.as_str() {
            "/length" => reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour")?,
            "/chunked" => reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n")?,
            "/chunk" => reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nfour")?,
            "/malformed" => {
                reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfourX\r\n0\r\n\r\n")?
            }
            _ => reply.raw(b"HTTP/1.1 200 OK\r\n\r\nfour")?,
        }
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    for path in ["/length", "/chunked", "/chunk", "/malformed"] {
        let mut conn = Conn::open(river.web());
        conn.request("GET", path);
        let error = conn.try_read_response("GET").unwrap_err();
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{path}: {error}");
        river.wait_for_line(&format!("GET {path} HTTP/1.1"), PATIENCE);
    }
    // An HTTP/1.0 client knows the end only by the connection's, which must not be one in order.
    for path in ["/chunked", "/chunk", "/malformed"] {
        let mut old = Conn::open(river.web());
        old.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        let error = old.try_read_response("GET").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{path}: {error}");
    }
}

#[test]
fn a_response_that_is_reset_does_not_look_whole() {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::with(move |request, reply| {
        match request.target.as_str() {
            "/chunked" => reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n")?,
            _ => reply.raw(b"HTTP/1.1 200 OK\r\n\r\nfour")?,
        }
        waiting.pass();
        reply.reset()
    });
    let river = proxy(&origin);
    let mut conns: Vec<Conn> =
        ["/chunked HTTP/1.1", "/close HTTP/1.1", "/chunked HTTP/1.0", "/close HTTP/1.0"]
            .into_iter()
            .map(|line| {
                let mut conn = Conn::open(river.web());
                conn.send(format!("GET {line}\r\nhost: a\r\n\r\n"));
                conn.read_head();
                conn.reader().some().unwrap();
                conn
            })
            .collect();
    gate.open();
    for (nth, conn) in conns.iter_mut().enumerate() {
        match conn.reader().until_end() {
            // Without the last chunk.
            Ok(rest) if nth < 2 => assert!(!rest.ends_with(b"0\r\n\r\n"), "{rest:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            Ok(rest) => panic!("{nth}: an end in order after {rest:?}"),
        }
    }
}

/// To a client of HTTP/1.0, a body without a length ends where its connection ends in order, whoever ends it.
#[test]
fn a_response_that_river_cuts_does_not_look_whole() {
    let origin = Origin::with(|request, reply| {
        reply.raw(b"HTTP/1.1 200 OK\r\n\r\nfour")?;
        if request.target == "/large" {
            let block = vec![b'x'; 64 << 10];
            while reply.raw(&block).is_ok() {}
        }
        while !reply.read_some()?.is_empty() {}
        Ok(())
    });
    let start = |timeouts: &str| {
        let config = Config::proxy(&origin).system("workers: 1, drain_timeout: \"200ms\"");
        River::with_config(config.with(&format!("timeouts: ({timeouts})"))).serve()
    };
    let begun = |river: &Running, path: &str| {
        let mut conn = Conn::open(river.web());
        conn.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
        conn.read_head();
        conn
    };
    for signal in [Signal::TERM, Signal::INT] {
        let river = start("");
        let mut conn = begun(&river, "/");
        river.signal(signal);
        river.wait_exit(PATIENCE);
        conn.expect_reset();
    }
    let river = start("send: \"200ms\"");
    let mut conn = begun(&river, "/large");
    river.wait_for_line("took nothing", PATIENCE);
    conn.expect_reset();
}

#[test]
fn both_directions_flow_at_once() {
    // The server answers while it reads, so neither side can be finished first.
    let origin = Origin::builder()
        .on_head(|request, reply| {
            let mut left: usize = request.fields.get("content-length").unwrap().parse().unwrap();
            reply.head(200, &[("content-length", &left.to_string())])?;
            while left > 0 {
                let bytes = reply.read_some()?;
                left -= bytes.len();
                reply.raw(&bytes)?;
            }
            Ok(Next::Done)
        })
        .start();
    let river = proxy(&origin);
    let body = pattern(8 << 20);
    let mut conn = Conn::open(river.web());
    let mut sender = rustix::io::dup(conn.socket()).map(std::net::TcpStream::from).unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || {
        write!(sender, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", sent.len()).unwrap();
        sender.write_all(&sent).unwrap();
    });
    same(&conn.read_response("POST").body, &body);
    sending.join().unwrap();
}

/// A server that answers before it has the request: its response goes on until it has seen the request's end.
fn answering_early() -> Origin {
    Origin::builder()
        .on_head(|_, reply| {
            reply.begin_chunked(200, &[])?;
            reply.chunk(b"begin ")?;
            while !reply.read_some()?.is_empty() {}
            reply.chunk(b"end")?;
            reply.end(&[])?;
            Ok(Next::Done)
        })
        .start()
}

/// A client whose request is under way while its response has begun.
fn half_way(river: &Running) -> Conn {
    let mut conn = Conn::open(river.web());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(conn.read_head().1, 200);
    assert_eq!(conn.reader().chunk().unwrap(), b"begin ");
    conn
}

#[test]
fn a_request_that_goes_wrong_during_its_response_ends_it() {
    let origin = answering_early();
    // A chunk that is none; and nothing, for too long.
    for (bytes, timeouts, status) in [("zz\r\n", "", "400"), ("", "body: \"300ms\"", "408")] {
        let config = Config::proxy(&origin).system("workers: 1").with(&format!("timeouts: ({timeouts})"));
        let river = River::with_config(config).serve();
        let mut conn = half_way(&river);
        conn.send(bytes);
        let line = river.wait_for_line("request failed", PATIENCE).text;
        assert_eq!(log::field(&line, "status").as_deref(), Some(status), "{line}");
        assert_eq!(log::field(&line, "blame").as_deref(), Some("downstream"), "{line}");
        conn.expect_gone_within(PATIENCE);
        origin.wait_open_connections(PATIENCE, |open| open == 0);
    }
}

#[test]
fn a_request_that_breaks_off_during_its_response_leaves_it_whole() {
    let origin = answering_early();
    let river = proxy(&origin);
    let mut conn = half_way(&river);
    // As a client does that has seen enough (RFC 9112 §9.5). The server is told.
    conn.finish();
    assert_eq!(conn.reader().chunk().unwrap(), b"end");
    assert!(conn.reader().chunk().unwrap().is_empty());
    conn.reader().trailers().unwrap();
    conn.expect_closed();
}

/// Writes until nothing more is taken for `quiet`; the number of bytes that were taken.
fn fill(socket: &support::socket::Socket, quiet: Duration, most: usize) -> usize {
    let block = vec![b'x'; 64 << 10];
    match socket {
        support::socket::Socket::Tcp(stream) => stream.set_write_timeout(Some(quiet)).unwrap(),
        support::socket::Socket::Unix(stream) => stream.set_write_timeout(Some(quiet)).unwrap(),
        support::socket::Socket::Tls(_) => panic!("what TLS has taken is not what its peer has"),
    }
    let mut taken = 0;
    while taken < most {
        match (&mut &*socket).write(&block[..block.len().min(most - taken)]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    taken
}

/// More than the kernel's buffers of both connections hold.
const MORE_THAN_BUFFERED: usize = 64 << 20;

#[test]
fn a_slow_client_slows_the_server() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counting = taken.clone();
    let origin = Origin::with(move |_, reply| {
        reply.head(200, &[("content-length", &MORE_THAN_BUFFERED.to_string())])?;
        let block = vec![b'x'; 64 << 10];
        for _ in 0..MORE_THAN_BUFFERED / block.len() {
            reply.raw(&block)?;
            counting.fetch_add(block.len(), Ordering::SeqCst);
        }
        Ok(())
    });
    let river = proxy(&origin);
    let before = resident(river.pid());
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    conn.read_head();
    // The stall itself has no event: it is nothing happening, for a while.
    let mut last = (0, std::time::Instant::now());
    until("the server's writes stall", PATIENCE, || {
        let now = taken.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_millis(300)
    });
    assert!(last.0 < MORE_THAN_BUFFERED / 2, "{} bytes were taken from the server", last.0);
    let grown = resident(river.pid()).saturating_sub(before);
    assert!(grown < 4 << 20, "River grew by {grown} bytes");
    let body = conn.reader().exactly(MORE_THAN_BUFFERED).unwrap();
    assert!(body.iter().all(|byte| *byte == b'x'));
    assert_eq!(conn.get("/").body.len(), MORE_THAN_BUFFERED);
}

#[test]
fn a_slow_server_slows_the_client() {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::builder()
        .on_head(move |_, _| {
            waiting.pass();
            Ok(Next::Read)
        })
        .answer(|request, reply| reply.respond(200, &[], request.body.len().to_string().as_bytes()))
        .start();
    let river = proxy(&origin);
    let before = resident(river.pid());
    let mut conn = Conn::open(river.web());
    conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MORE_THAN_BUFFERED}\r\n\r\n"));
    let taken = fill(conn.socket(), Duration::from_millis(300), MORE_THAN_BUFFERED);
    assert!(taken < MORE_THAN_BUFFERED / 2, "{taken} bytes were taken from the client");
    let grown = resident(river.pid()).saturating_sub(before);
    assert!(grown < 4 << 20, "River grew by {grown} bytes");
    gate.open();
    let rest = MORE_THAN_BUFFERED - taken;
    assert_eq!(fill(conn.socket(), PATIENCE, rest), rest);
    assert_eq!(conn.read_response("POST").text(), MORE_THAN_BUFFERED.to_string());
}

/// Bytes of memory that a process holds and shares with no file.
fn resident(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}
