//! Connections that move from the instance that drains to the one that serves: clients notice nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;

use support::config::respond;
use support::peer::{Desk, Peer, offer};
use support::tools::require;
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

#[test]
fn row_09_a_thousand_idle_connections_move_and_are_answered_by_the_new_one() {
    let old = River::with_config(Config::respond("old")).serve();
    let mut conns = idle(old.web(), 1000, "old");
    let new = upgrade_to(&old, old.successor().config(Config::respond("new")));
    // A request that comes before its connection has moved is answered by the old one.
    old.expect_exit_with([1000, 0, 0]);
    expect_answered_by(&mut conns, "new");
    expect_answered_by(&mut conns, "new");
    drop(conns);
    new.signal(Signal::TERM);
    assert!(new.wait_exit(SOON).success());
}

#[test]
fn row_09_a_unix_listeners_connections_move_too() {
    let config = |body| Config::new().service("web", &["unix:web.sock"], &respond(body));
    let old = River::with_config(config("old")).serve();
    let path = old.dir().join("web.sock");
    let mut conns = idle(path.as_path(), 20, "old");
    let _new = upgrade_to(&old, old.successor().config(config("new")));
    old.expect_exit_with([20, 0, 0]);
    expect_answered_by(&mut conns, "new");
}

#[test]
fn row_09_clients_that_never_pause_lose_nothing_and_keep_their_connections() {
    let origin = Origin::builder().forgetful().start();
    let mut current = River::with_config(Config::proxy(&origin)).serve();
    let address = current.web();
    let plans = [
        Load::keep_alive(32, Pacing::Hammer),
        Load::keep_alive(8, Pacing::Hammer).post(20_000),
        Load::keep_alive(4, Pacing::Hammer).pipelined(4),
        Load::keep_alive(32, Pacing::Think(0..=20)),
    ];
    let loads: Vec<Load> = plans.into_iter().map(|plan| plan.start(address)).collect();
    for _ in 0..5 {
        loads.iter().for_each(|load| load.wait_for(200, PATIENCE));
        let next = upgrade(&current);
        let old = mem::replace(&mut current, next);
        // Each connection has a moment at which it is idle.
        old.expect_exit_with([76, 0, 0]);
    }
    loads.iter().for_each(|load| load.wait_for(200, PATIENCE));
    for load in loads {
        let report = load.stop().expect_none_lost();
        assert_eq!((report.reconnects, report.cut_idle, report.resent), (0, 0, 0));
    }
}

#[test]
fn row_10_a_busy_instance_drains_in_the_time_of_its_longest_request() {
    let (origin, gate) = Origin::gated(
        |target| target == "/hold",
        |request, reply| {
            let body = format!("{} {}\n", request.method, request.target);
            reply.respond(200, &[], body.as_bytes())
        },
    );
    let old = River::with_config(Config::proxy(&origin)).serve();
    let load = Load::keep_alive(16, Pacing::Think(0..=5)).start(old.web());
    load.wait_for(50, PATIENCE);
    let mut longest = Conn::open(old.web());
    longest.request("GET", "/hold");
    until("the long request is there", PATIENCE, || {
        origin.requests().iter().any(|request| request.target == "/hold")
    });
    let _new = upgrade(&old);
    load.wait_for(50, PATIENCE);
    assert!(old.alive());
    gate.open();
    assert_eq!(longest.read_response("GET").text(), "GET /hold\n");
    assert!(old.wait_exit(SOON).success());
    assert_eq!(old.tally(), [17, 0, 0]);
    load.wait_for(50, PATIENCE);
    assert_eq!(load.stop().expect_none_lost().reconnects, 0);
}

#[test]
fn a_connection_whose_listener_is_gone_is_answered_once_more_by_the_old_one() {
    let both = Config::respond("old").service("gone", &["127.0.0.1:0"], &respond("old"));
    let old = River::with_config(both).serve();
    let mut kept = idle(old.web(), 3, "old");
    let left = idle(old.address("gone", 0), 3, "old");
    let _new = upgrade_to(&old, old.successor().config(Config::respond("new")));
    old.wait_for_line("the successor declines a connection", PATIENCE);
    for mut conn in left {
        let response = conn.get("/");
        assert_eq!((response.text().as_str(), response.closed), ("old", true));
        conn.expect_closed();
    }
    old.expect_exit_with([3, 3, 0]);
    expect_answered_by(&mut kept, "new");
}

