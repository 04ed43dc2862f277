//! Connections in HTTP/2 to servers: how many there are, what they carry, when they end, what is sent again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::h2_frames::{
    ACK, DATA, END_HEADERS, END_STREAM, FrameConn, Frames, GOAWAY, HEADERS, PING, RST_STREAM,
};
use support::h2_origin::pass;
use support::log::field;
use support::*;

/// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

/// River with one worker in front of `servers`, with more settings of the connectors and of the service.
fn with(servers: &str, connectors: &str, service: &str) -> Running {
    let more = |settings: &str| if settings.is_empty() { String::new() } else { format!(", {settings}") };
    let (connectors, service) = (more(connectors), more(service));
    let settings = format!("connectors: (servers: [{servers}]{connectors}){service}");
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &settings);
    River::with_config(config).serve()
}

/// An origin whose requests for `/wait` wait for the gate; and the gate, which opens when it is dropped.
fn gated() -> (H2Origin, Arc<Gate>) {
    gated_with(|_| {})
}

fn gated_with(settle: fn(&mut ::h2::server::Builder)) -> (H2Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = H2Origin::settled(settle, move |mut exchange| {
        let gate = waiting.clone();
        async move {
            exchange.read().await;
            if exchange.request.path == "/wait" {
                pass(&gate).await;
            }
            let body = exchange.request.connection.to_string();
            exchange.respond(200, &[], body.as_bytes()).await;
        }
    });
    (origin, gate)
}

/// Connections on each of which a request waits.
fn waiting(river: &Running, count: usize) -> Vec<Conn> {
    let mut conns: Vec<_> = (0..count).map(|_| Conn::open(river.web())).collect();
    conns.iter_mut().for_each(|conn| conn.request("GET", "/wait"));
    conns
}

#[test]
fn another_connection_is_made_when_those_there_are_are_full_and_no_more_than_may_be() {
    let (origin, gate) = gated();
    let river =
        with(&origin.server(), "h2: (max_streams: 3, max_connections: 2)", "timeouts: (connect: \"20s\")");
    let mut conns = waiting(&river, 8);
    // Six are under way, and two wait for room.
    until("both connections", PATIENCE, || origin.connections() == 2);
    gate.open();
    for conn in &mut conns {
        conn.read_response("GET").expect_status(200);
    }
    assert_eq!(origin.connections(), 2);
    let requests = origin.wait_requests(8);
    assert!((0..2).all(|nth| requests.iter().filter(|request| request.connection == nth).count() >= 3));
}

#[test]
fn the_servers_own_limit_is_kept_to() {
    let (origin, gate) = gated_with(|settings| {
        settings.max_concurrent_streams(2);
    });
    let river = with(&origin.server(), "h2: (max_connections: 3)", "");
    // From here on the limit is known.
    assert_eq!(get(river.web(), "/").status, 200);
    let mut conns = waiting(&river, 6);
    until("three connections", PATIENCE, || origin.connections() == 3);
    gate.open();
    conns.iter_mut().for_each(|conn| drop(conn.read_response("GET").expect_status(200)));
    for nth in 0..3 {
        let held = origin.requests().iter().filter(|request| request.connection == nth).count();
        assert!(held >= 2, "{held} on connection {nth}");
    }
}

