//! Clients and servers that leave in every wrong way: River keeps nothing of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use support::*;

/// How many connections there are in all, and how many clients make them.
const CONNECTIONS: usize = 10_000;
const WORKERS: usize = 2;
const CLIENTS: usize = 16;

/// How many connections a client leaves to River's time-outs at a time.
const LEFT: usize = 20;

const OFFER: &str = "GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

fn misbehaving() -> Origin {
    Origin::builder()
        .forgetful()
        .answer(|request, reply| match request.target.as_str() {
            "/reset" => {
                reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")?;
                reply.reset()
            }
            "/never" => reply.reset(),
            "/cut" => {
                reply.close();
                reply.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")
            }
            "/nonsense" => {
                reply.close();
                reply.raw(b"\x16\x03\x01 nonsense\r\n\r\n")
            }
            "/silent" => {
                // Until River gives up.
                let _ = reply.read_some();
                reply.close();
                Ok(())
            }
            "/tunnel" => reply.tunnel(&[("connection", "upgrade"), ("upgrade", "echo")]),
            "/large" => reply.respond(200, &[], &[b'x'; 1 << 20]),
            _ => reply.respond(200, &[], b"ok"),
        })
        .start()
}

/// What one abusive connection does. Some are left open, for River to end.
fn abuse(kind: usize, target: &Target) -> Option<Conn> {
    let mut conn = Conn::open(target.clone());
    match kind % 16 {
        // Resets, in all places.
        0 => conn.reset(),
        1 => {
            conn.send("GET /half HTTP/1.1\r\nhost: a\r\nx-h");
            conn.reset();
        }
        2 => {
            conn.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nsome");
            conn.reset();
        }
        3 => {
            conn.send("POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab");
            conn.reset();
        }
        4 => {
            conn.send("GET /ok HTTP/1.1\r\nhost: a\r\n\r\n");
            conn.reset();
        }
        5 => {
            conn.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n");
            let _ = conn.reader().fill();
            conn.reset();
        }
        6 => {
            conn.send("GET /silent HTTP/1.1\r\nhost: a\r\n\r\n");
            conn.reset();
        }
        7 => {
            conn.send(OFFER);
            let _ = conn.reader().fill();
            conn.reset();
        }
        // Nonsense.
        8 => {
            let _ = conn.try_send(&[0xff; 3000]);
            let _ = conn.reader().until_end();
        }
        9 => {
            let _ = conn.try_send(b"GET / HTTP/1.1\nhost: a\n\n\x00\x00");
        }
        10 => {
            conn.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n");
            let _ = conn.reader().until_end();
        }
        // Servers that break off.
        11 => {
            for path in ["/reset", "/cut", "/never", "/nonsense"] {
                conn.request("GET", path);
                if conn.try_read_response("GET").is_err() {
                    break;
                }
            }
        }
        // Half-open and slow ones.
        12 => {
            conn.finish();
            return Some(conn);
        }
        13 => {
            conn.send("GET /slow HTTP/1.1\r\nhost: a\r\nx-slow: ");
            return Some(conn);
        }
        14 => {
            conn.send("POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf");
            return Some(conn);
        }
        _ => {
            conn.send("GET /ok HTTP/1.1\r\nhost: a\r\n\r\n");
            let _ = conn.read_response("GET");
            return Some(conn);
        }
    }
    None
}

#[test]
fn ten_thousand_abusive_connections_leave_nothing_behind() {
    let origin = misbehaving();
    let servers = format!("servers: [(addr: \"{}\")], pool: (idle_timeout: \"300ms\")", origin.address());
    let config = Config::new().system(&format!("workers: {WORKERS}")).service("web", &["127.0.0.1:0"], &format!(
        "connectors: ({servers}), timeouts: (head: \"500ms\", idle: \"500ms\", body: \"500ms\", send: \"500ms\", \
         upstream_read: \"500ms\", upstream_write: \"500ms\", request: \"1s\", tunnel: \"500ms\")"
    ));
    let river = River::with_config(config).serve();
    let target: Target = river.web().into();
    // What River opens for itself on first use is not counted as left behind.
    assert_eq!(get(target.clone(), "/ok").status, 200);
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    let sockets = || river.fds().iter().filter(|fd| fd.starts_with("socket:")).count();
    let fewest = std::cell::Cell::new(usize::MAX);
    until("River is idle", PATIENCE, || {
        let now = sockets();
        let before = fewest.replace(now);
        now == before
    });
    // Each worker has one pipe, from the first large body on.
    let is_pipe = |fd: &String| fd.starts_with("pipe:");
    let others = || river.fds().iter().filter(|fd| !is_pipe(fd)).count();
    let (before, pipes) = (others(), river.fds().iter().filter(|fd| is_pipe(fd)).count());

    let done = Arc::new(wait::Count::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (target, done) = (target.clone(), done.clone());
            thread::spawn(move || {
                let mut left = VecDeque::new();
                for nth in 0..CONNECTIONS / CLIENTS {
                    left.extend(abuse(nth + client, &target));
                    if left.len() > LEFT
                        && let Some(mut oldest) = left.pop_front()
                    {
                        oldest.expect_gone_within(PATIENCE);
                    }
                    done.add();
                }
                for mut conn in left {
                    conn.expect_gone_within(PATIENCE);
                }
            })
        })
        .collect();
    // Meanwhile those who behave are served.
    let mut polite = 0;
    while done.now() < CONNECTIONS / CLIENTS * CLIENTS && clients.iter().any(|client| !client.is_finished()) {
        assert_eq!(get(target.clone(), "/ok").text(), "ok");
        polite += 1;
        thread::park_timeout(Duration::from_millis(1));
    }
    for client in clients {
        client.join().unwrap();
    }
    assert!(polite > 0);

    // All of it ends by itself, on both sides.
    until("every descriptor is given back", PATIENCE, || others() <= before);
    let more = river.fds().iter().filter(|fd| is_pipe(fd)).count() - pipes;
    assert!(more <= 2 * WORKERS, "{more} more ends of pipes");
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    assert_eq!(get(target, "/ok").text(), "ok");
    // A connection that is still counted would hold it.
    river.signal(Signal::TERM);
    assert!(river.wait_exit(SOON).success());
    assert!(!river.log().contains("panicked"), "{}", river.log().text());
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    // The time-outs are the defaults: it is the reset itself that River has to see.
    let origin = Origin::with(|request, reply| {
        if request.target == "/begun" {
            reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive.")?;
        }
        while !reply.read_some()?.is_empty() {}
        reply.close();
        Ok(())
    });
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    for path in ["/silent", "/begun"] {
        let mark = river.mark();
        let requests = origin.requests().len();
        let mut conn = Conn::open(river.web());
        conn.request("GET", path);
        origin.wait_requests(requests + 1, PATIENCE);
        if path == "/begun" {
            conn.read_head();
        }
        conn.reset();
        origin.wait_open_connections(SOON, |open| open == 0);
        let line = river.wait_line_after(mark, "request failed").text;
        assert_eq!(log::field(&line, "blame").as_deref(), Some("downstream"), "{line}");
    }
}
