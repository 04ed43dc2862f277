//! Hand-overs that fail: whatever the successor does or does not do, somebody serves, and it is said who and why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;

use support::peer::{Desk, Peer};
use support::*;

fn serving() -> (Origin, Running) {
    let origin = Origin::builder().forgetful().start();
    let river =
        River::with_config(Config::proxy(&origin).handoff("ready_timeout: \"1s\", guard: \"0s\"")).serve();
    (origin, river)
}

fn waiting_for(incumbent: &Running) -> Running {
    let successor = incumbent.successor().start();
    successor.wait_state("AwaitingHandoff");
    successor
}

/// Load that runs through a failing hand-over and then through one that succeeds.
fn load(river: &Running) -> [Load; 2] {
    let loads = [Load::keep_alive(8, Pacing::Hammer), Load::per_request(4, Pacing::Hammer)];
    loads.map(|plan| plan.start(river.web()))
}

/// The incumbent serves as before, and the next hand-over succeeds; nothing of the load was lost.
#[track_caller]
fn expect_unharmed(old: &Running, loads: [Load; 2]) {
    loads.iter().for_each(|load| load.wait_for(100, PATIENCE));
    assert_eq!(old.dir().pid(), Some(old.pid()));
    let new = upgrade(old);
    loads.iter().for_each(|load| load.wait_for(100, PATIENCE));
    assert!(old.wait_exit(PATIENCE).success());
    for load in loads {
        load.stop().expect_none_lost();
    }
    drop(new);
}

#[test]
fn row_02_a_successor_killed_with_the_sockets_in_its_queue_changes_nothing() {
    let (_origin, old) = serving();
    let loads = load(&old);
    let successor = waiting_for(&old);
    successor.pause();
    old.signal(Signal::QUIT);
    old.wait_state("Handing");
    successor.signal(Signal::KILL);
    old.wait_state_again("Serving", 2);
    expect_unharmed(&old, loads);
}

#[test]
fn row_02_a_successor_that_hangs_with_the_sockets_is_given_up() {
    let (_origin, old) = serving();
    let loads = load(&old);
    let successor = waiting_for(&old);
    successor.pause();
    old.signal(Signal::QUIT);
    old.wait_state_again("Serving", 2);
    assert!(old.why("Serving").unwrap().contains("timed out"), "{:?}", old.why("Serving"));
    successor.resume();
    assert!(!successor.wait_exit(PATIENCE).success());
    successor.wait_for_line("timed out", PATIENCE);
    expect_unharmed(&old, loads);
}

#[test]
fn row_02_a_successor_that_dies_at_any_step_before_commit_changes_nothing() {
    let steps: [fn(&Peer); 4] = [
        |peer| drop(peer.expect("Offer")),
        |peer| drop(peer.adopt_all()),
        |peer| {
            peer.adopt_all();
            peer.send("Refuse(why:\"I do not feel well\")");
        },
        |peer| {
            peer.adopt_all();
            // Out of order: nothing was committed.
            peer.send("Owned");
        },
    ];
    let (_origin, old) = serving();
    let loads = load(&old);
    for (nth, step) in steps.into_iter().enumerate() {
        let peer = Peer::hello(&old.dir().upgrade_socket(), "[1]");
        peer.expect_welcome();
        old.signal(Signal::QUIT);
        step(&peer);
        drop(peer);
        old.wait_state_again("Serving", nth + 2);
    }
    expect_unharmed(&old, loads);
}

#[test]
fn row_02_the_old_one_takes_back_when_the_successor_dies_after_commit() {
    let (_origin, old) = serving();
    let loads = load(&old);
    let peer = Peer::hello(&old.dir().upgrade_socket(), "[1]");
    peer.expect_welcome();
    old.signal(Signal::QUIT);
    let fds = peer.adopt_all();
    peer.send("Ready");
    peer.expect("Commit");
    drop((peer, fds));
    old.wait_state_again("Serving", 2);
    assert_eq!(get(old.web(), "/").status, 200);
    expect_unharmed(&old, loads);
}

#[test]
fn row_02_the_old_one_takes_back_when_the_successor_dies_in_service() {
    let (origin, gate) =
        Origin::gated(|target| target == "/hold", |_, reply| reply.respond(200, &[], b"whole"));
    let old = River::with_config(Config::proxy(&origin).handoff("guard: \"10s\"")).serve();
    let address = old.web();
    let mut conn = Conn::open(address);
    conn.request("GET", "/hold");
    origin.wait_requests(1, PATIENCE);
    let new = upgrade(&old);
    old.wait_state("Draining");
    new.signal(Signal::KILL);
    new.wait_exit(PATIENCE);
    // Connected at once: the old one still holds the listener, so the kernel queues for it.
    let mut queued = Conn::open(address);
    queued.socket().set_read_timeout(SOON).unwrap();
    assert_eq!(queued.get("/").text(), "whole");
    old.wait_state_again("Serving", 2);
    until("the pidfile names the old one", PATIENCE, || old.dir().pid() == Some(old.pid()));
    gate.open();
    assert_eq!(conn.read_response("GET").text(), "whole");
    let third = upgrade(&old);
    assert_eq!(get(third.web(), "/").text(), "whole");
}

