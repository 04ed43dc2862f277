//! Successors that are processes of their own and do what River would not: the instance in service bears with them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::env;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use support::peer::{Desk, Peer, ready_beside};
use support::proc::listening_sockets;
use support::*;

/// What the process that plays the successor is told: where the upgrade socket is, and what to do after `Commit`.
const SOCKET: &str = "PEER_UPGRADE_SOCKET";
const AFTER_COMMIT: &str = "PEER_AFTER_COMMIT";
const VERSIONS: &str = "PEER_VERSIONS";

/// Not a test: the process that plays the successor, started by [`play`]. It does its part and waits to be killed.
#[test]
#[ignore = "played by other tests as a process of its own"]
fn a_successor() {
    let Some(path) = env::var_os(SOCKET).map(PathBuf::from) else { return };
    let versions = env::var(VERSIONS).unwrap();
    let peer = Peer::hello(&path, &versions);
    match versions.as_str() {
        "[1]" => peer.expect_welcome(),
        _ => peer.wait(),
    }
    say("waiting");
    let _fds = peer.adopt_all();
    peer.send("Ready");
    peer.expect("Commit");
    for word in env::var(AFTER_COMMIT).unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
        match word {
            "garbage" => peer.send_raw(b"GET / HTTP/1.1\r\n\r\n", &[]),
            "long" => peer.send_raw(&[b'x'; 130 << 10], &[]),
            word => peer.send(word),
        }
    }
    say("done");
    while let Some(message) = peer.receive() {
        say(&format!("heard {}", message.text));
    }
    say("closed");
    loop {
        thread::park();
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).unwrap();
}

/// Starts a process that waits to take over from `incumbent` and says these words after `Commit`.
#[track_caller]
fn play(incumbent: &Running, after_commit: &str) -> Process {
    play_in("[1]", incumbent, after_commit)
}

/// As [`play`], in one of these versions of the protocol.
#[track_caller]
fn play_in(versions: &str, incumbent: &Running, after_commit: &str) -> Process {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "a_successor", "--ignored", "--nocapture"]);
    command.env(SOCKET, incumbent.dir().upgrade_socket()).env(AFTER_COMMIT, after_commit);
    command.env(VERSIONS, versions);
    let process = Process::start("the played successor", &mut command);
    heard(&process, "waiting");
    process
}

/// Waits until the played successor says `text`.
#[track_caller]
fn heard(process: &Process, text: &str) {
    process.log().wait_for(text, PATIENCE, |lines| lines.iter().any(|line| line.text == text).then_some(()));
}

/// An instance with one connection that is held until the gate opens, so that it does not end when it drains.
fn holding() -> (Origin, Arc<Gate>, Running, Conn) {
    let (origin, gate) =
        Origin::gated(|target| target == "/hold", |_, reply| reply.respond(200, &[], b"whole"));
    let config = Config::proxy(&origin).handoff("ready_timeout: \"1s\", guard: \"3s\"");
    let river = River::with_config(config).serve();
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/hold");
    origin.wait_requests(1, PATIENCE);
    (origin, gate, river, conn)
}

/// It serves again, as if nothing had been: files, connections, the next hand-over.
#[track_caller]
fn expect_back(river: &Running, gate: &Gate, mut held: Conn) {
    assert_eq!(get(river.web(), "/").text(), "whole");
    until("the pidfile names it", PATIENCE, || river.dir().pid() == Some(river.pid()));
    gate.open();
    assert_eq!(held.read_response("GET").text(), "whole");
    drop(held);
    let next = upgrade(river);
    assert_eq!(get(next.web(), "/").text(), "whole");
    assert!(river.wait_exit(PATIENCE).success());
}

#[test]
fn row_02_a_successor_that_says_what_it_should_not_is_borne_with_and_taken_back_from_when_it_dies() {
    for stray in
        ["Ready", "Refuse(why:\"I\")", "garbage", "long", "Owned Owned Hello(versions:[1],pid:1,build:\"x\")"]
    {
        let (_origin, gate, river, held) = holding();
        let successor = play(&river, &format!("Owned {stray}"));
        river.signal(Signal::QUIT);
        heard(&successor, "done");
        river.wait_state("Draining");
        river.wait_for_line("ignored", PATIENCE);
        // Whatever it said, it is not sent away: it serves.
        assert!(!successor.log().contains("heard"), "{}", successor.log().text());
        assert_eq!(river.states().last().map(String::as_str), Some("Draining"));
        successor.signal(Signal::KILL);
        river.wait_state_again("Serving", 2);
        expect_back(&river, &gate, held);
    }
}

