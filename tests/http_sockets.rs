//! The kinds of sockets on either side: IPv4, IPv6, Unix.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use support::h2::Frames;
use support::*;

/// The error code of a stream that its client no longer wants (RFC 9113 §7).
const CANCEL: u32 = 8;

/// A large body goes there and back, the connections are kept, a half-closed client is answered.
fn exchanges(target: Target, origin: &Origin) {
    let body: Vec<u8> = (0..3 << 20).map(|at| (at % 251) as u8).collect();
    let mut conn = Conn::open(target);
    for nth in 0..3 {
        conn.send(format!("POST /{nth} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()));
        conn.send(&body);
        let response = conn.read_response("POST");
        assert!(response.body.starts_with(format!("POST /{nth}\n").as_bytes()));
        assert!(response.body.ends_with(&body));
    }
    conn.request("GET", "/last");
    conn.finish();
    assert_eq!(conn.read_response("GET").text(), "GET /last\n");
    conn.expect_closed_within(SOON);
    assert_eq!((origin.requests().len(), origin.connections()), (4, 1));
}

#[test]
fn unix_to_unix() {
    let dir = Dir::new();
    let (web, app) = (dir.join("web.sock"), dir.join("app.sock"));
    let origin = Origin::builder().start_unix(&app);
    let config = Config::new().system("workers: 1").service(
        "web",
        &["unix:web.sock"],
        &config::connectors(&[app.as_path().into()]),
    );
    let river = River::in_dir(dir).config(config).serve();
    assert_eq!(river.listener("web", 0).address, format!("unix:{}", web.display()));
    exchanges(web.as_path().into(), &origin);
    let request = &origin.requests()[0];
    // Such a client has no address, and what it says of one is no better.
    assert!(!request.fields.has("x-forwarded-for"));
    let mut conn = Conn::open(web.as_path());
    conn.send("GET /old HTTP/1.0\r\nx-forwarded-for: 10.0.0.1\r\n\r\n");
    assert_eq!(conn.read_response("GET").text(), "GET /old\n");
    let request = &origin.requests()[4];
    assert!(!request.fields.has("x-forwarded-for"));
    // A path is no host.
    assert_eq!(request.fields.get("host"), Some("localhost"));
}

#[test]
fn tcp_to_unix_and_back() {
    let dir = Dir::new();
    let (web, app) = (dir.join("web.sock"), dir.join("app.sock"));
    let (over_unix, over_tcp) = (Origin::builder().start_unix(&app), Origin::echo());
    let config = Config::new()
        .system("workers: 1")
        .service("in", &["127.0.0.1:0"], &config::connectors(&[app.as_path().into()]))
        .service("out", &["unix:web.sock"], &config::connectors(&[over_tcp.target().clone()]));
    let river = River::in_dir(dir).config(config).serve();
    exchanges(river.address("in", 0).into(), &over_unix);
    exchanges(web.as_path().into(), &over_tcp);
}

#[test]
fn ipv6_on_both_sides() {
    let origin = Origin::builder().start_at("[::1]:0".parse().unwrap());
    let config = Config::new().system("workers: 1").service(
        "web",
        &["[::1]:0"],
        &config::connectors(&[origin.target().clone()]),
    );
    let river = River::with_config(config).serve();
    let address = river.web();
    assert!(address.is_ipv6());
    exchanges(address.into(), &origin);
    assert_eq!(origin.requests()[0].fields.get("x-forwarded-for"), Some("::1"));
    let mut old = Conn::open(address);
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.read_response("GET").status, 200);
    assert_eq!(origin.requests()[4].fields.get("host"), Some(origin.address().to_string().as_str()));
}

#[test]
fn a_unix_client_that_leaves_is_noticed() {
    let dir = Dir::new();
    let web = dir.join("web.sock");
    let origin = Origin::with(|_, reply| {
        while !reply.read_some()?.is_empty() {}
        reply.close();
        Ok(())
    });
    let config = Config::new().system("workers: 1").service(
        "web",
        &["unix:web.sock"],
        &config::connectors(&[origin.target().clone()]),
    );
    let _river = River::in_dir(dir).config(config).serve();
    let mut conn = Conn::open(web.as_path());
    conn.request("GET", "/");
    origin.wait_requests(1, PATIENCE);
    drop(conn);
    origin.wait_open_connections(SOON, |open| open == 0);
}

/// A server on a Unix socket that accepts nobody yet, and the connections that fill its backlog.
fn busy(path: &Path) -> (UnixListener, Vec<OwnedFd>) {
    let listener = UnixListener::bind(path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = SocketAddrUnix::new(path).unwrap();
    let mut waiting = Vec::new();
    loop {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        match rustix::net::connect(&socket, &address) {
            Ok(()) => waiting.push(socket),
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                return (listener, waiting);
            }
        }
    }
}

/// River before such a server, of the given connect time-out.
fn before_busy(dir: Arc<Dir>, app: &Path, connect: &str) -> Running {
    let settings = config::connectors(&[app.into()]);
    let service = format!(
        "listeners: [(bind: \"127.0.0.1:0\", offer_h2: true)], {settings}, timeouts: (connect: \"{connect}\")"
    );
    River::in_dir(dir).config(Config::new().system("workers: 1").service_text("web", &service)).serve()
}

#[test]
fn room_in_the_backlog_of_a_unix_server_is_waited_for() {
    let dir = Dir::new();
    let app = dir.join("app.sock");
    let (listener, waiting) = busy(&app);
    let river = before_busy(dir, &app, "300s");
    let before = river.fds().len();
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    until("River connects", PATIENCE, || river.fds().len() == before + 2);
    for _ in waiting {
        listener.accept().unwrap();
    }
    let (mut server, _) = listener.accept().unwrap();
    let mut server_reads = raw::Reader::new(server.try_clone().unwrap());
    assert_eq!(server_reads.head().unwrap().unwrap().start, "GET / HTTP/1.1");
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    assert_eq!(conn.read_response("GET").expect_status(200).text(), "ok");
}

#[test]
fn a_full_backlog_of_a_unix_server_is_waited_for_no_longer_than_the_connect_time_out() {
    let dir = Dir::new();
    let app = dir.join("app.sock");
    let (_listener, _waiting) = busy(&app);
    let river = before_busy(dir, &app, "50ms");
    support::get(river.web(), "/").expect_status(504);
}

#[test]
fn a_client_that_leaves_while_river_connects_for_it_is_noticed() {
    let dir = Dir::new();
    let app = dir.join("app.sock");
    let (_listener, _waiting) = busy(&app);
    let river = before_busy(dir, &app, "300s");
    let before = river.fds().len();
    let has_sockets =
        |count| until("the sockets are as many", PATIENCE, || river.fds().len() == before + count);
    let mut http1 = Conn::open(river.web());
    http1.request("GET", "/");
    has_sockets(2);
    let mut http2 = Frames::open(river.web());
    http2.get(1, "/");
    has_sockets(4);
    http2.reset(1, CANCEL);
    has_sockets(3);
    http1.reset();
    has_sockets(1);
}
