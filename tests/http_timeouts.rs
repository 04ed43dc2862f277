//! Time-outs: each ends exactly what it is for, with the status and the blame that belong to it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use support::log::field;
use support::*;

/// The time-out under test.
const SHORT: Duration = Duration::from_millis(300);

fn proxy(origin: &Target, timeouts: &str) -> Running {
    let config = Config::new()
        .system("workers: 1")
        .service("web", &["127.0.0.1:0"], &config::connectors(std::slice::from_ref(origin)))
        .with(&format!("timeouts: ({timeouts})"));
    River::with_config(config).serve()
}

/// The log line of a failure, which must be about `path` and say `status` and `blame`; its `why`.
#[track_caller]
fn failed(river: &Running, status: u16, blame: &str) -> String {
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert_eq!(field(&line, "status"), Some(status.to_string()), "{line}");
    assert_eq!(field(&line, "blame").as_deref(), Some(blame), "{line}");
    field(&line, "why").unwrap()
}

/// That it took the time-out, and not much more than that.
#[track_caller]
fn took_short(begin: Instant) {
    let taken = begin.elapsed();
    assert!(taken >= SHORT - Duration::from_millis(5), "{taken:?}");
    assert!(taken < SHORT + SOON, "{taken:?}");
}

#[test]
fn a_head_that_does_not_end() {
    let origin = Origin::echo();
    let river = proxy(origin.target(), "head: \"300ms\"");
    let mut conn = Conn::open(river.web());
    // A first request in time; the second is late, although bytes of it go on coming.
    assert_eq!(conn.get("/").status, 200);
    let begin = Instant::now();
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nx-slow: ");
    while !conn.socket().is_readable() {
        let _ = conn.try_send(b"a");
        std::thread::park_timeout(Duration::from_millis(5));
        assert!(begin.elapsed() < PATIENCE);
    }
    let response = conn.read_response("GET").expect_status(408);
    assert!(response.closed);
    took_short(begin);
    conn.finish();
    conn.expect_gone_within(SOON);
    assert!(failed(&river, 408, "downstream").contains("head"));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_connection_without_a_request_is_closed_in_silence() {
    let origin = Origin::echo();
    let river = proxy(origin.target(), "head: \"300ms\", idle: \"20s\"");
    let begin = Instant::now();
    let mut conn = Conn::open(river.web());
    conn.expect_closed();
    took_short(begin);
    assert!(!river.log().contains("request failed"));
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    let origin = Origin::echo();
    let river = proxy(origin.target(), "head: \"20s\", idle: \"300ms\"");
    let mut conn = Conn::open(river.web());
    for _ in 0..2 {
        assert_eq!(conn.get("/").status, 200);
    }
    let begin = Instant::now();
    conn.expect_closed();
    took_short(begin);
    assert!(!river.log().contains("request failed"));
}

#[test]
fn a_body_that_does_not_come() {
    for framing in ["content-length: 10\r\n\r\nfive.", "transfer-encoding: chunked\r\n\r\n5\r\nfive.\r\n"] {
        let origin = Origin::echo();
        let river = proxy(origin.target(), "body: \"300ms\"");
        let mut conn = Conn::open(river.web());
        let begin = Instant::now();
        conn.send(format!("POST /b HTTP/1.1\r\nhost: a\r\n{framing}"));
        assert!(conn.read_response("POST").expect_status(408).closed);
        took_short(begin);
        assert!(failed(&river, 408, "downstream").contains("body"));
        origin.wait_open_connections(PATIENCE, |open| open == 0);
        assert_eq!(origin.requests().len(), 0);
    }
}

#[test]
fn a_body_that_comes_slowly_is_no_failure() {
    let origin = Origin::echo();
    let river = proxy(origin.target(), "body: \"300ms\", upstream_read: \"300ms\"");
    let mut conn = Conn::open(river.web());
    conn.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n");
    // Twice the time-outs in all.
    for _ in 0..12 {
        std::thread::park_timeout(Duration::from_millis(50));
        conn.send("x");
    }
    assert_eq!(conn.read_response("POST").text(), "POST /b\nxxxxxxxxxxxx");
}

#[test]
fn a_body_that_nobody_asks_for() {
    let origin = Origin::builder()
        .on_head(|request, reply| {
            if request.target == "/asks" {
                reply.interim(100, &[])?;
            }
            Ok(Next::Read)
        })
        .start();
    let expecting = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n{body}")
    };
    // The client waits for 100 as it may, so it is the server that keeps it waiting.
    let river = proxy(origin.target(), "body: \"20s\", upstream_read: \"300ms\"");
    let mut conn = Conn::open(river.web());
    let begin = Instant::now();
    conn.send(expecting("/silent", ""));
    assert!(conn.read_response("POST").expect_status(504).closed);
    took_short(begin);
    failed(&river, 504, "upstream");
    // One that has been asked, or has begun without, is waited for itself.
    for (path, body) in [("/asks", ""), ("/silent", "five.")] {
        let river = proxy(origin.target(), "body: \"300ms\", upstream_read: \"20s\"");
        let mut conn = Conn::open(river.web());
        let begin = Instant::now();
        conn.send(expecting(path, body));
        assert!(conn.read_response("POST").expect_status(408).closed);
        took_short(begin);
        failed(&river, 408, "downstream");
    }
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for_by_a_fixed_answer() {
    let config = Config::respond("ok").system("workers: 1").with("timeouts: (body: \"300ms\")");
    let river = River::with_config(config).serve();
    let mut conn = Conn::open(river.web());
    let begin = Instant::now();
    conn.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfive.");
    assert!(conn.read_response("POST").expect_status(408).closed);
    took_short(begin);
    failed(&river, 408, "downstream");
}

/// A TCP listener whose queue is full, so that connections to it are neither made nor refused.
fn never_connects() -> (std::net::TcpListener, Vec<TcpStream>) {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    listen(&fd, 0).unwrap();
    let listener = std::net::TcpListener::from(fd);
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue does not fill");
    }
    (listener, queued)
}

