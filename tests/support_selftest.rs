//! The tests' own tools, tried on each other without River between them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use support::client::Conn;
use support::log::{Listening, entered, field, listening};
use support::peer::{Desk, Peer, offer};
use support::proc::listening_sockets;
use support::*;

#[test]
fn client_reads_what_origin_sends() {
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        "/chunked" => {
            reply.interim(103, &[("link", "</x>")])?;
            reply.respond_chunked(200, &[], &[b"ab", b"c"], &[("x-sum", "3")])
        }
        "/close" => {
            reply.raw(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")?;
            reply.close();
            Ok(())
        }
        "/tunnel" => reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")]),
        "/reset" => reply.reset(),
        "/cut" => {
            reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfour")?;
            reply.close();
            Ok(())
        }
        _ => reply.respond(204, &[], b""),
    });
    let mut conn = Conn::open(origin.address());
    let chunked = conn.get("/chunked");
    assert_eq!((chunked.text().as_str(), chunked.trailers.get("x-sum")), ("abc", Some("3")));
    assert_eq!(chunked.interim[0].0, 103);
    assert_eq!(conn.get("/else").status, 204);
    let close = conn.get("/close");
    assert!(close.closed && close.body == b"until the end");
    conn.expect_closed();

    let mut tunnel = Conn::open(origin.address());
    assert_eq!(tunnel.get("/tunnel").status, 101);
    tunnel.send("ping");
    assert_eq!(tunnel.reader().exactly(4).unwrap(), b"ping");
    tunnel.finish();
    tunnel.expect_closed();

    let mut reset = Conn::open(origin.address());
    reset.request("GET", "/reset");
    reset.expect_reset();

    let mut cut = Conn::open(origin.address());
    cut.request("GET", "/cut");
    assert_eq!(cut.try_read_response("GET").unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);

    let requests = origin.wait_requests(6, PATIENCE);
    assert_eq!((requests[1].connection, requests[1].nth), (0, 1));
    assert_eq!(origin.connections(), 4);
}

#[test]
fn client_refuses_bad_framing() {
    for bad in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\na",
        "HTTP/1.1 200 OK\r\nx-fold: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n",
    ] {
        let origin = Origin::with(move |_, reply| {
            reply.close();
            reply.raw(bad.as_bytes())
        });
        let mut conn = Conn::open(origin.address());
        conn.request("GET", "/");
        assert_eq!(
            conn.try_read_response("GET").unwrap_err().kind(),
            std::io::ErrorKind::InvalidData,
            "{bad:?}"
        );
    }
}

#[test]
fn origin_speaks_before_the_body_and_waits_at_gates() {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::builder()
        .on_head(|request, reply| {
            if request.fields.has("expect") {
                reply.interim(100, &[])?;
            }
            Ok(Next::Read)
        })
        .answer(move |request, reply| {
            waiting.pass();
            reply.respond(200, &[], &request.body)
        })
        .start();
    let mut conn = Conn::open(origin.address());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert!(conn.reader().head().unwrap().unwrap().start.starts_with("HTTP/1.1 100"));
    conn.send("hi");
    origin.wait_requests(1, PATIENCE);
    assert!(conn.is_quiet());
    gate.open();
    assert_eq!(conn.read_response("POST").text(), "hi");
}

