//! Signals: taken in every state, whatever was inherited, and never to the service's harm.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use support::peer::{Desk, Peer, offer, ready_beside};
use support::*;

/// An origin that begins a response and holds it until the gate opens.
fn holding() -> (Origin, Arc<Gate>) {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = Origin::with(move |_, reply| {
        reply.begin_chunked(200, &[])?;
        reply.chunk(b"first")?;
        waiting.wait(PATIENCE);
        reply.end(&[])
    });
    (origin, gate)
}

fn held(river: &Running) -> Conn {
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    assert_eq!(conn.read_head().1, 200);
    assert_eq!(conn.reader().chunk().unwrap(), b"first");
    conn
}

fn waiting_for(incumbent: &Running) -> Running {
    let successor = incumbent.successor().start();
    successor.wait_state("AwaitingHandoff");
    successor
}

/// Waits for the instance to end by itself and not by the signal's default, within what is to be 100 ms.
#[track_caller]
fn expect_obeyed(river: &Running) {
    let status = river.wait_exit(SOON);
    assert_eq!(status.signal(), None, "killed by the signal: {status}");
}

#[test]
fn row_01_sigquit_while_nobody_waits_goes_on_serving() {
    let river = River::with_config(Config::respond("here")).serve();
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/").text(), "here");
    for _ in 0..3 {
        let mark = river.mark();
        river.signal(Signal::QUIT);
        river.wait_line_after(mark, "serving");
        assert!(!conn.get("/").closed);
        assert_eq!(get(river.web(), "/").text(), "here");
    }
    assert!(!river.states().iter().any(|state| state == "Draining"));
    assert_eq!(river.dir().pid(), Some(river.pid()));
    let new = upgrade(&river);
    assert_eq!(get(new.web(), "/").text(), "here");
}

#[test]
fn row_07_a_signal_in_the_first_milliseconds_leaves_nothing_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        for _ in 0..10 {
            let river = River::with_config(Config::respond("here")).start();
            river.wait_catches(&[signal], PATIENCE);
            river.signal(signal);
            let status = river.wait_exit(SOON);
            assert_eq!(status.signal(), None, "killed by the signal: {status}");
            assert_eq!(river.dir().names(), ["river.ron"]);
        }
    }
}

#[test]
fn row_07_sigquit_in_the_first_milliseconds_does_not_keep_it_from_serving() {
    for _ in 0..10 {
        let river = River::with_config(Config::respond("here")).start();
        river.wait_catches(&[Signal::QUIT], PATIENCE);
        river.signal(Signal::QUIT);
        river.wait_serving();
        assert_eq!(get(river.web(), "/").text(), "here");
    }
}

#[test]
fn row_07_a_signal_to_the_waiting_instance_leaves_the_one_in_service_alone() {
    let old = River::with_config(Config::respond("here")).serve();
    let names = old.dir().names();
    for signal in [Signal::TERM, Signal::INT] {
        let successor = waiting_for(&old);
        successor.signal(signal);
        expect_obeyed(&successor);
        assert_eq!(old.dir().names(), names);
        assert_eq!(old.dir().pid(), Some(old.pid()));
    }
    // The place of the waiter is free again.
    let new = upgrade(&old);
    assert_eq!(get(new.web(), "/").text(), "here");
}

#[test]
fn row_07_sigquit_to_the_waiting_instance_lets_it_go_on_waiting() {
    let old = River::with_config(Config::respond("here")).serve();
    let successor = waiting_for(&old);
    let mark = successor.mark();
    successor.signal(Signal::QUIT);
    successor.wait_line_after(mark, "");
    assert!(successor.alive());
    old.signal(Signal::QUIT);
    successor.wait_serving();
    assert_eq!(get(successor.web(), "/").text(), "here");
}

#[test]
fn row_08_signals_are_obeyed_while_serving() {
    let river = River::with_config(Config::respond("here")).serve();
    river.signal(Signal::TERM);
    assert!(river.wait_exit(SOON).success());

    let (origin, _gate) = holding();
    let river = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = held(&river);
    river.signal(Signal::INT);
    expect_obeyed(&river);
    conn.expect_gone_within(PATIENCE);
    assert_eq!(river.dir().names(), ["river.ron"]);
}