#[test]
fn a_server_that_does_not_take_the_connection() {
    let (listener, _queued) = never_connects();
    let address = listener.local_addr().unwrap();
    let river = proxy(&address.into(), "connect: \"300ms\"");
    let mut conn = Conn::open(river.web());
    let begin = Instant::now();
    let response = conn.get("/").expect_status(504);
    assert_eq!((response.text().as_str(), response.closed), ("504 Gateway Timeout\n", false));
    took_short(begin);
    let why = failed(&river, 504, "upstream");
    assert!(why.contains(&address.to_string()) && why.contains("connect"), "{why}");
}

#[test]
fn a_server_that_does_not_take_the_connection_is_passed_over() {
    let (listener, _queued) = never_connects();
    let origin = Origin::echo();
    let servers = [listener.local_addr().unwrap().into(), origin.target().clone()];
    let config = Config::new()
        .system("workers: 1")
        .service("web", &["127.0.0.1:0"], &config::connectors(&servers))
        .with("timeouts: (connect: \"300ms\")");
    let river = River::with_config(config).serve();
    let mut conn = Conn::open(river.web());
    for _ in 0..3 {
        assert_eq!(conn.get("/").status, 200);
    }
}

#[test]
fn a_server_that_does_not_respond() {
    let origin = Origin::builder()
        .answer(|request, reply| {
            if request.target == "/slow" {
                assert!(reply.read_some()?.is_empty(), "River ends it");
                reply.close();
                return Ok(());
            }
            reply.respond(200, &[], b"")
        })
        .start();
    let river = proxy(origin.target(), "upstream_read: \"300ms\"");
    let mut conn = Conn::open(river.web());
    // Over a fresh connection, and over one that was used before: it is not repeated either way.
    for nth in [1, 3] {
        let begin = Instant::now();
        conn.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(!conn.read_response("GET").expect_status(504).closed);
        took_short(begin);
        origin.wait_open_connections(PATIENCE, |open| open == 0);
        assert_eq!(origin.requests().len(), nth);
        assert_eq!(conn.get("/fast").status, 200);
    }
    assert!(failed(&river, 504, "upstream").contains("response"));
}

