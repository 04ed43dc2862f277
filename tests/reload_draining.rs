//! What becomes of the connections that an instance has when it hands over, and when it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::*;

/// An origin whose `/hold` begins a response and ends it when the gate opens; `/tunnel` echoes after a 101.
fn holding() -> (Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::with(move |request, reply| match request.target.as_str() {
        "/hold" => {
            reply.begin_chunked(200, &[])?;
            reply.chunk(b"first ")?;
            waiting.pass();
            reply.chunk(b"last")?;
            reply.end(&[])
        }
        "/tunnel" => reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")]),
        _ => reply.respond(200, &[], b"plain"),
    });
    (origin, gate)
}

/// A connection with a response that has begun and is held.
fn held(address: std::net::SocketAddr) -> Conn {
    let mut conn = Conn::open(address);
    conn.request("GET", "/hold");
    assert_eq!(conn.read_head().1, 200);
    assert_eq!(conn.reader().chunk().unwrap(), b"first ");
    conn
}

/// The held response ends whole.
fn finish_held(conn: &mut Conn) {
    assert_eq!(conn.reader().chunk().unwrap(), b"last");
    assert_eq!(conn.reader().chunk().unwrap(), b"");
    conn.reader().trailers().unwrap();
}

/// The connection was not told to leave yet, so it may be used once more.
fn expect_one_more(conn: &mut Conn) {
    let next = conn.get("/");
    assert_eq!(next.text(), "plain");
    assert!(next.closed);
}

/// A tunnel that echoes.
fn tunnel(address: std::net::SocketAddr) -> Conn {
    let mut conn = Conn::open(address);
    conn.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    conn.read_response("GET").expect_status(101);
    echo(&mut conn, b"before");
    conn
}

fn echo(conn: &mut Conn, bytes: &[u8]) {
    conn.send(bytes);
    assert_eq!(conn.reader().exactly(bytes.len()).unwrap(), bytes);
}

#[test]
fn row_10_the_old_one_exits_with_its_last_connection() {
    let (origin, gate) = holding();
    let close = "guard: \"0s\", idle_connections: Close";
    let old = River::with_config(Config::proxy(&origin).handoff(close)).serve();
    let mut conn = held(old.web());
    let new = upgrade(&old);
    old.wait_state("Draining");
    assert!(old.alive());
    gate.open();
    finish_held(&mut conn);
    expect_one_more(&mut conn);
    assert!(old.wait_exit(SOON).success());
    assert_eq!(get(new.web(), "/").text(), "plain");
}

#[test]
fn row_10_the_old_one_exits_at_once_without_connections() {
    let old = River::with_config(Config::respond("plain")).serve();
    let _new = upgrade(&old);
    assert!(old.wait_exit(SOON).success());
}

#[test]
fn row_10_sigterm_ends_an_instance_with_its_last_connection() {
    let (origin, gate) = holding();
    let river = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = held(river.web());
    river.signal(Signal::TERM);
    river.wait_state("Draining");
    gate.open();
    finish_held(&mut conn);
    expect_one_more(&mut conn);
    assert!(river.wait_exit(SOON).success());
}

#[test]
fn row_11_a_hand_over_takes_no_longer_than_it_needs() {
    let old = River::with_config(Config::respond("plain")).serve();
    let new = old.successor().start();
    new.wait_state("AwaitingHandoff");
    let begin = Instant::now();
    old.signal(Signal::QUIT);
    new.wait_serving();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn row_11_a_hand_over_takes_as_long_as_it_needs() {
    let old = River::with_config(Config::respond("plain")).serve();
    let new = old.successor().start();
    new.wait_state("AwaitingHandoff");
    new.pause();
    old.signal(Signal::QUIT);
    old.wait_state("Handing");
    // A successor that is slow by more than any fixed wait of those that this row is about would allow, and meanwhile
    // the old one serves. The time is the load here, nothing waits for its end.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(6) {
        assert_eq!(get(old.web(), "/").text(), "plain");
        thread::park_timeout(Duration::from_millis(50));
    }
    new.resume();
    new.wait_serving();
    assert!(old.wait_exit(PATIENCE).success());
    assert_eq!(get(new.web(), "/").text(), "plain");
}

