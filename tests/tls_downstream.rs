//! Clients that speak TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::log::field;
use support::tls::{Authority, NAME, Trust, VERSIONS};
use support::{Config, Conn, Dir, Load, Origin, PATIENCE, Pacing, River, Running, Target, config};

/// An authority, a directory with a certificate of it, and a service `web` on TLS in front of `origin`.
struct Site {
    authority: Authority,
    dir: Arc<Dir>,
}

impl Site {
    fn new() -> Self {
        let (authority, dir) = (Authority::new("authority"), Dir::new());
        authority.sign(NAME).write(dir.path(), "site");
        Self { authority, dir }
    }

    /// A service's listener with more settings of its TLS.
    fn listener(more: &str) -> String {
        format!(
            "(bind: \"127.0.0.1:0\", tls: (certificates: [(cert: \"site.pem\", key: \"site.key\")], {more}))"
        )
    }

    fn proxy(&self, origin: &Origin, more: &str, settings: &str) -> Config {
        let listeners = Self::listener(more);
        let connectors = config::connectors(&[origin.target().clone()]);
        Config::new().service_text("web", &format!("listeners: [{listeners}], {connectors}{settings}"))
    }

    fn serve(&self, config: Config) -> Running {
        River::in_dir(self.dir.clone()).config(config).serve()
    }

    fn target(&self, river: &Running) -> Target {
        self.authority.target(river.web())
    }
}