#[test]
fn row_06_a_second_waiting_instance_is_refused_at_once() {
    let (_origin, old) = serving();
    let first = waiting_for(&old);
    let inode = || old.dir().upgrade_socket().metadata().unwrap().ino();
    let before = inode();
    let second = old.successor().named("second successor").start();
    // It would wait for ever, so any end is the refusal's.
    assert_eq!(second.wait_exit(PATIENCE).code(), Some(75));
    second.wait_for_line("refused", PATIENCE);
    assert_eq!(inode(), before);
    assert!(first.alive() && old.alive());
    old.signal(Signal::QUIT);
    first.wait_serving();
    assert_eq!(get(first.web(), "/").status, 200);
}

#[test]
fn row_22_a_bad_configuration_is_found_before_anything_is_asked() {
    let (_origin, old) = serving();
    let loads = load(&old);
    let mark = old.mark();
    let bad = Config::respond("new").with("no_such_setting: 1");
    let successor = old.successor().config(bad).start();
    assert_eq!(successor.wait_exit(PATIENCE).code(), Some(78));
    successor.wait_for_line("no_such_setting", PATIENCE);
    assert_eq!(old.mark(), mark, "the one in service was asked for something");
    let again = old.successor().config(Config::respond("new")).start();
    again.wait_state("AwaitingHandoff");
    again.signal(Signal::TERM);
    again.wait_exit(PATIENCE);
    loads.iter().for_each(|load| load.wait_for(100, PATIENCE));
    for load in loads {
        load.stop().expect_none_lost();
    }
}

#[test]
fn row_22_a_new_listener_that_cannot_be_bound_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (origin, old) = serving();
    let loads = load(&old);
    let bind = taken.local_addr().unwrap().to_string();
    let config = Config::proxy(&origin).service("more", &[&bind], &support::config::respond("more"));
    let text = fs::read_to_string(old.dir().config()).unwrap();
    let successor = old.successor().config(config).start();
    // Found out when it starts; if only when it takes over, that is to change nothing either.
    let waits = successor.log().wait_for("that it waits or failed", PATIENCE, |lines| {
        let line = |pattern: &str| lines.iter().any(|line| line.text.contains(pattern));
        (line("to=AwaitingHandoff") || line(&bind)).then(|| line("to=AwaitingHandoff"))
    });
    if waits {
        old.signal(Signal::QUIT);
    }
    assert!(!successor.wait_exit(PATIENCE).success());
    successor.wait_for_line(&bind, PATIENCE);
    fs::write(old.dir().config(), text).unwrap();
    expect_unharmed(&old, loads);
}

#[test]
fn row_23_a_successor_without_a_common_version_is_refused() {
    let (_origin, old) = serving();
    let loads = load(&old);
    let peer = Peer::hello(&old.dir().upgrade_socket(), "[98,99]");
    let refusal = peer.expect("Refuse").text;
    assert!(refusal.contains("version") && refusal.contains("99"), "{refusal}");
    peer.expect_closed();

    let peer = Peer::connect(&old.dir().upgrade_socket());
    peer.send_raw(b"something else altogether", &[]);
    peer.expect_closed();

    // The best common one is chosen.
    let peer = Peer::hello(&old.dir().upgrade_socket(), "[99,1]");
    assert!(peer.expect("Welcome").text.contains("version:1,"));
    drop(peer);
    expect_unharmed(&old, loads);
}

#[test]
fn row_23_an_incumbent_without_a_common_version_goes_on_and_the_successor_says_why() {
    let answers = [
        "Refuse(why:\"no common protocol version\")",
        "Welcome(version:99,pid:1,build:\"new\",generation:1)",
    ];
    for answer in answers {
        let dir = Dir::new();
        let desk = Desk::open(&dir.upgrade_socket());
        let inode = dir.upgrade_socket().metadata().unwrap().ino();
        let successor = River::in_dir(dir.clone()).config(Config::respond("new")).upgrade().start();
        let peer = desk.greet();
        peer.send(answer);
        assert!(!successor.wait_exit(PATIENCE).success());
        if answer.starts_with("Refuse") {
            successor.wait_for_line("no common protocol version", PATIENCE);
        }
        assert_eq!(dir.upgrade_socket().metadata().unwrap().ino(), inode);
        assert!(!dir.pidfile().exists());
    }
}

#[test]
fn an_incumbent_that_dies_leaves_a_waiter_that_says_so_and_files_that_hinder_nobody() {
    let old = River::with_config(Config::respond("here")).serve();
    let waiting = old.successor().start();
    waiting.wait_state("AwaitingHandoff");
    old.signal(Signal::KILL);
    old.wait_exit(PATIENCE);
    assert_eq!(waiting.wait_exit(PATIENCE).code(), Some(69));
    let cold = format!("{} --config {}", env!("CARGO_BIN_EXE_river"), old.dir().config().display());
    waiting.wait_for_line(&format!("nobody serves now; to start cold: {cold}"), PATIENCE);
    // What a killed process left behind does not hinder the next.
    let next = River::in_dir(old.dir().clone()).serve();
    assert_eq!(get(next.web(), "/").text(), "here");
    assert_eq!(next.dir().pid(), Some(next.pid()));
}

#[test]
fn an_incumbent_that_is_terminated_tells_the_waiter_to_go() {
    let old = River::with_config(Config::respond("here")).serve();
    let waiting = old.successor().start();
    waiting.wait_state("AwaitingHandoff");
    old.signal(Signal::TERM);
    assert!(old.wait_exit(PATIENCE).success());
    assert_eq!(waiting.wait_exit(PATIENCE).code(), Some(69));
    waiting.wait_for_line(&format!("pid {} serves no longer; to start cold: ", old.pid()), PATIENCE);
    assert!(!waiting.log().contains("still serving"), "{}", waiting.log().text());
}
