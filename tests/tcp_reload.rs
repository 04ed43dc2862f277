//! Tcp services while the instance that serves them is replaced: neither end notices anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Read;
use std::mem;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use support::bytes::tcp;
use support::counter::Counter;
use support::log::field;
use support::raw::Reader;
use support::socket::ReadHalf;
use support::*;

fn config(service: &str) -> Config {
    Config::new().service("web", &["127.0.0.1:0"], service)
}

/// A server that counts both ways with each client; says what it sent and read of it.
fn counting() -> (BytesOrigin, mpsc::Receiver<(u64, u64)>) {
    let (say, said) = mpsc::channel();
    let say = Mutex::new(say);
    let origin = BytesOrigin::with(move |socket| {
        let reader = Reader::new(ReadHalf(socket.clone()));
        let counts = Counter::start((socket, reader), u64::MAX, Gate::opened()).finish_last();
        say.lock().unwrap().send(counts).unwrap();
        Ok(())
    });
    (origin, said)
}

#[test]
fn connections_count_both_ways_across_upgrades_without_a_gap() {
    let (origin, said) = counting();
    let mut current = River::with_config(config(&tcp(&[origin.address()]))).serve();
    let clients: Vec<Counter> = (0..4)
        .map(|_| Counter::start(Conn::open(current.web()).into_parts(), u64::MAX, Gate::opened()))
        .collect();
    for _ in 0..6 {
        clients.iter().for_each(|client| client.wait_read(2000));
        let next = upgrade(&current);
        let old = mem::replace(&mut current, next);
        old.expect_exit_with([4, 0, 0]);
        let line = old.wait_for_line("it moves to another instance", PATIENCE).text;
        assert_eq!(field(&line, "upstream"), Some(origin.address().to_string()), "{line}");
    }
    clients.iter().for_each(|client| client.wait_read(2000));
    let mut ours: Vec<_> = clients.into_iter().map(Counter::finish).collect();
    let mut theirs: Vec<_> = (0..4).map(|_| said.recv_timeout(PATIENCE).unwrap()).collect();
    ours.sort_unstable();
    theirs.iter_mut().for_each(|(sent, read)| mem::swap(sent, read));
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    assert!(ours.iter().all(|(_, read)| *read > 10_000), "{ours:?}");
}

#[test]
fn a_half_closed_connection_moves_and_hears_the_rest() {
    let (ended, gate) = (Arc::new(Gate::new()), Arc::new(Gate::new()));
    let (told, waiting) = (ended.clone(), gate.clone());
    let origin = BytesOrigin::with(move |socket| {
        let mut all = Vec::new();
        (&*socket).read_to_end(&mut all)?;
        told.open();
        waiting.pass();
        std::io::Write::write_all(&mut &*socket, &all)
    });
    let old = River::with_config(config(&tcp(&[origin.address()]))).serve();
    let mut conn = Conn::open(old.web());
    conn.send("there and back");
    conn.finish();
    ended.pass();
    let _new = upgrade(&old);
    old.expect_exit_with([1, 0, 0]);
    gate.open();
    assert_eq!(conn.read_to_end(), b"there and back");
}

#[test]
fn a_connection_whose_client_hello_is_half_there_stays_until_it_has_a_server_and_then_moves() {
    let origin = BytesOrigin::named("a");
    let service = format!("tcp: (servers: [(addr: \"{}\", sni: [\"x.example\"])])", origin.address());
    let old = River::with_config(config(&service)).serve();
    // A ClientHello with nothing but the name.
    let name = b"\0\0\0\x0e\0\x0c\0\0\x09x.example";
    let body = [&[3, 3], &[7; 32][..], &[0, 0, 2, 0x13, 1, 1, 0, 0, name.len() as u8], name].concat();
    let message = [&[1, 0, 0, body.len() as u8], &body[..]].concat();
    let hello = [&[22, 3, 1, 0, message.len() as u8], &message[..]].concat();
    let mut conn = Conn::open(old.web());
    conn.send(&hello[..20]);
    // Both have been accepted when the second is answered.
    let mut other = Conn::open(old.web());
    other.send(&hello);
    assert_eq!(other.reader().exactly(1).unwrap(), b"a");
    let new = upgrade(&old);
    new.wait_serving();
    old.wait_for_line("it moves to another instance", PATIENCE);
    assert!(conn.is_quiet());
    conn.send(&hello[20..]);
    assert_eq!(conn.reader().exactly(1).unwrap(), b"a");
    assert!(conn.reader().exactly(hello.len()).unwrap() == hello);
    old.expect_exit_with([2, 0, 0]);
    conn.send("after");
    assert_eq!(conn.reader().exactly(5).unwrap(), b"after");
    conn.finish();
    conn.expect_closed();
    let line = new.wait_for_line("connection ended", PATIENCE).text;
    assert_eq!(field(&line, "sni").as_deref(), Some("x.example"), "{line}");
}

#[test]
fn where_connections_do_not_move_they_have_the_time_of_tunnels() {
    let origin = BytesOrigin::named("x");
    let config = config(&tcp(&[origin.address()]))
        .system("tunnel_drain_timeout: \"1s\"")
        .system("drain_timeout: \"60s\"")
        .handoff("guard: \"0s\", idle_connections: Close");
    let old = River::with_config(config).serve();
    let mut conn = Conn::open(old.web());
    assert_eq!(conn.reader().exactly(1).unwrap(), b"x");
    let _new = upgrade(&old);
    conn.send("still here");
    assert_eq!(conn.reader().exactly(10).unwrap(), b"still here");
    conn.expect_gone_within(PATIENCE);
    old.wait_exit(PATIENCE);
    assert_eq!(old.tally(), [0, 0, 1]);
}

#[test]
fn a_client_of_requests_stays_with_the_old_instance_where_the_new_one_takes_none() {
    let http = Origin::echo();
    let bytes = BytesOrigin::named("x");
    let listen = "listeners: [(bind: \"127.0.0.1:0\")]";
    let before = format!("{listen}, {}", support::config::connectors(&[http.target().clone()]));
    let after = format!("{listen}, {}", tcp(&[bytes.address()]));
    let of = |text: &str| Config::new().service_text("web", text);
    let old = River::with_config(of(&before)).serve();
    let mut idle = Conn::open(old.web());
    idle.get("/1").expect_status(200);
    let new = upgrade_to(&old, old.successor().config(of(&after)));
    // Once it was offered and declined, it is told that its connection ends; until then, too, whoever its requests are
    // for answers them.
    until("the connection ends", PATIENCE, || {
        let response = idle.get("/2").expect_status(200);
        assert_eq!(response.text(), "GET /2\n");
        response.closed
    });
    let mut conn = Conn::open(new.web());
    assert_eq!(conn.reader().exactly(1).unwrap(), b"x");
    assert!(old.wait_exit(PATIENCE).success());
}

#[test]
fn connections_go_on_where_the_new_instance_has_other_servers() {
    let (one, two) = (BytesOrigin::named("1"), BytesOrigin::named("2"));
    let old = River::with_config(config(&tcp(&[one.address()]))).serve();
    let mut conn = Conn::open(old.web());
    assert_eq!(conn.reader().exactly(1).unwrap(), b"1");
    let new = upgrade_to(&old, old.successor().config(config(&tcp(&[two.address()]))));
    assert!(old.wait_exit(PATIENCE).success());
    conn.send("x");
    assert_eq!(conn.reader().exactly(1).unwrap(), b"x");
    let mut other = Conn::open(new.web());
    assert_eq!(other.reader().exactly(1).unwrap(), b"2");
    conn.finish();
    conn.expect_closed();
}
