//! How much memory a process takes, and each connection that has nothing to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::proc::{anonymous, resident};
use support::*;

/// Connections whose memory is taken together.
const IDLE: usize = 2000;

/// Connections before those, which make the process put up what it keeps in any case.
const FIRST: usize = 64;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A connection that had its first answer and stays.
fn settled(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /idle HTTP/1.1\r\nhost: a.example\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n\r\n")
        .unwrap();
    let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"GET /idle\n") {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&answer));
    stream
}

/// Waits until the process's memory of its own stays what it is, and returns its bytes.
fn at_rest(river: &Running) -> usize {
    let mut last = usize::MAX;
    until("memory stays what it is", PATIENCE, || {
        let now = anonymous(river.pid());
        let same = now == last;
        last = now;
        // Not a wait for an event: nothing tells that a process allocates no more.
        std::thread::park_timeout(Duration::from_millis(50));
        same
    });
    last * KIB
}

#[test]
fn an_idle_connection_takes_two_kib_at_most() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let origin = Origin::echo();
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let first: Vec<_> = (0..FIRST).map(|_| settled(river.web())).collect();
    let before = at_rest(&river);
    let idle: Vec<_> = (0..IDLE).map(|_| settled(river.web())).collect();
    let after = at_rest(&river);
    let each = after.saturating_sub(before) / IDLE;
    println!("{each} bytes for each of {IDLE} idle connections ({before} before, {after} after)");
    // They were there all the time.
    for stream in first.iter().chain(&idle) {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.peek(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
    assert!(after > before, "the memory of {IDLE} connections cannot be nothing");
    assert!(each <= 2 * KIB, "{each} bytes for each idle connection");
}

/// The bound is for what is installed. A debug build's code is several times as large, so it has another.
#[test]
fn a_fresh_process_takes_twelve_mib_at_most() {
    let origin = Origin::echo();
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let resident = resident(river.pid()) * KIB;
    println!("a fresh process has {resident} bytes resident, {} of its own", anonymous(river.pid()) * KIB);
    assert!(resident > 0);
    let most = if cfg!(debug_assertions) { 48 * MIB } else { 12 * MIB };
    assert!(resident <= most, "a fresh process has {resident} bytes resident");
}
