//! The kinds of sockets on either side: IPv4, IPv6, Unix.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::*;

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
