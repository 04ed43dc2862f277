//! What the log says of the requests and tunnels that an instance cuts when it ends: each has a line of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use support::bytes::tcp;
use support::h2::H2;
use support::*;

/// A River with an origin whose `/hold` begins a response and never ends it, and a tcp service before the same.
fn river(gate: &std::sync::Arc<Gate>, drain: Duration) -> (Running, Origin) {
    let waiting = gate.clone();
    let origin = Origin::with(move |request, reply| match request.target.as_str() {
        "/tunnel" => reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")]),
        "/done" => reply.respond(200, &[], b"done"),
        _ => {
            reply.begin_chunked(200, &[])?;
            reply.chunk(b"first ")?;
            waiting.pass();
            reply.end(&[])
        }
    });
    let drain = drain.as_millis();
    let config = support::h2::proxy(&origin)
        .service("bytes", &["127.0.0.1:0"], &tcp(&[origin.address()]))
        .system(&format!("drain_timeout: \"{drain}ms\", tunnel_drain_timeout: \"{drain}ms\""));
    (River::with_config(config).serve(), origin)
}

/// Opens one of everything that can be cut, and a connection that is at rest, and waits until each has begun.
fn open(river: &Running) -> impl Sized {
    let mut idle = Conn::open(river.web());
    idle.get("/done");
    let mut held = Conn::open(river.web());
    held.request("GET", "/held-1");
    held.read_head();
    let mut tunnel = Conn::open(river.web());
    tunnel.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    tunnel.read_response("GET").expect_status(101);
    let mut bytes = Conn::open(river.address("bytes", 0));
    bytes.request("GET", "/held-bytes");
    bytes.read_head();
    let mut h2 = H2::open(river.web());
    let (response, _) = h2.begin(support::h2::get("/held-2"), true);
    let response = support::h2::wait("a head", response).unwrap();
    assert_eq!(response.status(), 200);
    // Dropped, each would end by itself.
    ([idle, held, tunnel, bytes], h2, response)
}

fn expect_lines(river: &Running) {
    let text = river.log().text();
    let cut = |what: &str| {
        let lines = text.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
        let [line] = lines[..] else { panic!("{} lines of {what:?}:\n{text}", lines.len()) };
        assert!(line.contains("blame=river"), "{line}");
        assert!(line.contains("why=\"River closed the connection before this had ended\""), "{line}");
        assert!(line.contains("client=\"127.0.0.1\"") && !line.contains("status="), "{line}");
    };
    cut("request failed service=\"web\" client=\"127.0.0.1\" request=\"GET /held-1 HTTP/1.1\"");
    cut("request failed service=\"web\" client=\"127.0.0.1\" request=\"GET /held-2 HTTP/2.0\"");
    cut("request failed service=\"web\" client=\"127.0.0.1\" request=\"GET /tunnel HTTP/1.1\"");
    cut("connection failed service=\"bytes\"");
    // Of the one at rest there is nothing to say.
    assert_eq!(text.matches("before this had ended").count(), 4, "{text}");
}

#[test]
fn what_is_cut_at_the_end_of_the_drain_has_a_line_each() {
    let gate = std::sync::Arc::new(Gate::new());
    let (river, _origin) = river(&gate, Duration::from_millis(200));
    let _open = open(&river);
    river.signal(Signal::TERM);
    river.wait_exit(PATIENCE);
    expect_lines(&river);
    gate.open();
}

#[test]
fn what_is_cut_by_sigint_has_a_line_each() {
    let gate = std::sync::Arc::new(Gate::new());
    let (river, _origin) = river(&gate, Duration::from_secs(60));
    let _open = open(&river);
    river.signal(Signal::INT);
    river.wait_exit(PATIENCE);
    expect_lines(&river);
    gate.open();
}