#[test]
fn a_response_that_does_not_go_on() {
    let origin = Origin::with(|request, reply| {
        reply.raw(match request.target.as_str() {
            "/length" => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.",
            _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfive.\r\n",
        })?;
        assert!(reply.read_some()?.is_empty(), "River ends it");
        reply.close();
        Ok(())
    });
    for path in ["/length", "/chunked"] {
        let river = proxy(origin.target(), "upstream_read: \"300ms\"");
        let mut conn = Conn::open(river.web());
        let begin = Instant::now();
        conn.request("GET", path);
        assert!(conn.try_read_response("GET").is_err());
        took_short(begin);
        failed(&river, 504, "upstream");
        origin.wait_open_connections(PATIENCE, |open| open == 0);
    }
}

/// More than the kernel's buffers of both connections hold.
const MORE_THAN_BUFFERED: usize = 64 << 20;

#[test]
fn a_server_that_does_not_take_the_body() {
    let gate = std::sync::Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::builder()
        .on_head(move |_, _| {
            waiting.pass();
            Ok(Next::Done)
        })
        .start();
    let river = proxy(origin.target(), "upstream_write: \"300ms\"");
    let mut conn = Conn::open(river.web());
    conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {MORE_THAN_BUFFERED}\r\n\r\n"));
    let socket::Socket::Tcp(stream) = conn.socket() else { panic!("not TCP") };
    let mut stream = stream.try_clone().unwrap();
    // It ends when River closes, for the rest of the body is taken by nobody.
    let sending = std::thread::spawn(move || {
        let block = vec![b'x'; 64 << 10];
        while stream.write_all(&block).is_ok() {}
    });
    assert!(conn.read_response("POST").expect_status(504).closed);
    assert!(failed(&river, 504, "upstream").contains("took nothing"));
    conn.socket().shutdown(std::net::Shutdown::Both).ok();
    sending.join().unwrap();
    gate.open();
}

#[test]
fn a_client_that_does_not_take_the_response() {
    let origin = Origin::with(|_, reply| {
        reply.head(200, &[("content-length", &MORE_THAN_BUFFERED.to_string())])?;
        let block = vec![b'x'; 64 << 10];
        for _ in 0..MORE_THAN_BUFFERED / block.len() {
            reply.raw(&block)?;
        }
        Ok(())
    });
    let river = proxy(origin.target(), "send: \"300ms\"");
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    assert!(failed(&river, 499, "downstream").contains("took nothing"));
    // Both ends are let go of.
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    // By a reset: what was written before would lie in the kernel's memory for as long as the client likes.
    let error = conn.try_read_response("GET").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
}

/// Much less than the third of a send buffer that has to be free before the kernel tells of room, in each time-out.
const SIP: usize = 64 << 10;

/// The kernel tells of room in its buffer late, so no word of it for a while is no sign of a peer that has stopped.
#[test]
fn a_client_that_takes_the_response_slowly() {
    const LENGTH: usize = 6 << 20;
    let origin = Origin::with(|_, reply| reply.respond(200, &[], &vec![b'x'; LENGTH]));
    let fixed = Config::new().system("workers: 1").service(
        "web",
        &["127.0.0.1:0"],
        &config::respond(&"x".repeat(LENGTH / 2)),
    );
    let forwarded = Config::proxy(&origin).system("workers: 1");
    for (config, length) in [(forwarded, LENGTH), (fixed, LENGTH / 2)] {
        let river = River::with_config(config.with("timeouts: (send: \"300ms\")")).serve();
        let mut conn = Conn::open(river.web());
        conn.request("GET", "/");
        conn.read_head();
        let begin = Instant::now();
        let mut left = length;
        while left > 0 {
            left -= conn.reader().exactly(left.min(SIP)).unwrap().len();
            std::thread::park_timeout(Duration::from_millis(25));
        }
        assert!(begin.elapsed() > 3 * SHORT, "too fast to show anything");
        assert_eq!(conn.get("/").status, 200);
    }
}