/// Lets the process have no more descriptors than numbers below `most`.
fn limit_descriptors(river: &Running, most: usize) {
    let (pid, limit) = (format!("--pid={}", river.pid()), format!("--nofile={most}:"));
    assert!(Command::new("prlimit").args([pid, limit]).status().unwrap().success());
}

#[test]
fn a_successor_without_descriptors_declines_and_takes_the_next_when_it_has_some() {
    if !require("prlimit") {
        return;
    }
    let gates = [(); 2].map(|()| Arc::new(Gate::new()));
    let waiting = gates.clone();
    let origin = Origin::with(move |request, reply| {
        let nth = usize::from(request.target == "/second");
        waiting[nth].pass();
        reply.respond(200, &[], b"held")
    });
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conns = ["/first", "/second"].map(|path| {
        let mut conn = Conn::open(old.web());
        conn.request("GET", path);
        until("the request is there", PATIENCE, || {
            origin.requests().iter().any(|request| request.target == path)
        });
        conn
    });
    let new = upgrade(&old);
    old.wait_state("Draining");
    limit_descriptors(&new, 3);
    gates[0].open();
    assert_eq!(conns[0].read_response("GET").text(), "held");
    let line = old.wait_for_line("the successor declines a connection", PATIENCE).text;
    assert!(line.contains("0 sockets came"), "{line}");
    limit_descriptors(&new, 1024);
    assert!(conns[0].get("/first").expect_status(200).closed);
    conns[0].expect_closed();
    gates[1].open();
    assert_eq!(conns[1].read_response("GET").text(), "held");
    old.expect_exit_with([1, 1, 0]);
    assert!(!conns[1].get("/second").expect_status(200).closed);
}

#[test]
fn a_service_that_is_full_declines_and_the_old_one_goes_on() {
    let config = |most| Config::respond("here").with(&format!("limits: (max_connections: {most})"));
    let old = River::with_config(config(8)).serve();
    let mut conns = idle(old.web(), 8, "here");
    let new = upgrade_to(&old, old.successor().config(config(3)));
    old.wait_for_line("the successor declines a connection", PATIENCE);
    // Those that the new one did not take are told to leave by the old one.
    let closed = conns
        .iter_mut()
        .filter_map(|conn| Some(conn.get("/").expect_status(200).closed).filter(|closed| *closed));
    assert_eq!(closed.count(), 5);
    assert!(old.wait_exit(SOON).success());
    assert_eq!(old.tally(), [3, 5, 0]);
    drop(new);
}

#[test]
fn nothing_moves_to_a_successor_that_speaks_version_1() {
    let old = River::with_config(Config::respond("old")).serve();
    let mut conns = idle(old.web(), 3, "old");
    let peer = take_over(&old, "[1]");
    old.wait_state("Draining");
    for conn in &mut conns {
        let response = conn.get("/");
        assert_eq!((response.text().as_str(), response.closed), ("old", true));
    }
    assert_eq!(peer.expect("Drained").text, "Drained");
    assert!(old.wait_exit(SOON).success());
    assert_eq!(old.tally(), [0, 3, 0]);
}

/// The test in the place of the successor, which owns the service.
#[track_caller]
fn take_over(old: &Running, versions: &str) -> Peer {
    let peer = Peer::hello(&old.dir().upgrade_socket(), versions);
    if versions.contains('2') {
        peer.wait()
    } else {
        peer.expect_welcome()
    }
    old.wait_for_line("waits to take over", PATIENCE);
    old.signal(Signal::QUIT);
    drop(peer.adopt_all());
    peer.send("Ready");
    peer.expect("Commit");
    peer.send("Owned");
    peer
}

#[test]
fn connections_that_are_not_answered_for_stay_and_no_more_than_a_window_is_on_the_way() {
    let old =
        River::with_config(Config::respond("old").handoff("ready_timeout: \"1s\", guard: \"0s\"")).serve();
    let mut conns = idle(old.web(), 100, "old");
    let peer = take_over(&old, "[2,1]");
    let transfers: Vec<_> = (0..64).map(|_| peer.expect("Transfer")).collect();
    for (number, transfer) in transfers.iter().enumerate() {
        assert!(transfer.text.starts_with(&format!("Transfer(number:{number},")), "{}", transfer.text);
        assert_eq!(transfer.fds.len(), 1);
    }
    // Those that wait for their turn are served meanwhile; those on the way are when the successor is given up.
    let told: Vec<bool> = conns.iter_mut().map(|conn| conn.get("/").expect_status(200).closed).collect();
    old.wait_for_line("the successor does not answer", PATIENCE);
    // It may be heard no more, or two instances would serve one connection.
    let late = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| peer.send("Taken(number:0)")));
    assert!(late.is_err(), "an answer that nobody hears could be sent");
    drop(transfers);
    for (conn, told) in conns.iter_mut().zip(told) {
        // By now all are told.
        assert!(told || conn.get("/").expect_status(200).closed);
        conn.expect_closed();
    }
    old.expect_exit_with([0, 100, 0]);
}

