//! HTTP/2 to servers over TLS, and what becomes of a request where the server chooses the protocol (RFC 7301).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;
use support::tls::{Authority, NAME, VERSIONS};
use support::*;

/// A server's TLS, which chooses the first of `alpn` that is offered.
fn server(authority: &Authority, alpn: &[&str]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(&authority.server(&VERSIONS));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// River with one worker in front of a server that `authority` vouches for.
fn river(authority: &Authority, address: SocketAddr, proto: &str) -> Running {
    river_with(authority, address, proto, "", "")
}

/// The same, with more settings of the connectors and of the service, each with a comma before it.
fn river_with(
    authority: &Authority,
    address: SocketAddr,
    proto: &str,
    connectors: &str,
    service: &str,
) -> Running {
    let dir = Dir::new();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let server = format!("(addr: \"{address}\", tls_sni: {NAME:?}, tls_ca: \"ca.pem\", proto: {proto})");
    let settings = format!("connectors: (servers: [{server}]{connectors}){service}");
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &settings);
    River::in_dir(dir).config(config).serve()
}

fn echo(authority: &Authority, alpn: &[&str]) -> H2Origin {
    H2Origin::secure(server(authority, alpn), |mut exchange| async move {
        exchange.read().await;
        let body = std::mem::take(&mut exchange.request.body);
        exchange.respond(200, &[], &body).await;
    })
}

#[test]
fn a_server_that_chooses_http_2_is_spoken_to_in_it_on_one_connection() {
    for proto in ["H2Only", "H2OrH1"] {
        let authority = Authority::new("servers");
        let origin = echo(&authority, &["h2", "http/1.1"]);
        let river = river(&authority, origin.address(), proto);
        let mut conns: Vec<_> = (0..8).map(|_| Conn::open(river.web())).collect();
        for length in [0, 10, 200_000] {
            let body = vec![b'b'; length];
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
            for conn in &mut conns {
                conn.send([head.as_bytes(), &body].concat());
            }
            for conn in &mut conns {
                assert!(conn.read_response("POST").expect_status(200).body == body, "{length} bytes");
            }
        }
        assert_eq!(origin.connections(), 1);
        assert!(origin.wait_requests(24).iter().all(|request| request.scheme == "https" && request.whole));
    }
}

#[test]
fn a_server_that_chooses_http_1_is_spoken_to_in_it() {
    for alpn in [&["http/1.1"][..], &[]] {
        let authority = Authority::new("servers");
        let origin = Origin::builder().start_tls(server(&authority, alpn));
        let Target::Tcp(address) = *origin.target() else { panic!("an address") };
        let river = river(&authority, address, "H2OrH1");
        let mut conns: Vec<_> = (0..4).map(|_| Conn::open(river.web())).collect();
        for _ in 0..3 {
            conns.iter_mut().for_each(|conn| conn.request("GET", "/x"));
            for conn in &mut conns {
                assert_eq!(conn.read_response("GET").expect_status(200).text(), "GET /x\n");
            }
        }
        // They are kept and used again.
        assert!(origin.connections() <= 4, "{} connections", origin.connections());
    }
}

#[test]
fn a_server_that_is_to_speak_http_2_and_does_not_gets_no_request() {
    let authority = Authority::new("servers");
    let origin = Origin::builder().start_tls(server(&authority, &[]));
    let Target::Tcp(address) = *origin.target() else { panic!("an address") };
    let river = river(&authority, address, "H2Only");
    assert_eq!(get(river.web(), "/").status, 502);
    river.wait_for_line("did not choose HTTP/2 over TLS", PATIENCE);
    assert!(origin.requests().is_empty());
}

#[test]
fn requests_that_wait_for_a_connection_that_is_not_made_in_time_are_told_so() {
    let authority = Authority::new("servers");
    // Its kernel accepts, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let river = river_with(&authority, address, "H2OrH1", "", ", timeouts: (connect: \"1s\")");
    let mut conns: Vec<_> = (0..4).map(|_| Conn::open(river.web())).collect();
    conns.iter_mut().for_each(|conn| conn.request("GET", "/"));
    let statuses: Vec<_> = conns.iter_mut().map(|conn| conn.read_response("GET").status).collect();
    assert_eq!(statuses, [504; 4]);
}

