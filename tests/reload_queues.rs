//! What waits in a listener's queue at the very moment at which the listener changes hands or is given up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use support::config::connectors;
use support::*;

/// An origin that holds every request until the gate is open.
fn holding() -> (Origin, Arc<Gate>) {
    Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"whole"))
}

/// Connections with a request each to a service that takes one at a time: all but the first are in the queue.
fn queue(address: std::net::SocketAddr, origin: &Origin, count: usize) -> Vec<Conn> {
    let ask = |_| {
        let mut conn = Conn::open(address);
        conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        conn
    };
    let conns: Vec<_> = (0..count).map(ask).collect();
    origin.wait_requests(1, PATIENCE);
    conns
}

fn one_at_a_time(origin: &Origin) -> String {
    format!("{}, limits: (max_connections: 1)", connectors(std::slice::from_ref(origin.target())))
}

#[test]
fn row_04_the_queue_of_a_removed_listener_is_served_however_long_it_takes() {
    let (origin, gate) = holding();
    let both = Config::respond("kept").service("gone", &["127.0.0.1:0"], &one_at_a_time(&origin));
    let old = River::with_config(both).serve();
    let queued = queue(old.address("gone", 0), &origin, 40);
    let new = upgrade_to(&old, old.successor().config(Config::respond("kept")));
    old.wait_state("Draining");
    assert_eq!(origin.requests().len(), 1);
    gate.open();
    for mut conn in queued {
        assert_eq!(conn.read_response("GET").text(), "whole");
    }
    assert!(old.wait_exit(PATIENCE).success());
    assert_eq!(get(new.web(), "/").text(), "kept");
}

#[test]
fn row_12_the_queue_of_a_full_service_is_served_by_one_or_the_other() {
    let (origin, gate) = holding();
    let old =
        River::with_config(Config::new().service("web", &["127.0.0.1:0"], &one_at_a_time(&origin))).serve();
    let queued = queue(old.web(), &origin, 40);
    let new = upgrade(&old);
    old.wait_state("Draining");
    gate.open();
    for mut conn in queued {
        assert_eq!(conn.read_response("GET").text(), "whole");
    }
    assert!(old.wait_exit(PATIENCE).success());
    assert_eq!(get(new.web(), "/").text(), "whole");
}

#[test]
fn sigterm_serves_what_is_queued() {
    let (origin, gate) = holding();
    let river =
        River::with_config(Config::new().service("web", &["127.0.0.1:0"], &one_at_a_time(&origin))).serve();
    let queued = queue(river.web(), &origin, 20);
    river.signal(Signal::TERM);
    river.wait_state("Draining");
    gate.open();
    for mut conn in queued {
        assert_eq!(conn.read_response("GET").text(), "whole");
    }
    assert!(river.wait_exit(PATIENCE).success());
}

#[test]
fn a_successor_whose_workers_cannot_start_costs_no_request() {
    let origin = Origin::builder().forgetful().start();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let loads = [Load::keep_alive(4, Pacing::Hammer), Load::per_request(4, Pacing::Hammer)];
    let loads = loads.map(|plan| plan.start(old.web()));
    for _ in 0..3 {
        loads.iter().for_each(|load| load.wait_for(50, PATIENCE));
        // Room for the process and for some workers, but not for all.
        let poor = old.successor().arg("--workers").arg("60").after("ulimit -n 70").start();
        poor.wait_state("AwaitingHandoff");
        old.signal(Signal::QUIT);
        assert_eq!(poor.wait_exit(PATIENCE).code(), Some(69));
    }
    loads.iter().for_each(|load| load.wait_for(50, PATIENCE));
    for load in loads {
        load.stop().expect_none_lost();
    }
    assert_eq!(old.dir().pid(), Some(old.pid()));
}