#[test]
fn row_02_a_successor_that_is_killed_after_commit_changes_nothing() {
    let (_origin, gate, river, held) = holding();
    let successor = play(&river, "");
    river.signal(Signal::QUIT);
    heard(&successor, "done");
    successor.signal(Signal::KILL);
    river.wait_state_again("Serving", 2);
    expect_back(&river, &gate, held);
}

#[test]
fn row_02_connections_on_their_way_to_a_successor_that_is_killed_live_on() {
    let old = River::with_config(Config::respond("old").handoff("guard: \"10s\"")).serve();
    let mut conns: Vec<_> = (0..100).map(|_| Conn::open(old.web())).collect();
    conns.iter_mut().for_each(|conn| assert!(!conn.get("/").closed));
    let successor = play_in("[2]", &old, "Owned");
    old.wait_for_line("waits to take over", PATIENCE);
    old.signal(Signal::QUIT);
    successor.log().wait_for("the last that may be on the way", PATIENCE, |lines| {
        lines.iter().any(|line| line.text.contains("Transfer(number:63,")).then_some(())
    });
    // Requests on all of them, those that are on the way included.
    conns.iter_mut().for_each(|conn| conn.request("GET", "/"));
    successor.signal(Signal::KILL);
    old.wait_state_again("Serving", 2);
    for conn in &mut conns {
        let response = conn.read_response("GET");
        assert_eq!(response.text(), "old");
        // One that came back before it was known that this instance serves again may be told to leave.
        if !response.closed {
            assert!(!conn.get("/").closed);
        }
    }
}

#[test]
fn row_02_a_successor_that_is_killed_while_connections_move_takes_only_those_it_had() {
    let old = River::with_config(Config::respond("old").handoff("guard: \"10s\"")).serve();
    let conns: Vec<_> = (0..1000)
        .map(|_| {
            let mut conn = Conn::open(old.web());
            assert!(!conn.get("/").closed);
            conn
        })
        .collect();
    let new = upgrade(&old);
    until("some have moved", PATIENCE, || new.fds().len() > 100);
    new.signal(Signal::KILL);
    old.wait_state_again("Serving", 2);
    let mut live = 0;
    for mut conn in conns {
        if conn.try_send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_err() {
            continue;
        }
        // It is answered, or it ended with the successor that had it: nothing hangs.
        match conn.try_read_response("GET") {
            Ok(response) => {
                assert_eq!(response.text(), "old");
                live += 1;
            }
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "a connection hangs"),
        }
    }
    println!("{live} of 1000 connections live on");
    assert!(live < 1000, "none had moved");
    assert_eq!(get(old.web(), "/").text(), "old");
}

#[test]
fn listeners_that_a_dead_successor_did_not_want_are_taken_back_too() {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"whole"));
    let more = support::config::respond("more");
    // As long as is waited below, so that the successor dies within it.
    let kept = || Config::proxy(&origin).handoff("guard: \"20s\"");
    let config = kept().service("tcp", &["127.0.0.1:0"], &more).service("sock", &["unix:web.sock"], &more);
    let old = River::with_config(config).serve();
    let (tcp, sock) = (old.address("tcp", 0), old.dir().join("web.sock"));
    let mut held = Conn::open(old.web());
    held.request("GET", "/hold");
    origin.wait_requests(1, PATIENCE);
    let config = fs::read_to_string(old.dir().config()).unwrap();
    let new = upgrade_to(&old, old.successor().config(kept()));
    until("what was removed is gone", PATIENCE, || {
        Conn::try_open(&tcp.into()).is_err() && !sock.exists() && listening_sockets(tcp.port()) == 0
    });
    new.signal(Signal::KILL);
    old.wait_state_again("Serving", 2);
    assert_eq!(get(tcp, "/").text(), "more");
    assert_eq!(get(sock.as_path(), "/").text(), "more");
    gate.open();
    assert_eq!(held.read_response("GET").text(), "whole");
    drop(held);
    // They are passed like the others from here on.
    let third = upgrade_to(&old, old.successor().config(config));
    // It would guard the third for as long as is waited here.
    old.wait_state_again("Draining", 2);
    old.signal(Signal::TERM);
    assert!(old.wait_exit(PATIENCE).success());
    assert!(
        third.listeners().iter().all(|listener| listener.origin == "inherited"),
        "{:?}",
        third.listeners()
    );
    assert_eq!(get(tcp, "/").text(), "more");
    assert_eq!(get(sock.as_path(), "/").text(), "more");
    third.signal(Signal::TERM);
    assert!(third.wait_exit(PATIENCE).success());
    assert!(!sock.exists());
}

