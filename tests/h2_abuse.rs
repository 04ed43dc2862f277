//! Clients of HTTP/2 that keep to the letter of the protocol and misuse it, and servers that do so by way of a client:
//! what that costs River is bounded, and other streams do not pay for it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use support::h2::{END_HEADERS, END_STREAM, Frame, Frames, block, frame, kind, pseudo};
use support::*;

const ENHANCE_YOUR_CALM: u32 = 11;

fn river(server: SocketAddr, settings: &str) -> Running {
    let settings = format!("connectors: (servers: [(addr: \"{server}\")]){settings}");
    River::with_config(support::h2::config(&settings)).serve()
}

/// A server that hands every connection, with the bytes of its first head, to `serve` in a thread of its own.
fn server(serve: impl Fn(TcpStream, &[u8]) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, serve) = (stream.unwrap(), Arc::clone(&serve));
            thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.push(byte[0]);
                }
                serve(stream, &head);
            });
        }
    });
    address
}

/// Reads until River closes.
fn wait_closed(mut stream: &TcpStream) {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

/// How `stream` ended, or the connection.
#[track_caller]
fn end_of(frames: &mut Frames, stream: u32) -> Frame {
    frames.until("an end", |frame| {
        frame.kind == kind::GOAWAY || frame.kind == kind::RST_STREAM && frame.stream == stream
    })
}

/// Asks the same way up to `most` times, one after another; how often that was reset before the connection ended.
fn resets_until_goaway(frames: &mut Frames, most: u32, ask: impl Fn(&mut Frames, u32)) -> Option<u32> {
    for count in 0..most {
        let stream = 1 + 2 * count;
        ask(frames, stream);
        if let Some((_, code)) = end_of(frames, stream).goaway() {
            assert_eq!(code, ENHANCE_YOUR_CALM);
            return Some(count);
        }
    }
    None
}

#[test]
fn resets_that_the_client_makes_river_do_are_counted() {
    let address = server(|stream, _| wait_closed(&stream));
    let river = river(address, ", h2: (max_resets: 20)");
    type Ask = fn(&mut Frames, u32);
    let ways: [(&str, Ask); 4] = [
        ("trailers that are malformed", |frames, stream| {
            frames.headers(stream, 0, &pseudo("POST", "/"));
            frames.send(kind::HEADERS, END_STREAM | END_HEADERS, stream, &block(&[("x-t", " v")]));
        }),
        ("requests that River finds malformed", |frames, stream| {
            let [method, scheme, authority, path] = pseudo("GET", "/");
            frames.headers(stream, END_STREAM, &[method, scheme, authority, path, ("x", " v")]);
        }),
        ("a body that is longer than was said", |frames, stream| {
            let [method, scheme, authority, path] = pseudo("POST", "/");
            frames.headers(stream, 0, &[method, scheme, authority, path, ("content-length", "1")]);
            frames.send(kind::DATA, 0, stream, b"more");
        }),
        ("a window that grows too large", |frames, stream| {
            frames.get(stream, "/");
            frames.send(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
        }),
    ];
    for (what, ask) in ways {
        let mut frames = Frames::open(river.web());
        let resets = resets_until_goaway(&mut frames, 40, ask);
        // The one that is too many may be told before the end or with it.
        assert!(matches!(resets, Some(20 | 21)), "{what}: {resets:?}");
    }
    river.wait_for_line("more streams than h2.max_resets", PATIENCE);
}

#[test]
fn refused_streams_are_counted_over_time_only() {
    let (origin, gate) = Origin::gated(|_| true, |_, reply| reply.respond(200, &[], b"ok"));
    let river = river(origin.address(), ", h2: (max_concurrent_streams: 1, max_control_frames: 1500)");
    // More than the crate below allows in the life of a connection.
    let mut frames = Frames::open(river.web());
    frames.get(1, "/");
    for count in 1..1200 {
        frames.get(1 + 2 * count, "/");
        let end = end_of(&mut frames, 1 + 2 * count);
        assert_eq!(end.reset(), Some(7), "after {count}");
    }
    // Too many at a time are too many.
    let many: Vec<u8> = (1200..4000_u32)
        .flat_map(|count| {
            frame(kind::HEADERS, END_STREAM | END_HEADERS, 1 + 2 * count, &block(&pseudo("GET", "/")))
        })
        .collect();
    let _ = frames.try_bytes(&many);
    let goodbye = frames.rest().iter().rev().find_map(Frame::goaway);
    assert_eq!(goodbye.expect("a GOAWAY").1, ENHANCE_YOUR_CALM);
    gate.open();
}

#[test]
fn a_stream_holds_no_more_of_the_connection_window_than_it_uses() {
    let address = server(|mut stream, head| {
        let body = if head.starts_with(b"GET /fast ") {
            format!("Content-Length: 1000\r\n\r\n{}", "f".repeat(1000))
        } else {
            // Nearly all of it is around the data; and it does not end.
            format!("Transfer-Encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(2600))
        };
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{body}").as_bytes()).unwrap();
        wait_closed(&stream);
    });
    let river = river(address, ", timeouts: (send: \"3s\")");
    let mut frames = Frames::open(river.web());
    let mut data = 0;
    for at in 0..8 {
        frames.get(1 + 2 * at, "/");
        while data < 2600 * (at as usize + 1) {
            data += frames.until("DATA", |frame| frame.kind == kind::DATA).payload.len();
        }
    }
    // Of the connection's 65,535 more than half is left.
    frames.get(99, "/fast");
    let mut fast = 0;
    while fast < 1000 {
        let next = frames
            .until("DATA", |frame| frame.stream == 99 && matches!(frame.kind, kind::DATA | kind::RST_STREAM));
        assert_eq!(next.kind, kind::DATA, "it was reset after {fast} bytes");
        fast += next.payload.len();
    }
}

#[test]
fn interim_responses_wait_for_the_client_to_take_those_before() {
    const STREAMS: u32 = 16;
    const EACH: usize = 990;
    let (tell, taken) = std::sync::mpsc::channel();
    let address = server(move |mut stream, _| {
        let interim = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(16_000));
        // River takes no more for so long: that is what is to happen.
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let count = (0..EACH).take_while(|_| stream.write_all(interim.as_bytes()).is_ok()).count();
        tell.send(count).unwrap();
        wait_closed(&stream);
    });
    let river = river(address, "");
    let mut frames = Frames::open(river.web());
    let before = support::proc::resident(river.pid());
    (0..STREAMS).for_each(|at| frames.get(1 + 2 * at, "/"));
    let taken: Vec<_> = (0..STREAMS).map(|_| taken.recv_timeout(PATIENCE).unwrap()).collect();
    let grown = support::proc::resident(river.pid()).saturating_sub(before);
    // `resident` is in KiB.
    assert!(grown < 8 << 10, "River grew by {grown} KiB with {taken:?} interim responses");
    assert!(taken.iter().all(|count| *count < EACH), "{taken:?}");
    // Once the client reads, they come.
    let interim = frames.until("an interim response", |frame| frame.kind == kind::HEADERS);
    assert_eq!(interim.flags & END_STREAM, 0);
    for _ in 0..1000 {
        frames.until("another", |frame| matches!(frame.kind, kind::HEADERS | kind::CONTINUATION));
    }
}

#[test]
fn a_client_that_takes_nothing_is_let_go_though_it_sends() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[], &vec![7; 64 << 20]));
    let river = river(origin.address(), ", timeouts: (send: \"1s\")");
    let mut frames = Frames::open(river.web());
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frames.send(kind::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes());
    frames.get(1, "/");
    origin.wait_requests(1, PATIENCE);
    let since = Instant::now();
    until("the connection is closed", PATIENCE, || {
        // The pace of a client that goes on sending; nothing is waited for.
        thread::sleep(Duration::from_millis(100));
        frames.try_bytes(&frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())).is_err()
    });
    assert!(since.elapsed() >= Duration::from_millis(500), "closed after {:?}", since.elapsed());
    river.wait_for_line("the client took nothing within the send time-out", PATIENCE);
}

