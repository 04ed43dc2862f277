//! `river stop`: a graceful end that is waited for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::sync::Arc;

use support::*;

/// An instance with a request that is answered when the gate opens.
fn holding() -> (Running, Conn, Arc<Gate>, Origin) {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"plain"));
    let river = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = Conn::open(river.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    origin.wait_open_connections(PATIENCE, |open| open > 0);
    (river, conn, gate, origin)
}

#[test]
fn it_waits_for_the_end_of_what_is_under_way() {
    let (river, mut conn, gate, _origin) = holding();
    let family = Family::of(river.dir());
    let stop = family.command(&["stop"]).start();
    let sent = format!("SIGTERM sent to pid {}, which had 1 connection", river.pid());
    stop.wait_for_line(&sent, PATIENCE);
    river.wait_state("Draining");
    assert!(stop.alive());
    gate.open();
    conn.read_response("GET").expect_status(200);
    let ended = format!("pid {} has ended\n", river.pid());
    let said = Said::of(&stop).expect(0, &[&ended]);
    assert_eq!(said.err, "");
    assert!(river.wait_exit(SOON).success());
    assert_eq!(river.dir().names(), ["river.ron"]);
}

#[test]
fn what_still_drains_when_the_time_is_over_is_said() {
    let (river, mut conn, gate, _origin) = holding();
    let family = Family::of(river.dir());
    let drains = format!(
        "river: 300ms are over; pid {} still drains, which had 1 connection; it ends by itself",
        river.pid()
    );
    family.run(&["stop", "--timeout=300ms"]).expect_error(75, &[&drains, "SIGINT"]);
    // It was told to end all the same, and nobody is in service any more.
    river.wait_state("Draining");
    family.run(&["stop"]).expect_error(69, &["no instance is in service"]);
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert!(river.wait_exit(PATIENCE).success());
}

#[test]
fn sigint_ends_the_wait_and_not_the_draining() {
    let (river, mut conn, gate, _origin) = holding();
    let family = Family::of(river.dir());
    let stop = family.command(&["stop"]).start();
    river.wait_state("Draining");
    stop.wait_for_line("SIGTERM sent", PATIENCE);
    stop.signal(Signal::INT);
    Said::by(&stop, SOON).expect_error(75, &["SIGINT came; pid ", " still drains"]);
    assert!(river.alive());
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert!(river.wait_exit(PATIENCE).success());
}

#[test]
fn one_that_is_started_meanwhile_is_told_of() {
    let (river, mut conn, gate, _origin) = holding();
    let family = Family::of(river.dir());
    let stop = family.command(&["stop"]).start();
    stop.wait_for_line("SIGTERM sent", PATIENCE);
    river.wait_state("Draining");
    until("nobody is in service", PATIENCE, || !river.dir().upgrade_socket().exists());
    // As a supervisor does.
    let next = River::in_dir(river.dir().clone()).named("the next").serve();
    gate.open();
    conn.read_response("GET").expect_status(200);
    let goes_on = format!("river: the service goes on: pid {} is in service now", next.pid());
    Said::of(&stop).expect_error(75, &[&goes_on]);
    assert!(river.wait_exit(SOON).success() && next.alive());
}

#[test]
fn nobody_in_service_is_a_failure() {
    let dir = Dir::new();
    fs::write(dir.config(), Config::respond("plain").text()).unwrap();
    Family::of(&dir).run(&["stop"]).expect_error(69, &["no instance is in service at the upgrade socket"]);
}

#[test]
fn earlier_instances_that_drain_are_named_and_left_alone() {
    let (old, mut conn, gate, _origin) = holding();
    let family = Family::of(old.dir());
    let new = upgrade(&old);
    until("the old one has reported", PATIENCE, || family.run(&["status"]).out.contains("Draining"));
    let drains = format!("pid {} drains since an earlier reload", old.pid());
    let ended = format!("pid {} has ended", new.pid());
    family.run(&["stop"]).expect(0, &["SIGTERM sent to pid ", &drains, &ended]);
    assert!(old.alive());
    gate.open();
    conn.read_response("GET").expect_status(200);
    assert!(old.wait_exit(PATIENCE).success());
}

#[test]
fn one_that_waits_to_take_over_is_told() {
    let river = River::with_config(Config::respond("plain")).serve();
    let waiting = river.successor().start();
    waiting.wait_state("AwaitingHandoff");
    Family::of(river.dir()).run(&["stop"]).expect(0, &["has ended"]);
    assert_eq!(waiting.wait_exit(PATIENCE).code(), Some(69));
}
