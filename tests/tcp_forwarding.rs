//! Tcp services: bytes of any kind, from a client to a server and back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use support::bytes::tcp;
use support::log::field;
use support::origin::refusing;
use support::tls::{Authority, NAME, Trust, VERSIONS};
use support::*;

fn config(service: &str) -> Config {
    Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], service)
}

fn in_front_of(origin: &BytesOrigin) -> Running {
    River::with_config(config(&tcp(&[origin.address()]))).serve()
}

#[test]
fn bytes_go_both_ways_as_they_are() {
    let origin = BytesOrigin::named("hello ");
    let river = in_front_of(&origin);
    let mut conn = Conn::open(river.web());
    // The server may speak first.
    assert_eq!(conn.reader().exactly(6).unwrap(), b"hello ");
    let block: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let (socket, mut reader) = conn.into_parts();
    let sending = thread::spawn({
        let block = block.clone();
        move || {
            (&*socket).write_all(&block).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        }
    });
    assert!(reader.until_end().unwrap() == block);
    sending.join().unwrap();
    let line = river.wait_for_line("connection ended", PATIENCE).text;
    assert_eq!(field(&line, "service").as_deref(), Some("web"), "{line}");
    assert_eq!(field(&line, "upstream"), Some(origin.address().to_string()), "{line}");
    assert_eq!(field(&line, "to_server").as_deref(), Some("3000000"), "{line}");
    assert_eq!(field(&line, "to_client").as_deref(), Some("3000006"), "{line}");
    assert_eq!(field(&line, "why").as_deref(), Some("both ends have ended"), "{line}");
    assert!(field(&line, "ms").unwrap().parse::<u64>().is_ok(), "{line}");
}

#[test]
fn the_clients_end_is_passed_on_and_the_other_direction_stays() {
    let origin = BytesOrigin::with(|socket| {
        let mut all = Vec::new();
        (&*socket).read_to_end(&mut all)?;
        (&*socket).write_all(format!("{} bytes", all.len()).as_bytes())
    });
    let river = in_front_of(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("12345");
    conn.finish();
    assert_eq!(conn.read_to_end(), b"5 bytes");
}

#[test]
fn the_servers_end_is_passed_on_and_the_other_direction_stays() {
    let (said, heard) = std::sync::mpsc::channel();
    let said = std::sync::Mutex::new(said);
    let origin = BytesOrigin::with(move |socket| {
        (&*socket).write_all(b"bye")?;
        socket.shutdown(Shutdown::Write)?;
        let mut all = Vec::new();
        (&*socket).read_to_end(&mut all)?;
        said.lock().unwrap().send(all).unwrap();
        Ok(())
    });
    let river = in_front_of(&origin);
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.read_to_end(), b"bye");
    conn.send("still here");
    conn.finish();
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"still here");
}

#[test]
fn a_client_that_ends_at_once_is_passed_on_too() {
    let origin = BytesOrigin::with(|socket| {
        let mut all = Vec::new();
        (&*socket).read_to_end(&mut all)?;
        (&*socket).write_all(b"nothing came")
    });
    let river = in_front_of(&origin);
    let mut conn = Conn::open(river.web());
    conn.finish();
    assert_eq!(conn.read_to_end(), b"nothing came");
}