#[test]
fn a_server_that_takes_the_body_slowly() {
    const LENGTH: usize = 6 << 20;
    let origin = Origin::builder()
        .on_head(|_, reply| {
            let mut left = LENGTH;
            let mut before_rest = 0;
            while left > 0 {
                left -= reply.read_some()?.len();
                before_rest += 1;
                // 16 KiB are read at a time.
                if before_rest % 4 == 0 {
                    std::thread::park_timeout(Duration::from_millis(25));
                }
            }
            reply.respond(200, &[], b"all")?;
            Ok(Next::Done)
        })
        .start();
    let river = proxy(origin.target(), "upstream_write: \"300ms\"");
    let mut conn = Conn::open(river.web());
    conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"));
    conn.send(vec![b'x'; LENGTH]);
    assert_eq!(conn.read_response("POST").text(), "all");
}

#[test]
fn a_request_that_takes_too_long_in_all() {
    let origin = Origin::builder()
        .on_head(|request, reply| {
            if request.target == "/interim" {
                // Signs of life that are no response.
                for _ in 0..10 {
                    reply.interim(102, &[])?;
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            }
            Ok(Next::Read)
        })
        .answer(|_, reply| {
            assert!(reply.read_some()?.is_empty(), "River ends it");
            reply.close();
            Ok(())
        })
        .start();
    let river = proxy(origin.target(), "request: \"300ms\"");
    let mut conn = Conn::open(river.web());
    for path in ["/silent", "/interim"] {
        let begin = Instant::now();
        conn.request("GET", path);
        assert_eq!(conn.read_response("GET").status, 504, "{path}");
        took_short(begin);
    }
    failed(&river, 504, "upstream");
    // A client that trickles its body is told that it was the one.
    let begin = Instant::now();
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n");
    while !conn.socket().is_readable() {
        let _ = conn.try_send(b"x");
        std::thread::park_timeout(Duration::from_millis(10));
        assert!(begin.elapsed() < PATIENCE);
    }
    assert!(conn.read_response("POST").expect_status(408).closed);
    took_short(begin);
    river.wait_for_line("the client did not send all of its body within the request time-out", PATIENCE);
}

#[test]
fn a_response_that_has_begun_may_take_longer_than_a_request() {
    let origin = Origin::with(|_, reply| {
        reply.begin_chunked(200, &[])?;
        for _ in 0..12 {
            std::thread::park_timeout(Duration::from_millis(50));
            reply.chunk(b"x")?;
        }
        reply.end(&[])
    });
    let river = proxy(origin.target(), "request: \"300ms\", upstream_read: \"300ms\", send: \"300ms\"");
    assert_eq!(get(river.web(), "/").text(), "xxxxxxxxxxxx");
}

#[test]
fn a_tunnel_in_which_nothing_moves() {
    let origin = Origin::with(|_, reply| reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")]));
    let river = proxy(origin.target(), "tunnel: \"300ms\", upstream_read: \"100ms\", body: \"100ms\"");
    let mut conn = Conn::open(river.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(conn.read_head().1, 101);
    let mut last = Instant::now();
    for _ in 0..6 {
        std::thread::park_timeout(Duration::from_millis(100));
        last = Instant::now();
        conn.send("x");
        assert_eq!(conn.reader().exactly(1).unwrap(), b"x");
    }
    conn.expect_gone_within(PATIENCE);
    took_short(last);
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    assert!(failed(&river, 408, "downstream").contains("tunnel"));
}

#[test]
fn a_full_unix_socket_does_not_hang_a_request() {
    let dir = Dir::new();
    let path = dir.join("full.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    // The only connection that fits waits in the queue.
    let _queued = UnixStream::connect(&path).unwrap();
    let config = Config::new()
        .system("workers: 1")
        .service("web", &["127.0.0.1:0"], &config::connectors(&[path.as_path().into()]))
        .with("timeouts: (connect: \"300ms\")");
    let river = River::in_dir(dir).config(config).serve();
    let response = get(river.web(), "/");
    assert!(matches!(response.status, 502 | 504), "{response:?}");
    failed(&river, response.status, "upstream");
}