#[test]
fn requests_are_served_over_both_versions_and_servers_hear_that_it_was_tls() {
    let site = Site::new();
    let origin = Origin::echo();
    let river = site.serve(site.proxy(&origin, "", ""));
    for (at, version) in VERSIONS.iter().enumerate() {
        let target = Target::Tls(river.web(), Trust::new(site.authority.client(&[version])));
        let mut conn = Conn::open(target);
        for nth in 0..3 {
            assert_eq!(conn.get(&format!("/{nth}")).expect_status(200).text(), format!("GET /{nth}\n"));
        }
        assert_eq!(conn.socket().tls().session().protocol_version(), Some(version.version));
        let request = &origin.wait_requests(3 * (at + 1), PATIENCE)[3 * at];
        assert_eq!(request.fields.get("x-forwarded-proto"), Some("https"));
        assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[test]
fn large_bodies_come_and_go_whole() {
    let site = Site::new();
    let origin = Origin::echo();
    let river = site.serve(site.proxy(&origin, "", ""));
    let mut conn = Conn::open(site.target(&river));
    for size in [1, 8 << 10, 16 << 10, 100_000, 3 << 20] {
        let body: Vec<u8> = (0..size).map(|at| (at * 7 + at / 251) as u8).collect();
        conn.send(format!("POST /{size} HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"));
        conn.send(&body);
        let echoed = conn.read_response("POST").expect_status(200).body;
        assert!(echoed.ends_with(&body), "{} bytes of {size}", echoed.len());
        conn.send("POST /chunks HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for piece in body.chunks(10_000) {
            conn.send(format!("{:x}\r\n", piece.len()));
            conn.send(piece);
            conn.send("\r\n");
        }
        conn.send("0\r\n\r\n");
        assert!(conn.read_response("POST").expect_status(200).body.ends_with(&body));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn connections_end_with_a_close_notify() {
    let site = Site::new();
    let origin = Origin::with(|request, reply| match &*request.target {
        // Its end is the connection's.
        "/until-close" => {
            reply.head(200, &[])?;
            reply.raw(b"all of it")?;
            reply.close();
            Ok(())
        }
        _ => reply.respond(200, &[], b"ok"),
    });
    let river = site.serve(site.proxy(&origin, "", ", timeouts: (idle: \"200ms\")"));
    // Because it was idle for too long.
    let mut conn = Conn::open(site.target(&river));
    conn.get("/").expect_status(200);
    conn.expect_closed_within(PATIENCE);
    // Because the client asked for it.
    let mut conn = Conn::open(site.target(&river));
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(conn.read_response("GET").closed);
    conn.expect_closed_within(PATIENCE);
    // Because what was sent is no HTTP.
    let mut conn = Conn::open(site.target(&river));
    conn.send("nonsense\r\n\r\n");
    conn.read_response("GET").expect_status(400);
    conn.expect_closed_within(PATIENCE);
    // Because the body of the response ends there.
    let mut conn = Conn::open(site.target(&river));
    conn.send("GET /until-close HTTP/1.0\r\nhost: a\r\n\r\n");
    assert_eq!(conn.read_response("GET").expect_status(200).body, b"all of it");
    // Because the client has ended its side.
    let mut conn = Conn::open(site.target(&river));
    conn.get("/").expect_status(200);
    conn.finish();
    conn.expect_closed_within(PATIENCE);
}

#[test]
fn a_response_that_is_cut_short_does_not_look_whole() {
    let site = Site::new();
    let origin = Origin::with(|_, reply| {
        reply.begin_chunked(200, &[])?;
        reply.chunk(b"half of it")?;
        reply.close();
        Ok(())
    });
    let river = site.serve(site.proxy(&origin, "", ""));
    let mut conn = Conn::open(site.target(&river));
    // To a client of HTTP/1.0 the body goes without chunks, and ends with the connection.
    conn.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let error = conn.try_read_response("GET").expect_err("it looks whole");
    assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
}

#[test]
fn plain_http_is_told_to_speak_tls() {
    let site = Site::new();
    let origin = Origin::echo();
    let river = site.serve(site.proxy(&origin, "", ""));
    let mut conn = Conn::open(river.web());
    let response = conn.get("/").expect_status(400);
    assert!(response.text().contains("https://"), "{}", response.text());
    assert!(response.closed);
    conn.expect_closed_within(PATIENCE);
    let line = river.wait_for_line("TLS handshake failed", PATIENCE).text;
    assert!(line.contains("127.0.0.1") && line.contains("plain HTTP") && line.contains("web"), "{line}");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn handshakes_that_fail_are_logged_with_what_and_who() {
    let site = Site::new();
    let origin = Origin::echo();
    let river = site.serve(site.proxy(&origin, "handshake: (timeout: \"300ms\")", ""));
    // A client that does not trust the authority says so.
    let stranger = Authority::new("stranger").target(river.web());
    Conn::open(stranger).try_read_response("GET").unwrap_err();
    let line = river.wait_for_line("TLS handshake failed", PATIENCE).text;
    assert_eq!(field(&line, "listener").as_deref(), Some("127.0.0.1:0#web.0"), "{line}");
    assert_eq!(field(&line, "client").as_deref(), Some("127.0.0.1"), "{line}");
    assert!(line.contains(" why=\"") && field(&line, "why").unwrap().contains("UnknownCA"), "{line}");
    // One that stops in the middle is let go of in time.
    let mark = river.mark();
    let mut conn = Conn::open(river.web());
    conn.send(b"\x16\x03\x01\x00\xc8\x01");
    conn.expect_gone_within(PATIENCE);
    let line = river.wait_line_after(mark, "TLS handshake failed").text;
    assert!(line.contains("longer than its time-out"), "{line}");
    // So is one that says nothing at all.
    let mark = river.mark();
    Conn::open(river.web()).expect_gone_within(PATIENCE);
    river.wait_line_after(mark, "TLS handshake failed");
}

#[test]
fn clients_that_stop_in_the_middle_of_their_handshakes_are_in_nobodys_way() {
    let site = Site::new();
    let origin = Origin::echo();
    let river = site.serve(site.proxy(&origin, "handshake: (timeout: \"20s\", max_concurrent: 2)", ""));
    // They stay, and there are only two places.
    let mut slow: Vec<Conn> = (0..2).map(|_| Conn::open(river.web())).collect();
    for conn in &mut slow {
        conn.send(b"\x16\x03\x01\x00\xc8\x01");
    }
    let target = site.target(&river);
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let target = target.clone();
            std::thread::spawn(move || Conn::open(target).get("/").expect_status(200))
        })
        .collect();
    for one in waiting {
        one.join().unwrap();
    }
    drop(slow);
}

#[test]
fn a_tunnel_goes_over_tls_on_both_sides_and_each_direction_ends_by_itself() {
    let site = Site::new();
    let origin = Origin::builder()
        .on_head(|_, reply| {
            reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")])?;
            Ok(support::Next::Done)
        })
        .start_tls(site.authority.server(&VERSIONS));
    std::fs::write(site.dir.join("ca.pem"), site.authority.pem()).unwrap();
    let server = format!("(addr: \"{}\", tls_sni: {NAME:?}, tls_ca: \"ca.pem\")", origin.target());
    let text = format!("listeners: [{}], connectors: (servers: [{server}])", Site::listener(""));
    let river = site.serve(Config::new().service_text("web", &text));
    let mut conn = Conn::open(site.target(&river));
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(conn.read_head().1, 101);
    for size in [1, 10_000, 50_000] {
        let bytes = vec![b'x'; size];
        conn.send(&bytes);
        assert!(conn.reader().exactly(size).unwrap() == bytes);
    }
    conn.send("the last");
    conn.finish();
    assert_eq!(conn.read_to_end(), b"the last");
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_it() {
    let site = Site::new();
    let body: Vec<u8> = (0..8_000_000).map(|at: usize| (at * 7 + at / 251) as u8).collect();
    let sent = body.clone();
    let origin = Origin::with(move |_, reply| reply.respond(200, &[], &sent));
    // Far less than all of it takes, and more than the next bytes do.
    let river = site.serve(site.proxy(&origin, "", ", timeouts: (send: \"1s\")"));
    let mut conn = Conn::open(site.target(&river));
    conn.request("GET", "/");
    let (_, status) = conn.read_head();
    assert_eq!(status, 200);
    let mut got = Vec::new();
    while got.len() < body.len() {
        // The pace of the client; nothing is waited for.
        std::thread::sleep(Duration::from_millis(5));
        got.extend(conn.reader().exactly((body.len() - got.len()).min(16 << 10)).unwrap());
    }
    assert!(got == body);
    // One that reads nothing is let go of.
    let mark = river.mark();
    let mut conn = Conn::open(site.target(&river));
    conn.request("GET", "/");
    let line = river.wait_line_after(mark, "request failed").text;
    assert!(line.contains("send time-out"), "{line}");
    assert!(conn.try_read_response("GET").is_err());
}

#[test]
fn an_idle_connection_costs_little_memory() {
    /// What the issue asks for.
    const MOST: usize = 24 << 10;
    const COUNT: usize = 400;
    let site = Site::new();
    let origin = Origin::echo();
    let river = site.serve(site.proxy(&origin, "", "").system("workers: 1"));
    let target = site.target(&river);
    let open = |count: usize| -> Vec<Conn> {
        let conn = |_| {
            let mut conn = Conn::open(target.clone());
            conn.get("/").expect_status(200);
            conn
        };
        (0..count).map(conn).collect()
    };
    // Until what is kept for later is there.
    let _first = open(100);
    let before = support::proc::anonymous(river.pid());
    let _then = open(COUNT);
    let each = (support::proc::anonymous(river.pid()) - before) * 1024 / COUNT;
    println!("{each} bytes for each idle connection over TLS");
    assert!(each > 0 && each <= MOST, "{each} bytes for each");
}

#[test]
fn an_upgrade_loses_no_request_of_clients_over_tls() {
    let site = Site::new();
    let origin = Origin::echo();
    let config = site.proxy(&origin, "", "").system("drain_timeout: \"20s\"");
    let mut river = site.serve(config);
    let mut idle: Vec<Conn> = (0..8).map(|_| Conn::open(site.target(&river))).collect();
    for conn in &mut idle {
        conn.get("/").expect_status(200);
    }
    let mut left = Vec::new();
    let target = site.target(&river);
    let loads = [
        Load::keep_alive(4, Pacing::Hammer).start(target.clone()),
        Load::per_request(2, Pacing::Hammer).start(target),
    ];
    for _ in 0..3 {
        loads.iter().for_each(|load| load.wait_for(100, PATIENCE));
        let next = support::upgrade(&river);
        left.push(std::mem::replace(&mut river, next));
        // Who waits with the old instance is answered by it, and told to go.
        for conn in &mut idle {
            // The one it opens then may be with the old instance, too, which still accepts for a moment.
            support::until("a connection that is kept", PATIENCE, || {
                let told_to_go = conn.get("/").expect_status(200).closed;
                if told_to_go {
                    conn.expect_closed_within(PATIENCE);
                    *conn = Conn::open(site.target(&river));
                }
                !told_to_go
            });
        }
    }
    for load in loads {
        load.wait_for(100, PATIENCE);
        load.stop().expect_none_lost();
    }
    // One that was answered just before its instance began to drain may still be with it.
    drop(idle);
    for old in &left {
        assert!(old.wait_exit(PATIENCE).success());
    }
}
