//! Servers that are spoken to over TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::origin::Builder;
use support::tls::{Authority, NAME, VERSIONS};
use support::{Config, Conn, Dir, Origin, PATIENCE, River, Running, get};

/// River with one service `web` in front of `origin`, to whose server these settings are added; `ca.pem` is there.
fn before(origin: &Origin, authority: &Authority, settings: &str, more: &str) -> Running {
    let dir = Dir::new();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    in_dir(dir, origin, settings, more).serve()
}

fn in_dir(dir: Arc<Dir>, origin: &Origin, settings: &str, more: &str) -> River {
    let server = format!("(addr: \"{}\", {settings})", origin.target());
    let config =
        Config::new().service("web", &["127.0.0.1:0"], &format!("connectors: (servers: [{server}]){more}"));
    River::in_dir(dir).config(config)
}

const TRUSTED: &str = "tls_sni: \"river.test\", tls_ca: \"ca.pem\"";

#[test]
fn requests_go_to_servers_of_both_versions_and_their_connections_are_used_again() {
    let authority = Authority::new("authority");
    for version in VERSIONS {
        let origin = Origin::builder().start_tls(authority.server(&[version]));
        let river = before(&origin, &authority, TRUSTED, "");
        let mut conn = Conn::open(river.web());
        for nth in 0..5 {
            assert_eq!(conn.get(&format!("/{nth}")).expect_status(200).text(), format!("GET /{nth}\n"));
        }
        let body: Vec<u8> = (0..2_000_000).map(|at: usize| (at * 7 + at / 251) as u8).collect();
        conn.send(format!("POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()));
        conn.send(&body);
        assert!(conn.read_response("POST").expect_status(200).body.ends_with(&body));
        conn.get("/again").expect_status(200);
        // Its tickets came behind the first response at the latest, and made it no stale one.
        assert_eq!(origin.connections(), 1, "{version:?}");
    }
}

#[test]
fn new_connections_resume_the_session_of_the_first() {
    let authority = Authority::new("authority");
    let resumed = Arc::new(AtomicUsize::new(0));
    let counted = resumed.clone();
    let origin = Origin::builder()
        .answer(move |request, reply| {
            if reply.socket().tls().session().handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let _ = request;
            reply.close();
            reply.respond(200, &[("connection", "close")], b"ok")
        })
        .start_tls(authority.server(&VERSIONS));
    let river = before(&origin, &authority, TRUSTED, "");
    for _ in 0..4 {
        get(river.web(), "/").expect_status(200);
    }
    assert_eq!(origin.connections(), 4);
    assert_eq!(resumed.load(Ordering::SeqCst), 3);
}

/// The status and the log line of a request that does not get to its server.
fn refused(river: &Running) -> String {
    let mark = river.mark();
    get(river.web(), "/").expect_status(502);
    river.wait_line_after(mark, "request failed").text
}

#[test]
fn servers_that_are_not_who_they_should_be_get_no_request() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let origin = Origin::builder().start_tls(authority.server(&VERSIONS));
    let river = before(&origin, &stranger, TRUSTED, "");
    let line = refused(&river);
    assert!(line.contains("certificate") && line.contains("UnknownIssuer"), "{line}");
    let river = before(&origin, &authority, "tls_sni: \"other.test\", tls_ca: \"ca.pem\"", "");
    let line = refused(&river);
    assert!(line.contains("certificate") && line.contains("other.test"), "{line}");
    // The system does not know the authority either, if it knows any.
    let dir = Dir::new();
    std::fs::write(dir.join("ca.pem"), stranger.pem()).unwrap();
    let system = dir.join("ca.pem").display().to_string();
    let river = in_dir(dir, &origin, "tls_sni: \"river.test\"", "").env("SSL_CERT_FILE", &system).serve();
    assert!(refused(&river).contains("UnknownIssuer"));
    assert!(origin.requests().is_empty());
    // Plain HTTP is no TLS.
    let plain = Origin::echo();
    let river = before(&plain, &authority, TRUSTED, ", timeouts: (connect: \"1s\")");
    get(river.web(), "/");
    river.wait_for_line("request failed", PATIENCE);
    assert!(plain.requests().is_empty());
}

#[test]
fn the_systems_roots_vouch_for_servers_where_no_others_are_named() {
    let authority = Authority::new("authority");
    let origin = Origin::builder().start_tls(authority.server(&VERSIONS));
    let dir = Dir::new();
    std::fs::write(dir.join("roots.pem"), authority.pem()).unwrap();
    let system = dir.join("roots.pem").display().to_string();
    let river = in_dir(dir, &origin, "tls_sni: \"river.test\"", "").env("SSL_CERT_FILE", &system).serve();
    get(river.web(), "/").expect_status(200);
}

#[test]
fn a_server_that_is_not_verified_is_warned_of_at_every_start() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let origin = Origin::builder().start_tls(authority.server(&VERSIONS));
    let river = before(&origin, &stranger, "tls_sni: \"other.test\", tls_verify: false", "");
    get(river.web(), "/").expect_status(200);
    let warned = |river: &Running| {
        let line = river.wait_for_line("tls_verify: false", PATIENCE).text;
        assert!(line.contains("WARN") && line.contains(&origin.target().to_string()), "{line}");
    };
    warned(&river);
    let next = support::upgrade(&river);
    warned(&next);
    get(next.web(), "/").expect_status(200);
}

