//! What is to take 100 ms at most, measured: the median of several runs, for a machine that does other things too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use support::log::between;
use support::peer::Peer;
use support::*;

const RUNS: usize = 7;
const LIMIT: Duration = Duration::from_millis(100);

#[track_caller]
fn expect_prompt(what: &str, run: impl FnMut(usize) -> Duration) {
    let mut times: Vec<Duration> = (0..RUNS).map(run).collect();
    times.sort();
    assert!(times[RUNS / 2] < LIMIT, "{what}: {times:?}");
}

/// How long `river` takes to end after `act`.
#[track_caller]
fn end_after(river: &Running, act: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    act();
    assert!(river.ends_within(PATIENCE), "it goes on");
    let took = begin.elapsed();
    assert!(river.wait_exit(PATIENCE).success());
    took
}

/// An origin that answers when the gate opens.
fn holding() -> (Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::with(move |_, reply| {
        waiting.wait(PATIENCE);
        reply.respond(200, &[], b"whole")
    });
    (origin, gate)
}

/// An instance with one request that is held, on a connection that does not move.
fn busy() -> (Origin, Arc<Gate>, Running, Conn) {
    let (origin, gate) = holding();
    let close = "guard: \"0s\", idle_connections: Close";
    let river = River::with_config(Config::proxy(&origin).handoff(close)).serve();
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    origin.wait_requests(1, PATIENCE);
    (origin, gate, river, conn)
}

#[test]
fn row_10_it_ends_within_100_ms_of_its_last_connection() {
    expect_prompt("after SIGTERM", |_| {
        let (_origin, gate, river, mut conn) = busy();
        river.signal(Signal::TERM);
        river.wait_state("Draining");
        gate.open();
        assert_eq!(conn.read_response("GET").text(), "whole");
        end_after(&river, || drop(conn))
    });
    expect_prompt("after a hand-over", |_| {
        let (_origin, gate, river, mut conn) = busy();
        let _new = upgrade(&river);
        river.wait_state("Draining");
        gate.open();
        assert_eq!(conn.read_response("GET").text(), "whole");
        end_after(&river, || drop(conn))
    });
}

#[test]
fn row_10_without_connections_it_ends_within_100_ms_of_the_guard() {
    let guard = Duration::from_millis(300);
    expect_prompt("after the guard", |_| {
        let config = Config::respond("here").handoff("guard: \"300ms\"");
        let river = River::with_config(config).serve();
        let mut conn = Conn::open(river.web());
        conn.get("/");
        let _new = upgrade(&river);
        let owned = river.wait_state("Draining").at;
        assert!(river.wait_exit(PATIENCE).success());
        // Its connection has moved long before.
        assert!(!conn.get("/").closed);
        let lived = river.wait_state("Exited").at - owned;
        assert!(lived >= guard - Duration::from_millis(10), "it guarded for {lived:?} only");
        lived.saturating_sub(guard)
    });
}

#[test]
fn row_02_the_service_is_taken_back_within_100_ms_also_by_one_that_has_no_connection_left() {
    expect_prompt("from the successor's death to the answer", |_| {
        let config = Config::respond("here").handoff("guard: \"10s\"");
        let river = River::with_config(config).serve();
        let address = river.web();
        let new = upgrade(&river);
        river.wait_state("Draining");
        assert!(river.alive());
        let begin = Instant::now();
        new.signal(Signal::KILL);
        river.wait_state_again("Serving", 2);
        assert_eq!(get(address, "/").text(), "here");
        let took = begin.elapsed();
        until("the pidfile names it", PATIENCE, || river.dir().pid() == Some(river.pid()));
        took
    });
}

#[test]
fn row_08_signals_are_obeyed_within_100_ms() {
    expect_prompt("SIGTERM while serving", |_| {
        let river = River::with_config(Config::respond("here")).serve();
        end_after(&river, || river.signal(Signal::TERM))
    });
    expect_prompt("SIGTERM while serving a request", |_| {
        let (_origin, gate, river, _conn) = busy();
        let begin = Instant::now();
        river.signal(Signal::TERM);
        let drains = river.wait_state("Draining").at - begin;
        gate.open();
        drains
    });
    expect_prompt("SIGINT while serving a request", |_| {
        let (_origin, gate, river, _conn) = busy();
        let took = end_after(&river, || river.signal(Signal::INT));
        gate.open();
        took
    });
    for signal in [Signal::TERM, Signal::INT] {
        expect_prompt("while waiting", |_| {
            let river = River::with_config(Config::respond("here")).serve();
            let waiting = river.successor().start();
            waiting.wait_state("AwaitingHandoff");
            end_after(&waiting, || waiting.signal(signal))
        });
        expect_prompt("while handing over, after the commit", |_| {
            let river = River::with_config(Config::respond("here")).serve();
            let successor = Peer::hello(&river.dir().upgrade_socket(), "[1]");
            successor.expect_welcome();
            river.signal(Signal::QUIT);
            let _fds = successor.adopt_all();
            successor.send("Ready");
            successor.expect("Commit");
            end_after(&river, || river.signal(signal))
        });
    }
}

#[test]
fn row_11_a_hand_over_is_done_within_100_ms() {
    expect_prompt("from SIGQUIT to Owned", |_| {
        let river = River::with_config(Config::respond("here")).serve();
        let _new = upgrade(&river);
        between(&river.wait_state("Handing"), &river.wait_state("Draining"))
    });
}
