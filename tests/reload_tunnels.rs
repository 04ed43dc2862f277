//! Tunnels that move from the instance that drains to the one that serves: neither end notices anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use support::counter::Counter;
use support::raw::Reader;
use support::socket::ReadHalf;
use support::*;

const UPGRADE: &str = "GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const SWITCHED: [(&str, &str); 2] = [("connection", "upgrade"), ("upgrade", "echo")];

/// A tunnel, of which nothing but the 101 was read.
fn tunnel(address: SocketAddr) -> Conn {
    let mut conn = Conn::open(address);
    conn.send(UPGRADE);
    conn.read_response("GET").expect_status(101);
    conn
}

/// An origin whose tunnels count both ways, until the client ends; what it counted is kept in the cell.
fn counting(most: u64, gate: Arc<Gate>) -> (Origin, Arc<Gate>, Arc<[AtomicU64; 2]>) {
    let (done, counts) = (Arc::new(Gate::new()), Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
    let (finished, result) = (done.clone(), counts.clone());
    let origin = Origin::with(move |_, reply| {
        reply.head(101, &SWITCHED)?;
        reply.close();
        let socket = reply.shared_socket();
        let reader = Reader::new(ReadHalf(socket.clone()));
        let (sent, read) = Counter::start((socket, reader), most, gate.clone()).finish_last();
        result[0].store(sent, Ordering::SeqCst);
        result[1].store(read, Ordering::SeqCst);
        finished.open();
        Ok(())
    });
    (origin, done, counts)
}

#[test]
fn row_19_a_tunnel_counts_both_ways_across_ten_upgrades_without_a_gap() {
    let (origin, done, counts) = counting(u64::MAX, Gate::opened());
    let mut current = River::with_config(Config::proxy(&origin)).serve();
    let conn = tunnel(current.web());
    let client = Counter::start(conn.into_parts(), u64::MAX, Gate::opened());
    for _ in 0..10 {
        client.wait_read(5000);
        let next = upgrade(&current);
        let old = mem::replace(&mut current, next);
        old.expect_exit_with([1, 0, 0]);
    }
    client.wait_read(5000);
    let (sent, read) = client.finish();
    assert!(done.wait(PATIENCE));
    assert_eq!([read, sent], [counts[0].load(Ordering::SeqCst), counts[1].load(Ordering::SeqCst)]);
    assert!(sent > 50_000 && read > 50_000, "{sent} {read}");
}

#[test]
fn row_19_what_a_tunnel_holds_for_ends_that_read_slowly_moves_with_it() {
    // More than all buffers between the two ends hold.
    let most = 4 << 20;
    let gate = Arc::new(Gate::new());
    let (origin, done, counts) = counting(most, gate.clone());
    let mut current = River::with_config(Config::proxy(&origin)).serve();
    let client = Counter::start(tunnel(current.web()).into_parts(), most, gate.clone());
    // Nobody reads, so that what was sent fills River, too. How full everything is is for the test's strength only.
    let mut last = u64::MAX;
    until("nothing more can be sent", PATIENCE, || {
        thread::park_timeout(Duration::from_millis(100));
        mem::replace(&mut last, client.sent.load(Ordering::SeqCst)) == last
    });
    assert!(last < most, "it all fits into the buffers");
    for upgrades in 0..3 {
        let next = upgrade(&current);
        let old = mem::replace(&mut current, next);
        if upgrades == 0 {
            // It moves when there is little enough that nobody has read yet, and until then it is served.
            gate.open();
        }
        old.expect_exit_with([1, 0, 0]);
    }
    assert!(client.read.load(Ordering::SeqCst) < most, "it was over before the last upgrade");
    until("all is sent", PATIENCE, || client.writing.is_finished());
    let (sent, read) = client.finish();
    assert!(done.wait(PATIENCE));
    assert_eq!((sent, read), (most, most));
    assert_eq!(counts.each_ref().map(|count| count.load(Ordering::SeqCst)), [most, most]);
}

#[test]
fn a_tunnel_whose_client_has_ended_moves_and_hears_the_rest() {
    let gate = Arc::new(Gate::new());
    let ended = Arc::new(Gate::new());
    let (waiting, told) = (gate.clone(), ended.clone());
    let origin = Origin::with(move |_, reply| {
        reply.head(101, &SWITCHED)?;
        reply.close();
        while !reply.read_some()?.is_empty() {}
        told.open();
        waiting.pass();
        reply.raw(b"the rest")
    });
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = tunnel(old.web());
    conn.send("all there is");
    conn.finish();
    ended.pass();
    let _new = upgrade(&old);
    old.expect_exit_with([1, 0, 0]);
    gate.open();
    assert_eq!(conn.read_to_end(), b"the rest");
}

#[test]
fn a_tunnel_whose_server_has_ended_moves_and_is_heard_to_the_end() {
    let heard = Arc::new(Gate::new());
    let told = heard.clone();
    let origin = Origin::with(move |_, reply| {
        reply.head(101, &SWITCHED)?;
        reply.raw(b"all there is")?;
        reply.finish()?;
        reply.close();
        assert_eq!(reply.read_rest()?, b"before and after");
        told.open();
        Ok(())
    });
    let old = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = tunnel(old.web());
    conn.send("before ");
    // The end of the server's direction has come through.
    assert_eq!(conn.read_to_end(), b"all there is");
    let _new = upgrade(&old);
    old.expect_exit_with([1, 0, 0]);
    conn.send("and after");
    conn.finish();
    heard.pass();
}

#[test]
fn a_tunnel_on_unix_sockets_moves_too() {
    let dir = Dir::new();
    let origin =
        Origin::builder().answer(|_, reply| reply.tunnel(&SWITCHED)).start_unix(&dir.join("origin.sock"));
    let service = support::config::connectors(std::slice::from_ref(origin.target()));
    let config = || Config::new().service("web", &["unix:web.sock"], &service);
    let old = River::in_dir(dir).config(config()).serve();
    let path = old.dir().join("web.sock");
    let mut conn = Conn::open(path.as_path());
    conn.send(UPGRADE);
    conn.read_response("GET").expect_status(101);
    let _new = upgrade(&old);
    old.expect_exit_with([1, 0, 0]);
    conn.send("after");
    assert_eq!(conn.reader().exactly(5).unwrap(), b"after");
    conn.finish();
    conn.expect_closed();
}