#[test]
fn a_server_that_asks_is_shown_the_certificate() {
    let (authority, clients) = (Authority::new("authority"), Authority::new("clients"));
    let origin = Origin::builder().start_tls(authority.strict_server(&clients));
    let dir = Dir::new();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    clients.sign("river").write(dir.path(), "client");
    let settings = format!("{TRUSTED}, tls_cert: \"client.pem\", tls_key: \"client.key\"");
    let river = in_dir(dir, &origin, &settings, "").serve();
    get(river.web(), "/").expect_status(200);
    let river = before(&origin, &authority, TRUSTED, "");
    let line = refused(&river);
    assert!(line.contains("CertificateRequired"), "{line}");
}

/// An origin whose body ends with the connection; in order, or not.
fn until_close(authority: &Authority) -> Origin {
    let answer: fn(&support::Request, &mut support::Reply<'_>) -> io::Result<()> = |request, reply| {
        reply.head(200, &[])?;
        reply.raw(b"all of it")?;
        if request.target == "/in-order" {
            reply.finish()?;
        }
        reply.close();
        Ok(())
    };
    let builder: Builder = Origin::builder().answer(answer);
    builder.start_tls(authority.server(&VERSIONS))
}

#[test]
fn a_body_that_is_cut_is_told_from_one_that_ends() {
    let authority = Authority::new("authority");
    let origin = until_close(&authority);
    let river = before(&origin, &authority, TRUSTED, "");
    assert_eq!(get(river.web(), "/in-order").expect_status(200).body, b"all of it");
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/cut");
    conn.try_read_response("GET").expect_err("what was cut looks whole");
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert!(line.contains("close_notify"), "{line}");
}

#[test]
fn an_idle_connection_that_the_server_closes_costs_no_request() {
    let authority = Authority::new("authority");
    let origin = Origin::builder().start_tls(authority.server(&VERSIONS));
    let river = before(&origin, &authority, TRUSTED, "");
    for nth in 1..=5 {
        get(river.web(), "/").expect_status(200);
        assert_eq!(origin.connections(), nth);
        // Without a close_notify, as some servers do.
        origin.close_connections();
        origin.wait_open_connections(PATIENCE, |open| open == 0);
    }
}

#[test]
fn a_server_that_says_nothing_in_its_handshake_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = Authority::new("authority");
    let dir = Dir::new();
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let server = format!("(addr: \"{}\", {TRUSTED})", silent.local_addr().unwrap());
    let config = Config::new().service(
        "web",
        &["127.0.0.1:0"],
        &format!("connectors: (servers: [{server}]), timeouts: (connect: \"300ms\")"),
    );
    let river = River::in_dir(dir).config(config).serve();
    get(river.web(), "/").expect_status(504);
}

#[test]
fn the_name_is_sent_to_the_server() {
    let authority = Authority::new("authority");
    let origin = Origin::builder()
        .answer(|_, reply| {
            let name = match &*reply.socket().tls().session() {
                rustls::Connection::Server(server) => server.server_name().unwrap_or_default().to_owned(),
                rustls::Connection::Client(_) => unreachable!(),
            };
            reply.respond(200, &[], name.as_bytes())
        })
        .start_tls(authority.server(&VERSIONS));
    let river = before(&origin, &authority, TRUSTED, "");
    assert_eq!(get(river.web(), "/").expect_status(200).text(), NAME);
}