/// Forwards what comes on one connection to `address`, and back.
fn forward(near: TcpStream, address: SocketAddr) {
    let far = TcpStream::connect(address).unwrap();
    for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

#[test]
fn a_server_that_turns_to_http_2_gets_no_more_connections_than_it_may_have() {
    let authority = Authority::new("servers");
    let before = Origin::builder()
        .answer(|_, reply| reply.respond(200, &[("Connection", "close")], b"1"))
        .start_tls(server(&authority, &["http/1.1"]));
    let Target::Tcp(before_address) = *before.target() else { panic!("an address") };
    let after = echo(&authority, &["h2", "http/1.1"]);
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let river = river_with(&authority, address, "H2OrH1", ", h2: (max_connections: 1)", "");
    let after_address = after.address();
    let forwarding = thread::spawn(move || {
        forward(front.accept().unwrap().0, before_address);
        // Each of the four has begun before the server turns out to speak HTTP/2.
        let all: Vec<_> = (0..4).map(|_| front.accept().unwrap().0).collect();
        all.into_iter().for_each(|near| forward(near, after_address));
    });
    assert_eq!(get(river.web(), "/").expect_status(200).text(), "1");
    let mut conns: Vec<_> = (0..4).map(|_| Conn::open(river.web())).collect();
    conns.iter_mut().for_each(|conn| conn.request("GET", "/"));
    conns.iter_mut().for_each(|conn| drop(conn.read_response("GET").expect_status(200)));
    forwarding.join().unwrap();
    assert_eq!(after.connections(), 4);
    after.wait_open(|open| open == 1);
}

#[test]
fn a_websocket_goes_in_http_1_where_the_server_does_not_allow_it_in_http_2() {
    const ACCEPT: [(&str, &str); 3] =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "v")];
    let authority = Authority::new("servers");
    let in_http_2 = echo(&authority, &["h2", "http/1.1"]);
    // It would choose HTTP/2 if it were offered.
    let in_http_1 = Origin::builder()
        .answer(|request, reply| match &*request.target {
            "/chat" => reply.tunnel(&ACCEPT),
            _ => reply.respond(403, &[], b"no"),
        })
        .start_tls(server(&authority, &["h2", "http/1.1"]));
    let Target::Tcp(http_1_address) = *in_http_1.target() else { panic!("an address") };
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let river = river(&authority, front.local_addr().unwrap(), "H2OrH1");
    let http_2_address = in_http_2.address();
    let forwarding = thread::spawn(move || {
        forward(front.accept().unwrap().0, http_2_address);
        (0..2).for_each(|_| forward(front.accept().unwrap().0, http_1_address));
    });
    let ask = |path: &str| {
        let mut conn = Conn::open(river.web());
        conn.send(format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n"
        ));
        conn
    };
    let mut tunnels = [ask("/chat"), ask("/chat")];
    for conn in &mut tunnels {
        assert_eq!(conn.read_head().1, 101);
        conn.send("hello");
        assert_eq!(conn.reader().exactly(5).unwrap(), b"hello");
    }
    forwarding.join().unwrap();
    // Everything else goes in HTTP/2.
    assert_eq!(get(river.web(), "/x").status, 200);
    assert_eq!((in_http_2.connections(), in_http_1.connections()), (1, 2));
    assert_eq!(in_http_2.wait_requests(1)[0].path, "/x");
}

#[test]
fn a_websocket_that_leaves_for_http_1_leaves_its_turn_to_others() {
    let authority = Authority::new("servers");
    let (go, held) = smol::channel::unbounded::<()>();
    let (holds, arrived) = smol::channel::unbounded();
    let in_http_2 = H2Origin::secure(server(&authority, &["h2", "http/1.1"]), move |mut exchange| {
        let (held, holds) = (held.clone(), holds.clone());
        async move {
            exchange.read().await;
            if exchange.request.path.starts_with("/held") {
                holds.send(()).await.unwrap();
                held.recv().await.unwrap();
            }
            exchange.respond(200, &[], b"done").await;
        }
    });
    let in_http_1 = Origin::builder()
        .answer(|_, reply| reply.respond(403, &[], b"no"))
        .start_tls(server(&authority, &["h2", "http/1.1"]));
    let Target::Tcp(http_1_address) = *in_http_1.target() else { panic!("an address") };
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    let river = river_with(&authority, address, "H2OrH1", ", h2: (max_connections: 1, max_streams: 1)", "");
    let http_2_address = in_http_2.address();
    let forwarding = thread::spawn(move || {
        forward(front.accept().unwrap().0, http_2_address);
        forward(front.accept().unwrap().0, http_1_address);
    });
    // Connections that have had a response are heard in the order in which they ask.
    let mut conns: Vec<_> = (0..4).map(|_| Conn::open(river.web())).collect();
    for conn in &mut conns {
        conn.request("GET", "/before");
        conn.read_response("GET").expect_status(200);
    }
    conns[0].request("GET", "/held/first");
    arrived.recv_blocking().unwrap();
    conns[1].request("GET", "/held/second");
    let websocket = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k";
    conns[2].send(format!("GET /chat HTTP/1.1\r\nhost: a\r\n{websocket}\r\n\r\n"));
    conns[3].request("GET", "/last");
    // The second's turn comes, then the WebSocket's, which goes elsewhere.
    for held in conns.iter_mut().take(2) {
        go.send_blocking(()).unwrap();
        assert_eq!(held.read_response("GET").expect_status(200).text(), "done");
    }
    conns[2].read_response("GET").expect_status(403);
    assert_eq!(conns[3].read_response("GET").expect_status(200).text(), "done");
    forwarding.join().unwrap();
    assert_eq!((in_http_2.connections(), in_http_1.connections()), (1, 1));
}