#[test]
fn a_successor_that_failed_is_let_go_of_when_it_has_ended() {
    let river =
        River::with_config(Config::respond("here").handoff("ready_timeout: \"1s\", guard: \"0s\"")).serve();
    let before = river.fds();
    // It closes; it ends after it was given up; it ends after it said what cannot even be read.
    for after_commit in ["", "late", "long"] {
        let count = river.states().iter().filter(|state| *state == "Serving").count();
        let successor = play(&river, if after_commit == "late" { "" } else { after_commit });
        river.signal(Signal::QUIT);
        heard(&successor, "done");
        if !after_commit.is_empty() {
            river.wait_state_again("Serving", count + 1);
            assert_ne!(river.fds().len(), before.len(), "nobody watches the successor that failed");
        }
        successor.signal(Signal::KILL);
        river.wait_state_again("Serving", count + 1);
        until("the table of descriptors is as it was", PATIENCE, || river.fds().len() == before.len());
    }
    let next = upgrade(&river);
    assert_eq!(get(next.web(), "/").text(), "here");
}

#[test]
fn row_02_a_stalled_successor_does_not_hinder_the_next_one() {
    let (_origin, gate, first, mut held) = holding();
    let stalled = play(&first, "");
    first.signal(Signal::QUIT);
    heard(&stalled, "done");
    stalled.pause();
    first.wait_state_again("Serving", 2);
    let third = upgrade(&first);
    let inode = || third.dir().upgrade_socket().metadata().unwrap().ino();
    let before = inode();
    stalled.resume();
    stalled.log().wait_for("its refusal", PATIENCE, |lines| {
        lines.iter().any(|line| line.text.starts_with("heard Refuse")).then_some(())
    });
    gate.open();
    assert_eq!(held.read_response("GET").text(), "whole");
    drop(held);
    assert!(first.wait_exit(PATIENCE).success());
    heard(&stalled, "closed");
    assert_eq!((inode(), third.dir().pid()), (before, Some(third.pid())));
    let fourth = upgrade(&third);
    assert_eq!(get(fourth.web(), "/").text(), "whole");
}

/// A successor that was stopped after its `Ready`, with the test as the instance in service.
fn stopped_when_ready() -> (Arc<Dir>, Desk, Peer, TcpListener, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (dir, desk, peer, successor) = ready_beside(&listener, Config::respond("new"));
    successor.pause();
    (dir, desk, peer, listener, successor)
}

#[test]
fn row_02_a_successor_that_wakes_up_when_it_was_refused_touches_nothing() {
    let (dir, _desk, peer, _listener, successor) = stopped_when_ready();
    let inode = dir.upgrade_socket().metadata().unwrap().ino();
    peer.send("Commit");
    peer.send("Refuse(why:\"timed out waiting for Owned\")");
    successor.resume();
    assert_eq!(successor.wait_exit(PATIENCE).code(), Some(75));
    successor.wait_for_line("timed out waiting for Owned", PATIENCE);
    assert!(peer.receive().is_none(), "it said something");
    assert_eq!(dir.upgrade_socket().metadata().unwrap().ino(), inode);
    assert!(!dir.pidfile().exists());
}

#[test]
fn row_02_a_successor_that_wakes_up_when_another_is_in_service_leaves_its_files_alone() {
    let (dir, _desk, peer, _listener, successor) = stopped_when_ready();
    peer.send("Commit");
    // Meanwhile the one that committed has handed over to another.
    let other = River::with_config(Config::respond("other")).serve();
    fs::rename(other.dir().upgrade_socket(), dir.upgrade_socket()).unwrap();
    fs::rename(other.dir().pidfile(), dir.pidfile()).unwrap();
    let inode = dir.upgrade_socket().metadata().unwrap().ino();
    successor.resume();
    peer.expect("Refuse");
    assert_eq!(successor.wait_exit(PATIENCE).code(), Some(73));
    successor.wait_for_line("another process accepts connections", PATIENCE);
    assert_eq!(dir.upgrade_socket().metadata().unwrap().ino(), inode);
    assert_eq!(dir.pid(), Some(other.pid()));
}