#[test]
fn origin_refuses_when_it_has_stopped() {
    let origin = Origin::echo();
    let address = origin.address();
    let mut conn = Conn::open(address);
    assert_eq!(conn.get("/a").text(), "GET /a\n");
    origin.stop();
    conn.expect_closed();
    assert_eq!(Conn::try_open(&address.into()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let again = Origin::builder().start_at(address);
    assert_eq!(get(again.address(), "/b").text(), "GET /b\n");
}

#[test]
fn load_counts_every_request() {
    let origin = Origin::builder().forgetful().start();
    for plan in [
        Load::keep_alive(8, Pacing::Hammer),
        Load::keep_alive(8, Pacing::Hammer).post(3000),
        Load::keep_alive(4, Pacing::Hammer).pipelined(4),
        Load::per_request(4, Pacing::Hammer),
        Load::keep_alive(8, Pacing::Think(1..=3)),
    ] {
        let load = plan.start(origin.address());
        load.wait_for(200, PATIENCE);
        let report = load.stop().expect_none_lost();
        assert!(report.sent >= 200 && report.cut_idle == 0 && report.percentile(0.5) > Duration::ZERO);
    }
}

#[test]
fn load_reconnects_where_the_server_says_close() {
    let origin = Origin::with(|request, reply| {
        let body = format!("{} {}\n", request.method, request.target);
        if request.nth == 1 {
            reply.close();
            return reply.respond(200, &[("connection", "close")], body.as_bytes());
        }
        reply.respond(200, &[], body.as_bytes())
    });
    let load = Load::keep_alive(2, Pacing::Hammer).start(origin.address());
    load.wait_for(20, PATIENCE);
    assert!(load.stop().expect_none_lost().reconnects >= 8);
    let load = Load::keep_alive(1, Pacing::Hammer).pipelined(3).start(origin.address());
    load.wait_for(30, PATIENCE);
    assert!(load.stop().resent > 0);
}

#[test]
fn load_counts_what_is_lost() {
    let wrong = Origin::with(|request, reply| match request.nth {
        0 => reply.respond(200, &[], b"something else"),
        1 => reply.respond(502, &[], format!("GET {}\n", request.target).as_bytes()),
        _ => reply.reset(),
    });
    let load = Load::keep_alive(1, Pacing::Hammer).start(wrong.address());
    load.wait_for(30, PATIENCE);
    let report = load.stop();
    assert_eq!((report.ok, report.lost), (0, report.sent));
    assert!(report.losses.len() == 20 && report.losses[0].contains("something else"), "{:?}", report.losses);

    let load = Load::per_request(1, Pacing::Hammer).start(origin::refusing());
    load.wait_for(5, PATIENCE);
    assert!(load.stop().losses[0].contains("cannot connect"));
}

#[test]
fn processes_are_heard_signalled_and_reaped() {
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg("trap 'echo bye >&2; exit 7' TERM; echo up; while :; do sleep 0.05; done");
    let process = Process::start("shell", &mut command);
    process.log().wait_for("up", PATIENCE, |lines| lines.iter().any(|line| line.stdout).then_some(()));
    process.wait_catches(&[Signal::TERM], PATIENCE);
    assert!(process.alive() && !process.fds().is_empty());
    process.pause();
    process.resume();
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(7));
    assert!(process.log().contains("bye"));
}

#[test]
fn peers_pass_descriptors() {
    let dir = Dir::new();
    let desk = Desk::open(&dir.upgrade_socket());
    let successor = Peer::hello(&dir.upgrade_socket(), "[1]");
    let incumbent = desk.welcome(&["127.0.0.1:0#web.0"]);
    successor.expect_welcome();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    offer(&incumbent, "127.0.0.1:0#web.0", &listener, 0, 1);
    let fds = successor.adopt_all();
    assert_eq!(incumbent.expect("Adopted").text, "Adopted(batch:0,unwanted:[])");
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!((fds.len(), listening_sockets(port)), (1, 1));
    drop(fds);
    assert_eq!(listening_sockets(port), 0);
    drop(successor);
    incumbent.expect_closed();
}

#[test]
fn log_lines_are_understood() {
    let line = r#"2026-01-01T00:00:00Z  INFO river::lifecycle: transition from=Booting to=Serving why="said \"to=Exited\" once" generation=1 pid=123 connections=0"#;
    assert_eq!(entered(line).as_deref(), Some("Serving"));
    assert_eq!(field(line, "why").as_deref(), Some("said \"to=Exited\" once"));
    assert_eq!(field(line, "connections").as_deref(), Some("0"));
    assert_eq!(field(line, "none"), None);
    let line = "INFO river::listen: listening service=\"web\" id=127.0.0.1:0#web.0 address=127.0.0.1:43211 origin=fresh";
    let expected = Listening {
        service: "web".into(),
        id: "127.0.0.1:0#web.0".into(),
        address: "127.0.0.1:43211".into(),
        origin: "fresh".into(),
    };
    assert_eq!(listening(line), Some(expected));
}