#[test]
fn an_idle_connection_that_is_not_to_move_is_closed_after_its_next_response() {
    let (origin, _gate) = holding();
    let close = "guard: \"0s\", idle_connections: Close";
    let old = River::with_config(Config::proxy(&origin).handoff(close)).serve();
    let mut conn = Conn::open(old.web());
    assert!(!conn.get("/").closed);
    let new = upgrade(&old);
    old.wait_state("Draining");
    assert!(conn.is_quiet() && old.alive());
    let response = conn.get("/").expect_status(200);
    assert!(response.closed, "{response:?}");
    conn.expect_closed();
    assert!(old.wait_exit(SOON).success());
    assert!(!get(new.web(), "/").closed);
}

#[test]
fn a_request_half_sent_at_the_hand_over_is_answered() {
    let (origin, _gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = Conn::open(old.web());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nha");
    origin.wait_open_connections(PATIENCE, |open| open > 0);
    let _new = upgrade(&old);
    old.wait_state("Draining");
    conn.send("lf");
    assert!(!conn.read_response("POST").expect_status(200).closed);
    assert_eq!(origin.wait_requests(1, PATIENCE)[0].body, b"half");
    // The connection moves, and is no longer the old one's.
    assert!(old.wait_exit(SOON).success());
    assert!(!conn.get("/").expect_status(200).closed);
}

#[test]
fn what_is_left_at_the_drain_timeout_is_closed() {
    let (origin, _gate) = holding();
    let close = "guard: \"0s\", idle_connections: Close";
    let config = Config::proxy(&origin).system("drain_timeout: \"1s\"").handoff(close);
    let old = River::with_config(config).serve();
    let mut stream = held(old.web());
    let mut idle = Conn::open(old.web());
    idle.get("/");
    let _new = upgrade(&old);
    let draining = old.wait_state("Draining");
    idle.expect_gone_within(PATIENCE);
    assert!(draining.age() >= Duration::from_millis(900), "an idle connection was cut early");
    stream.expect_gone_within(PATIENCE);
    old.wait_exit(SOON);
}

#[test]
fn row_19_a_tunnel_that_is_not_to_move_lives_until_its_own_drain_timeout() {
    let (origin, _gate) = holding();
    let drain = Duration::from_secs(3);
    let config = Config::proxy(&origin)
        .system("drain_timeout: \"1s\", tunnel_drain_timeout: \"3s\"")
        .handoff("guard: \"0s\", idle_connections: Close");
    let old = River::with_config(config).serve();
    let mut stream = held(old.web());
    let mut conn = tunnel(old.web());
    let new = upgrade(&old);
    let draining = old.wait_state("Draining");
    while draining.age() < drain / 2 {
        echo(&mut conn, b"while it drains");
    }
    // A request has had its time by now.
    stream.expect_gone_within(Duration::from_millis(100));
    conn.expect_gone_within(PATIENCE);
    let lived = draining.age();
    assert!(lived > drain - Duration::from_millis(100) && lived < drain + SOON, "{lived:?}");
    old.wait_exit(SOON);
    tunnel(new.web());
}

#[test]
fn a_response_of_thirty_seconds_ends_whole_after_the_hand_over() {
    let steps = 60;
    let origin = Origin::with(move |_, reply| {
        reply.begin_chunked(200, &[])?;
        for step in 0..steps {
            reply.chunk(format!("step {step}\n").as_bytes())?;
            // The length of the response is what is tested.
            thread::sleep(Duration::from_millis(500));
        }
        reply.end(&[("x-steps", "all")])
    });
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = Conn::open(old.web());
    let begin = Instant::now();
    conn.request("GET", "/");
    assert_eq!(conn.read_head().1, 200);
    assert_eq!(conn.reader().chunk().unwrap(), b"step 0\n");
    let _new = upgrade(&old);
    for step in 1..steps {
        assert_eq!(conn.reader().chunk().unwrap(), format!("step {step}\n").as_bytes());
    }
    assert!(conn.reader().chunk().unwrap().is_empty());
    assert_eq!(conn.reader().trailers().unwrap().get("x-steps"), Some("all"));
    assert!(begin.elapsed() >= Duration::from_secs(29));
    drop(conn);
    assert!(old.wait_exit(SOON).success());
}

#[test]
fn row_18_a_third_instance_starts_while_the_first_still_drains() {
    let (origin, gate) = holding();
    let first = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = held(first.web());
    let second = upgrade(&first);
    let third = upgrade(&second);
    assert!(second.wait_exit(PATIENCE).success());
    assert_eq!(get(third.web(), "/").text(), "plain");
    assert!(first.alive());
    gate.open();
    finish_held(&mut conn);
    // Whom it could have moved to has handed over itself.
    expect_one_more(&mut conn);
    assert!(first.wait_exit(SOON).success());
}