#[test]
fn who_waits_for_room_in_vain_is_told_and_too_many_are_not_let_wait() {
    let (origin, gate) = gated();
    let limits = "h2: (max_streams: 1, max_connections: 1, max_waiting: 1)";
    let river = with(&origin.server(), limits, "timeouts: (connect: \"1s\")");
    let mut first = waiting(&river, 1).remove(0);
    until("the first is there", PATIENCE, || origin.connections() == 1);
    let mut second = waiting(&river, 1).remove(0);
    // It has its place for a second. One that comes while it has is turned away at once.
    let refused = (0..50).any(|_| {
        let began = Instant::now();
        let response = get(river.web(), "/third");
        assert_eq!(response.status, 503);
        began.elapsed() < Duration::from_millis(500)
    });
    assert!(refused);
    second.read_response("GET").expect_status(503);
    let line = river.wait_for_line("no room for another request", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
    gate.open();
    first.read_response("GET").expect_status(200);
    assert_eq!(get(river.web(), "/").status, 200);
}

#[test]
fn a_connection_is_replaced_after_as_many_requests_as_it_may_carry() {
    let (origin, gate) = gated();
    let river = with(&origin.server(), "pool: (max_requests: 3)", "");
    let mut conns = waiting(&river, 1);
    until("the first is there", PATIENCE, || origin.connections() == 1);
    for nth in 0..4 {
        let expected = if nth < 2 { "0" } else { "1" };
        assert_eq!(get(river.web(), "/").text(), expected, "request {nth}");
    }
    // The first is still open, for a request of its own is.
    origin.wait_open(|open| open == 2);
    gate.open();
    assert_eq!(conns[0].read_response("GET").text(), "0");
    origin.wait_open(|open| open == 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let origin = H2Origin::echo();
    let river = with(&origin.server(), "pool: (idle_timeout: \"200ms\")", "");
    for nth in 1..3 {
        assert_eq!(get(river.web(), "/").status, 200);
        assert_eq!(origin.connections(), nth);
        origin.wait_open(|open| open == 0);
    }
}

#[test]
fn go_away_moves_new_requests_elsewhere_and_lets_old_ones_finish() {
    let (origin, gate) = gated();
    let river = with(&origin.server(), "", "");
    let mut conns = waiting(&river, 3);
    assert_eq!(get(river.web(), "/").text(), "0");
    origin.go_away();
    until("another connection", PATIENCE, || get(river.web(), "/").expect_status(200).text() == "1");
    gate.open();
    for conn in &mut conns {
        assert_eq!(conn.read_response("GET").expect_status(200).text(), "0");
    }
    origin.wait_open(|open| open == 1);
}

/// A server of frames, a River in front of it with these settings of the connectors, and a client's connection to that.
fn facing_frames(connectors: &str) -> (Frames, Running, Conn) {
    let frames = Frames::listen();
    let river = with(&frames.server(), connectors, "");
    let conn = Conn::open(river.web());
    (frames, river, conn)
}

/// A request with its whole body.
fn with_body(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody")
}

/// The connection that River makes for a first request, which is answered.
fn first_connection(frames: &Frames, conn: &mut Conn) -> FrameConn {
    conn.request("GET", "/first");
    let mut first = frames.accept(&[]);
    first.answer_next(b"");
    conn.read_response("GET").expect_status(200);
    first
}

/// Asks for `/next`, which the server sees on this connection.
fn expect_next_on(server: &mut FrameConn, conn: &mut Conn) {
    conn.request("GET", "/next");
    server.answer_next(b"next");
    assert_eq!(conn.read_response("GET").expect_status(200).text(), "next");
}

#[test]
fn what_the_server_has_not_looked_at_is_sent_again_whatever_it_is() {
    for method in ["GET", "POST", "BREW"] {
        let (frames, _river, mut conn) = facing_frames("");
        conn.send(with_body(method));
        let mut first = frames.accept(&[]);
        assert_eq!(first.wait(HEADERS).stream, 1);
        // Of its streams the server has looked at none (RFC 9113 §6.8).
        first.go_away(0, NO_ERROR);
        let mut second = frames.accept(&[]);
        assert_eq!(second.wait(HEADERS).stream, 1);
        let data = second.wait(DATA);
        assert_eq!((&*data.payload, data.flags), (&b"body"[..], END_STREAM));
        second.answer(1, b"done");
        assert_eq!(conn.read_response(method).expect_status(200).text(), "done");
    }
}

#[test]
fn what_go_away_says_may_have_been_looked_at_is_not_sent_again() {
    let (frames, _river, mut conn) = facing_frames("");
    conn.send(with_body("POST"));
    let mut first = frames.accept(&[]);
    assert_eq!(first.wait(HEADERS).stream, 1);
    first.go_away(1, NO_ERROR);
    drop(first);
    assert_eq!(conn.read_response("POST").status, 502);
    assert!(frames.nobody_comes());
}

#[test]
fn a_refused_stream_is_sent_again_on_another_connection() {
    let (frames, _river, mut conn) = facing_frames("");
    conn.send(with_body("POST"));
    let mut first = frames.accept(&[]);
    first.reset_next(REFUSED_STREAM);
    frames.accept(&[]).answer_next(b"done");
    assert_eq!(conn.read_response("POST").expect_status(200).text(), "done");
    // The first connection is as good as it was.
    expect_next_on(&mut first, &mut conn);
}

#[test]
fn a_server_that_refuses_on_and_on_is_not_asked_for_ever() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let origin = H2Origin::with(move |mut exchange| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { exchange.reset(::h2::Reason::REFUSED_STREAM) }
    });
    let river = with(&origin.server(), "h2: (max_connections: 2)", "");
    assert_eq!(get(river.web(), "/").status, 502);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_refused_request_whose_body_is_not_at_hand_is_not_sent_again() {
    let (frames, _river, mut conn) = facing_frames("");
    conn.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegin");
    let mut first = frames.accept(&[]);
    let stream = first.wait(HEADERS).stream;
    first.wait(DATA);
    first.reset(stream, REFUSED_STREAM);
    assert_eq!(conn.read_response("PUT").status, 502);
    assert!(frames.nobody_comes());
}

#[test]
fn a_refused_request_whose_body_has_gone_is_not_sent_again() {
    let (frames, _river, mut conn) = facing_frames("");
    conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 20000\r\n\r\n{}", "x".repeat(20_000)));
    let mut first = frames.accept(&[]);
    let stream = first.wait(HEADERS).stream;
    let mut received = 0;
    while received < 20_000 {
        received += first.wait(DATA).payload.len();
    }
    first.reset(stream, REFUSED_STREAM);
    assert_eq!(conn.read_response("POST").status, 502);
    assert!(frames.nobody_comes());
}

#[test]
fn what_a_server_has_ended_by_its_word_is_not_sent_again() {
    const INTERNAL_ERROR: u32 = 2;
    const ENHANCE_YOUR_CALM: u32 = 11;
    const DELETE: &str = "DELETE /account HTTP/1.1\r\nhost: a\r\n\r\n";
    for reason in [INTERNAL_ERROR, ENHANCE_YOUR_CALM] {
        let (frames, _river, mut conn) = facing_frames("");
        let mut only = first_connection(&frames, &mut conn);
        conn.send(DELETE);
        only.reset_next(reason);
        assert_eq!(conn.read_response("DELETE").status, 502);
        // The next on the connection is another request.
        expect_next_on(&mut only, &mut conn);
        // A GOAWAY that has the stream among those that were looked at.
        conn.send(DELETE);
        let stream = only.wait(HEADERS).stream;
        only.go_away(stream, reason);
        drop(only);
        assert_eq!(conn.read_response("DELETE").status, 502);
        assert!(frames.nobody_comes());
    }
}

#[test]
fn a_connection_that_ends_without_a_word_costs_an_idempotent_request_nothing() {
    let (frames, _river, mut conn) = facing_frames("");
    let mut first = first_connection(&frames, &mut conn);
    conn.request("GET", "/second");
    first.wait(HEADERS);
    drop(first);
    let mut second = frames.accept(&[]);
    second.answer_next(b"again");
    assert_eq!(conn.read_response("GET").expect_status(200).text(), "again");
    // What may have been done twice is not.
    conn.send("POST /third HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    second.wait(HEADERS);
    drop(second);
    assert_eq!(conn.read_response("POST").status, 502);
    assert!(frames.nobody_comes());
}

#[test]
fn a_silent_server_is_asked_whether_it_is_there_and_replaced_if_not() {
    let (frames, river, mut conn) = facing_frames("h2: (ping_interval: \"200ms\", ping_timeout: \"1s\")");
    let mut first = first_connection(&frames, &mut conn);
    // As long as it answers, it is kept.
    for _ in 0..3 {
        let ping = first.wait(PING);
        first.send(PING, ACK, 0, &ping.payload);
    }
    conn.request("GET", "/second");
    let stream = first.wait(HEADERS).stream;
    first.wait(PING);
    // It does not answer any more, neither the ping nor the request, which goes elsewhere: it is safe to repeat.
    let mut second = frames.accept(&[]);
    assert_ne!(stream, 1);
    second.answer_next(b"again");
    assert_eq!(conn.read_response("GET").expect_status(200).text(), "again");
    first.wait_end();
    river.wait_for_line("did not answer a ping", PATIENCE);
}

/// Reads up to GOAWAY, before which no frame of `kind` may come.
#[track_caller]
fn expect_goaway_without(conn: &mut FrameConn, kind: u8) {
    while let Some(frame) = conn.read() {
        assert_ne!(frame.kind, kind, "{frame:?}");
        if frame.kind == GOAWAY {
            return;
        }
    }
    panic!("the connection ended without a GOAWAY");
}

#[test]
fn a_server_that_may_not_be_asked_is_not() {
    let (frames, _river, mut conn) =
        facing_frames("h2: (ping_interval: \"0s\"), pool: (idle_timeout: \"1s\")");
    let mut first = first_connection(&frames, &mut conn);
    expect_goaway_without(&mut first, PING);
}

/// Answers the next request with two bytes and no end of the stream; returns the stream.
fn answer_without_end(conn: &mut FrameConn) -> u32 {
    let stream = conn.wait(HEADERS).stream;
    // `content-length: 2` (RFC 7541 §6.2.1: literal, with the name of index 28), and no end of the stream yet.
    conn.send(HEADERS, END_HEADERS, stream, &[0x88, 0x5c, 0x01, b'2']);
    conn.send(DATA, 0, stream, b"ok");
    stream
}

#[test]
fn a_stream_that_ends_behind_its_response_is_not_reset() {
    let (frames, _river, mut conn) = facing_frames("pool: (idle_timeout: \"300ms\")");
    conn.request("GET", "/");
    let mut first = frames.accept(&[]);
    let stream = answer_without_end(&mut first);
    assert_eq!(conn.read_response("GET").text(), "ok");
    first.send(DATA, END_STREAM, stream, b"");
    expect_goaway_without(&mut first, RST_STREAM);
}

#[test]
fn streams_that_do_not_end_behind_their_responses_make_room_for_others() {
    let frames = Frames::listen();
    let river = with(
        &frames.server(),
        "h2: (max_streams: 2, max_connections: 1, max_waiting: 1)",
        "timeouts: (connect: \"1s\")",
    );
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    let mut first = frames.accept(&[]);
    for nth in 0..8 {
        answer_without_end(&mut first);
        assert_eq!(conn.read_response("GET").expect_status(200).text(), "ok", "request {nth}");
        conn.request("GET", "/");
    }
}

/// River resets `stream`, as nobody needs it.
#[track_caller]
fn expect_cancelled(conn: &mut FrameConn, stream: u32) {
    let reset = conn.wait(RST_STREAM);
    assert_eq!((reset.stream, &*reset.payload), (stream, &CANCEL.to_be_bytes()[..]));
}

#[test]
fn a_stream_that_does_not_end_behind_its_response_is_reset_after_its_time() {
    let (frames, _river, mut conn) = facing_frames("pool: (idle_timeout: \"300ms\")");
    conn.request("GET", "/");
    let mut first = frames.accept(&[]);
    let stream = answer_without_end(&mut first);
    assert_eq!(conn.read_response("GET").expect_status(200).text(), "ok");
    expect_cancelled(&mut first, stream);
    // It is idle now.
    first.wait(GOAWAY);
}

#[test]
fn a_request_that_nobody_waits_for_any_more_is_cancelled() {
    let (frames, _river, mut conn) = facing_frames("");
    conn.request("GET", "/");
    let mut first = frames.accept(&[]);
    let stream = first.wait(HEADERS).stream;
    conn.reset();
    expect_cancelled(&mut first, stream);
}

#[test]
fn requests_go_to_several_servers_in_turn() {
    let origins = [H2Origin::echo(), H2Origin::echo()];
    let plain = Origin::echo();
    let servers = format!(
        "{}, {}, (addr: \"{}\"), (addr: \"{}\", proto: H2Only)",
        origins[0].server(),
        origins[1].server(),
        plain.address(),
        origin::refusing()
    );
    let river = with(&servers, "", "");
    for _ in 0..30 {
        assert_eq!(get(river.web(), "/").status, 200);
    }
    // What would have been the turn of the fourth went to the next.
    assert!(origins.iter().all(|origin| origin.requests().len() >= 7));
    assert!(plain.requests().len() >= 7);
}

#[test]
fn at_a_hand_over_the_streams_of_the_old_instance_finish() {
    let (origin, gate) = gated();
    let river = with(&origin.server(), "", "");
    let mut conns = waiting(&river, 3);
    assert_eq!(get(river.web(), "/").text(), "0");
    let successor = upgrade(&river);
    // The new one has a connection of its own. For a moment the old one accepts, too.
    wait::until("the new one answers", PATIENCE, || get(successor.web(), "/").text() == "1");
    gate.open();
    for conn in &mut conns {
        assert_eq!(conn.read_response("GET").expect_status(200).text(), "0");
    }
    drop(conns);
    river.wait_state("Exited");
    origin.wait_open(|open| open == 1);
    assert_eq!(get(successor.web(), "/").text(), "1");
}