#[test]
fn a_reset_on_one_side_ends_the_other() {
    let origin = BytesOrigin::named("");
    let river = in_front_of(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("x");
    assert_eq!(conn.reader().exactly(1).unwrap(), b"x");
    conn.reset();
    origin.wait_open(|open| open == 0);
    let line = river.wait_for_line("connection failed", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("downstream"), "{line}");

    let resetting = BytesOrigin::with(|socket| {
        (&*socket).read_exact(&mut [0])?;
        socket.reset_on_close()
    });
    let river = in_front_of(&resetting);
    let mut conn = Conn::open(river.web());
    conn.send("x");
    conn.expect_gone_within(PATIENCE);
    let line = river.wait_for_line("connection failed", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
}

#[test]
fn a_connection_that_carries_nothing_is_closed_and_one_that_does_is_not() {
    let origin = BytesOrigin::named("");
    let service = tcp(&[origin.address()]).replace("tcp: (", "tcp: (idle_timeout: \"500ms\", ");
    let river = River::with_config(config(&service)).serve();
    let mut silent = Conn::open(river.web());
    let mut busy = Conn::open(river.web());
    // More than twice the time-out, a byte at a time, each well within it.
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_millis(1200) {
        busy.send("x");
        assert_eq!(busy.reader().exactly(1).unwrap(), b"x");
        thread::park_timeout(std::time::Duration::from_millis(20));
    }
    silent.expect_closed();
    let line = river.wait_for_line("connection failed", PATIENCE).text;
    assert!(field(&line, "why").unwrap().contains("nothing moved"), "{line}");
    busy.send("y");
    assert_eq!(busy.reader().exactly(1).unwrap(), b"y");
}

#[test]
fn a_server_that_refuses_is_passed_over() {
    let origin = BytesOrigin::named("here");
    let servers = [refusing(), origin.address(), refusing()];
    let river = River::with_config(config(&tcp(&servers))).serve();
    for count in 1..=6 {
        let mut conn = Conn::open(river.web());
        assert_eq!(conn.reader().exactly(4).unwrap(), b"here");
        assert_eq!(origin.connections(), count);
    }
}

#[test]
fn where_no_server_takes_a_connection_it_is_closed_and_the_log_says_why() {
    let refusing = refusing();
    let river = River::with_config(config(&tcp(&[refusing]))).serve();
    let mut conn = Conn::open(river.web());
    conn.expect_gone_within(PATIENCE);
    let line = river.wait_for_line("connection failed", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
    assert!(field(&line, "why").unwrap().contains(&format!("cannot connect to {refusing}")), "{line}");
}

#[test]
fn servers_have_their_turns_by_weight() {
    let origins = ["a", "b"].map(BytesOrigin::named);
    let [a, b] = origins.each_ref().map(BytesOrigin::address);
    let service = format!("tcp: (servers: [(addr: \"{a}\", weight: 2), (addr: \"{b}\")])");
    let river = River::with_config(config(&service)).serve();
    let mut said = String::new();
    for _ in 0..9 {
        let mut conn = Conn::open(river.web());
        said.push(conn.reader().exactly(1).unwrap()[0].into());
    }
    assert_eq!(said.matches('a').count(), 6, "{said}");
    assert!(!said.contains("aaa") && !said.contains("bb"), "{said}");
}

#[test]
fn connections_above_the_limit_wait_until_one_ends() {
    let origin = BytesOrigin::named("x");
    let river =
        River::with_config(config(&tcp(&[origin.address()])).with("limits: (max_connections: 2)")).serve();
    let mut conns: Vec<Conn> = (0..3).map(|_| Conn::open(river.web())).collect();
    for conn in &mut conns[..2] {
        assert_eq!(conn.reader().exactly(1).unwrap(), b"x");
    }
    river.wait_for_line("limits.max_connections", PATIENCE);
    assert!(conns[2].is_quiet());
    assert_eq!(origin.connections(), 2);
    drop(conns.remove(0));
    assert_eq!(conns[1].reader().exactly(1).unwrap(), b"x");
}

#[test]
fn a_client_that_resets_while_the_server_is_awaited_makes_no_connection_last() {
    // A server whose queue is full takes no connection and refuses none.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    until("the queue is full", PATIENCE, || {
        match std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => return true,
        }
        false
    });
    let river = River::with_config(config(&tcp(&[address])).with("timeouts: (connect: \"60s\")")).serve();
    let conn = Conn::open(river.web());
    conn.reset();
    let line = river.wait_for_line("connection failed", PATIENCE).text;
    assert_eq!(
        field(&line, "why").as_deref(),
        Some("the client reset the connection before it had a server"),
        "{line}"
    );
    // One that is not patient is closed at its time.
    let river = River::with_config(config(&tcp(&[address])).with("timeouts: (connect: \"100ms\")")).serve();
    Conn::open(river.web()).expect_gone_within(PATIENCE);
    let line = river.wait_for_line("connection failed", PATIENCE).text;
    assert!(field(&line, "why").unwrap().contains("longer than the connect time-out"), "{line}");
}

#[test]
fn unix_sockets_go_both_ways() {
    let dir = Dir::new();
    let path = dir.join("server.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let serving = thread::spawn(move || {
        let mut socket = listener.accept().unwrap().0;
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        socket.write_all(&all).unwrap();
    });
    let service = format!("tcp: (servers: [(addr: \"unix:{}\")])", path.display());
    let river = River::in_dir(Arc::clone(&dir))
        .config(Config::new().service("web", &["unix:web.sock"], &service))
        .serve();
    let mut conn = Conn::open(river.dir().join("web.sock").as_path());
    conn.send("there and back");
    conn.finish();
    assert_eq!(conn.read_to_end(), b"there and back");
    serving.join().unwrap();
}

#[test]
fn tls_can_end_here_and_any_protocol_be_proposed_in_it() {
    let (authority, dir) = (Authority::new("authority"), Dir::new());
    authority.sign(NAME).write(dir.path(), "site");
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let origin = BytesOrigin::with({
        let heard = Arc::clone(&heard);
        move |socket| {
            (&*socket).read_to_end(&mut heard.lock().unwrap())?;
            (&*socket).write_all(b"the answer")
        }
    });
    let tls = "tls: (certificates: [(cert: \"site.pem\", key: \"site.key\")])";
    let service = format!("listeners: [(bind: \"127.0.0.1:0\", {tls})], {}", tcp(&[origin.address()]));
    let river = River::in_dir(dir).config(Config::new().service_text("web", &service)).serve();
    let mut client = authority.client(&VERSIONS);
    client.alpn_protocols = vec![b"postgresql".to_vec(), b"h2".to_vec()];
    let mut conn = Conn::open(Target::Tls(river.web(), Trust::new(client)));
    conn.send("in the clear behind River");
    assert_eq!(conn.socket().tls().session().alpn_protocol(), None);
    conn.finish();
    // An end without a close_notify would be an error.
    assert_eq!(conn.read_to_end(), b"the answer");
    assert_eq!(*heard.lock().unwrap(), b"in the clear behind River");
}