#[test]
fn a_flood_of_window_updates_ends_the_connection() {
    let origin = Origin::echo();
    let river = river(origin.address(), ", h2: (max_control_frames: 100)");
    let mut frames = Frames::open(river.web());
    frames.headers(1, 0, &pseudo("POST", "/"));
    let _ = frames.try_bytes(&frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(2000));
    let goodbye = frames.rest().iter().rev().find_map(Frame::goaway);
    assert_eq!(goodbye.expect("a GOAWAY").1, ENHANCE_YOUR_CALM);
}

#[test]
fn of_trailers_that_are_malformed_nothing_goes_on() {
    let (tell, sent) = std::sync::mpsc::channel();
    let address = server(move |mut stream, _| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        tell.send(String::from_utf8(bytes).unwrap()).unwrap();
    });
    let river = river(address, "");
    let mut frames = Frames::open(river.web());
    let headers = frame(kind::HEADERS, END_HEADERS, 1, &block(&pseudo("POST", "/")));
    let data = frame(kind::DATA, 0, 1, b"data");
    let trailers = block(&[("x-first", "1"), ("x-t", " v")]);
    let trailers = frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &trailers);
    frames.bytes(&[headers, data, trailers].concat());
    let reset = frames.until("an end", |frame| frame.stream == 1);
    assert_eq!((reset.kind, reset.reset()), (kind::RST_STREAM, Some(1)));
    let sent = sent.recv_timeout(PATIENCE).unwrap();
    assert!(!sent.contains("x-first") && !sent.contains("0\r\n"), "{sent:?}");
}