#[test]
fn a_successor_takes_some_connections_and_declines_others() {
    let old = River::with_config(Config::respond("old")).serve();
    let mut conns = idle(old.web(), 2, "old");
    let peer = take_over(&old, "[2]");
    let (first, second) = (peer.expect("Transfer"), peer.expect("Transfer"));
    let ports: Vec<_> = conns.iter().map(|conn| conn.socket().local_address().unwrap()).collect();
    let of = |text: &str| ports.iter().position(|port| text.contains(&port.to_string())).unwrap();
    let (taken, declined) = (of(&first.text), of(&second.text));
    peer.send("Declined(number:1,why:\"a test\")");
    peer.send("Taken(number:0)");
    peer.send("Taken(number:7)");
    old.wait_for_line("what it said is ignored", PATIENCE);
    let response = conns[declined].get("/");
    assert_eq!((response.text().as_str(), response.closed), ("old", true));
    // The other one is the test's: the old instance has let go of it.
    peer.expect("Drained");
    assert!(old.wait_exit(SOON).success());
    assert_eq!(old.tally(), [1, 1, 0]);
    assert!(conns[taken].is_quiet());
    drop(first);
    conns[taken].expect_closed();
}

/// The test in the place of the incumbent, which has handed its one listener over to a real successor.
fn handed_over() -> (Peer, TcpListener, Running) {
    let dir = Dir::new();
    let desk = Desk::open(&dir.upgrade_socket());
    let successor = River::in_dir(dir).config(Config::respond("new")).upgrade().start();
    let peer = desk.greet();
    peer.send(&format!("Welcome(version:2,pid:{},build:\"a test\",generation:1)", std::process::id()));
    peer.send("Inventory(ids:[(\"127.0.0.1:0#web.0\")],more:false)");
    successor.wait_state("AwaitingHandoff");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    offer(&peer, "127.0.0.1:0#web.0", &listener, 0, 1);
    while !peer.receive().unwrap().text.starts_with("Ready") {}
    peer.send("Commit");
    peer.expect("Owned");
    successor.wait_serving();
    (peer, listener, successor)
}

fn transfer(number: u64, id: &str, server: &TcpStream) -> String {
    let peer = server.peer_addr().unwrap();
    format!("Transfer(number:{number},moved:(listener:({id:?}),peer:Some(\"{peer}\"),requests:1,state:Idle))")
}

/// A connection between the test's two hands: the client's end and the server's.
fn connected() -> (Conn, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = Conn::open(listener.local_addr().unwrap());
    (conn, listener.accept().unwrap().0)
}

#[test]
fn a_successor_takes_what_it_can_serve_and_declines_the_rest() {
    let (peer, listener, successor) = handed_over();
    let (mut conn, server) = connected();
    let (ours, other) = ("127.0.0.1:0#web.0", "127.0.0.1:0#other.0");
    let declined = [
        (other, vec![server.as_fd()], "no listener"),
        (ours, vec![], "0 sockets came"),
        (ours, vec![server.as_fd(), server.as_fd()], "2 sockets came"),
        (ours, vec![listener.as_fd()], ""),
    ];
    let mut number = 0;
    for (id, fds, why) in declined {
        peer.send_with(&transfer(number, id, &server), &fds);
        let answer = peer.expect("Declined").text;
        assert!(answer.contains(&format!("number:{number},")) && answer.contains(why), "{answer}");
        number += 1;
    }
    // What the client has sent by then goes with it, and nobody but the successor answers.
    conn.request("GET", "/");
    peer.send_with(&transfer(number, ours, &server), &[server.as_fd()]);
    assert_eq!(peer.expect("Taken").text, format!("Taken(number:{number})"));
    drop(server);
    assert_eq!(conn.read_response("GET").text(), "new");
    assert!(!conn.get("/").closed);
    // A number that is not the next ends the conversation, and the service goes on.
    let (_late, server) = connected();
    peer.send_with(&transfer(number + 2, ours, &server), &[server.as_fd()]);
    peer.expect_closed();
    assert_eq!(conn.get("/").text(), "new");
    assert_eq!(successor.states().last().map(String::as_str), Some("Serving"));
}