#[test]
fn row_08_signals_are_obeyed_while_handing_over() {
    for signal in [Signal::TERM, Signal::INT] {
        let old = River::with_config(Config::respond("here")).serve();
        let successor = waiting_for(&old);
        successor.pause();
        old.signal(Signal::QUIT);
        old.wait_state("Handing");
        old.signal(signal);
        expect_obeyed(&old);
    }
}

#[test]
fn row_08_signals_are_obeyed_while_taking_over() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = Dir::new();
        let desk = Desk::open(&dir.upgrade_socket());
        let successor = River::in_dir(dir).config(Config::respond("here")).upgrade().start();
        let peer = desk.welcome(&["127.0.0.1:0#web.0"]);
        successor.wait_state("AwaitingHandoff");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // The second batch never comes.
        offer(&peer, "127.0.0.1:0#web.0", &listener, 0, 2);
        peer.expect("Adopted");
        successor.signal(signal);
        expect_obeyed(&successor);
    }
}

#[test]
fn row_08_signals_are_obeyed_while_meeting_the_incumbent() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = Dir::new();
        let desk = Desk::open(&dir.upgrade_socket());
        let successor = River::in_dir(dir.clone()).config(Config::respond("here")).upgrade().start();
        // It said hello and gets no answer.
        let peer = desk.greet();
        successor.signal(Signal::QUIT);
        successor.signal(signal);
        expect_obeyed(&successor);
        peer.expect_closed();
        assert_eq!(dir.names(), ["river.ron", "upgrade.sock"]);
    }
}

#[test]
fn row_08_signals_are_obeyed_while_accepting_beside_the_incumbent() {
    for signal in [Signal::TERM, Signal::INT] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (dir, _desk, peer, successor) = ready_beside(&listener, Config::respond("here"));
        assert_eq!(get(successor.web(), "/").text(), "here");
        successor.signal(Signal::QUIT);
        successor.signal(signal);
        peer.expect("Refuse");
        expect_obeyed(&successor);
        assert_eq!(dir.names(), ["river.ron", "upgrade.sock"]);
    }
}

#[test]
fn row_08_signals_are_obeyed_after_the_commit() {
    for signal in [Signal::TERM, Signal::INT] {
        let old = River::with_config(Config::respond("here")).serve();
        let successor = Peer::hello(&old.dir().upgrade_socket(), "[1]");
        successor.expect_welcome();
        old.signal(Signal::QUIT);
        let fds = successor.adopt_all();
        successor.send("Ready");
        successor.expect("Commit");
        old.signal(signal);
        expect_obeyed(&old);
        // It was let to take over, and is not told otherwise.
        assert!(successor.receive().is_none());
        assert_eq!(old.dir().names(), ["river.ron"]);
        drop(fds);
    }
}

#[test]
fn row_08_sigint_is_obeyed_while_draining() {
    let (origin, _gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = held(&old);
    let new = upgrade(&old);
    old.wait_state("Draining");
    old.signal(Signal::INT);
    expect_obeyed(&old);
    conn.expect_gone_within(PATIENCE);
    assert_eq!(new.dir().pid(), Some(new.pid()));
}

#[test]
fn row_08_sigterm_and_sigquit_while_draining_do_not_cut_what_drains() {
    let (origin, gate) = holding();
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = held(&old);
    let _new = upgrade(&old);
    old.wait_state("Draining");
    old.signal(Signal::TERM);
    old.signal(Signal::QUIT);
    gate.open();
    assert!(conn.reader().chunk().unwrap().is_empty());
    drop(conn);
    assert!(old.wait_exit(SOON).success());
}

#[test]
fn row_24_signals_that_a_shell_had_ignored_are_taken() {
    let ignoring = "trap '' QUIT INT TERM HUP";
    let old = River::with_config(Config::respond("here")).after(ignoring).serve();
    let new = upgrade_to(&old, old.successor().after(ignoring));
    assert!(old.wait_exit(SOON).success());
    new.signal(Signal::INT);
    expect_obeyed(&new);

    let third = River::in_dir(new.dir().clone()).after(ignoring).serve();
    third.signal(Signal::TERM);
    assert!(third.wait_exit(SOON).success());
}

#[test]
fn a_signal_without_a_meaning_is_named_and_does_not_kill() {
    let river = River::with_config(Config::respond("here")).serve();
    river.signal(Signal::USR2);
    river.wait_for_line("SIGUSR2 has no meaning yet", PATIENCE);
    assert_eq!(get(river.web(), "/").text(), "here");
}
