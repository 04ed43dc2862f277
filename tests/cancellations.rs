//! What hundreds of clients leave behind that go away at any moment: nothing that is held, and all of the capacity.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use fastrand::Rng;
use support::h2::{END_STREAM, Frames, H2, kind, pseudo, read};
use support::*;

const SEED: u64 = 0x5eed_71de;
const CLIENTS: usize = 240;
const CANCEL: u32 = 8;
/// Descriptors that are on their way, such as those of a pool's connections which the origin has not seen closed.
const SPARE: usize = 16;

/// An origin that holds `/held` back until the gate opens, and says of all but `/big` what it was asked for.
fn origin() -> (Origin, Arc<Gate>) {
    let big = vec![b'x'; 1 << 20];
    Origin::gated(
        |target| target == "/held",
        move |request, reply| match request.target.as_str() {
            "/big" => reply.respond(200, &[], &big),
            target => reply.respond(200, &[], target.as_bytes()),
        },
    )
}

/// A client of HTTP/1.1 that goes away: within the head or the body, before the response, or within it.
fn leave_http1(river: &Running, random: &mut Rng) {
    let mut client = Conn::open(river.web());
    match random.u8(..6) {
        0 => client.send("GET /head HTT"),
        1 => {
            client.send("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 50000\r\n\r\n");
            client.send(vec![b'b'; 20_000]);
        }
        2 => client.request("GET", "/held"),
        3 => {
            client.request("GET", "/held");
            client.finish();
        }
        4 => {
            client.request("GET", "/big");
            client.read_head();
        }
        _ => client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\nGET /c"),
    }
    match random.u8(..3) {
        0 => drop(client),
        _ => client.reset(),
    }
}

/// A client of HTTP/2 that resets some of its streams, and goes away from the others.
fn leave_http2(river: &Running, random: &mut Rng) {
    let mut client = Frames::open(river.web());
    for stream in (1..).step_by(2).take(random.usize(1..=5)) {
        match random.u8(..4) {
            0 => client.get(stream, "/held"),
            1 => client.get(stream, "/quick"),
            2 => {
                client.get(stream, "/big");
                client.until("a head", |frame| frame.kind == kind::HEADERS);
            }
            _ => {
                let fields = [&pseudo("POST", "/body")[..], &[("content-length", "3000")]].concat();
                client.headers(stream, 0, &fields);
                client.send(kind::DATA, 0, stream, &[b'b'; 1000]);
                if random.u8(..2) == 0 {
                    client.send(kind::DATA, END_STREAM, stream, &[b'b'; 2000]);
                }
            }
        }
        if random.u8(..2) == 0 {
            client.reset(stream, CANCEL);
        }
    }
}

/// As many requests at the same time as one connection of HTTP/2 may carry, and some of HTTP/1.1, have their own answers.
fn expect_all_capacity(river: &Running) {
    let mut h2 = H2::open(river.web());
    let asked: Vec<_> =
        (0..100).map(|n| (n, h2.begin(support::h2::get(&format!("/h2-{n}")), true).0)).collect();
    for (n, response) in asked {
        assert_eq!(read(response).unwrap().text(), format!("/h2-{n}"));
    }
    let mut clients: Vec<_> = (0..32).map(|_| Conn::open(river.web())).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.request("GET", &format!("/h1-{n}"));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read_response("GET").expect_status(200).text(), format!("/h1-{n}"));
    }
}

/// Has the clients come and go; then all is as it was, and the instance ends with nothing left to wait for.
///
/// `kept` is how many connections to upstreams are open, which a pool may keep.
fn survive(river: &Running, gate: &Gate, kept: impl Fn() -> usize) {
    let open = || river.fds().len().saturating_sub(kept());
    support::get(river.web(), "/first").expect_status(200);
    let before = open();
    let mut random = Rng::with_seed(SEED);
    for _ in 0..CLIENTS {
        match random.u8(..2) {
            0 => leave_http1(river, &mut random),
            _ => leave_http2(river, &mut random),
        }
    }
    gate.open();
    until("the descriptors of those who left are closed", PATIENCE, || open() <= before + SPARE);
    expect_all_capacity(river);
    river.signal(Signal::TERM);
    assert!(river.wait_exit(PATIENCE).success());
}

/// A drain may take longer than a test waits, so that whatever is left fails the test.
const DRAIN: &str = "drain_timeout: \"300s\"";

#[test]
fn clients_that_go_away_leave_nothing_behind_before_http1() {
    let (origin, gate) = origin();
    let river = River::with_config(support::h2::proxy(&origin).system(DRAIN)).serve();
    survive(&river, &gate, || origin.open_connections());
}

#[test]
fn clients_that_go_away_leave_nothing_behind_before_http2() {
    let (origin, gate) = origin();
    let inner = River::with_config(support::h2::proxy(&origin).system(DRAIN)).named("inner").serve();
    let servers = format!("connectors: (servers: [(addr: \"{}\", proto: H2Only)])", inner.web());
    let outer = River::with_config(support::h2::config(&servers).system(DRAIN)).serve();
    survive(&outer, &gate, || 0);
    expect_all_capacity(&inner);
    inner.signal(Signal::TERM);
    assert!(inner.wait_exit(PATIENCE).success());
}

#[test]
fn a_stream_that_is_reset_or_loses_its_connection_lets_go_of_its_upstream_before_the_answer() {
    let (origin, gate) = origin();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let before = river.fds().len();
    let has_sockets =
        |count| until("the sockets are as many", PATIENCE, || river.fds().len() == before + count);
    let mut client = Frames::open(river.web());
    client.get(1, "/held");
    client.get(3, "/held");
    has_sockets(3);
    client.reset(1, CANCEL);
    has_sockets(2);
    drop(client);
    has_sockets(0);
    gate.open();
}
