//! Connections that move from the instance that drains to the one that serves: clients notice nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::config::respond;
use support::peer::Peer;
use support::*;

/// Idle connections, each with one response behind it.
fn idle(target: impl Into<support::Target>, count: usize, text: &str) -> Vec<Conn> {
    let target = target.into();
    let ask = |_| {
        let mut conn = Conn::open(target.clone());
        let response = conn.get("/");
        assert_eq!((response.text().as_str(), response.closed), (text, false));
        conn
    };
    (0..count).map(ask).collect()
}

/// Each connection's next request is answered by the instance that says `text`, and the connection stays open.
#[track_caller]
fn expect_answered_by(conns: &mut [Conn], text: &str) {
    conns.iter_mut().for_each(|conn| conn.request("GET", "/"));
    for conn in conns {
        let response = conn.read_response("GET");
        assert_eq!((response.text().as_str(), response.closed), (text, false));
    }
}

/// What it says became of its connections: moved, finished, cut.
#[track_caller]
fn tally(river: &Running) -> [u64; 3] {
    let line = river.wait_for_line("what became of the connections", PATIENCE).text;
    ["moved", "finished", "cut"].map(|name| support::log::field(&line, name).unwrap().parse().unwrap())
}

#[test]
fn row_09_a_thousand_idle_connections_move_and_are_answered_by_the_new_one() {
    let old = River::with_config(Config::respond("old")).serve();
    let mut conns = idle(old.web(), 1000, "old");
    let new = upgrade_to(&old, old.successor().config(Config::respond("new")));
    // A request that comes before its connection has moved is answered by the old one.
    assert!(old.wait_exit(PATIENCE).success());
    assert_eq!(tally(&old), [1000, 0, 0]);
    expect_answered_by(&mut conns, "new");
    expect_answered_by(&mut conns, "new");
    drop(conns);
    new.signal(Signal::TERM);
    assert!(new.wait_exit(SOON).success());
}
