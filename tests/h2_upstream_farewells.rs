//! Servers that end their connections in HTTP/2 often, or do not speak it: what is sent again, and what the log says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use support::h2_frames::{FrameConn, Frames, GOAWAY, HEADERS, SETTINGS};
use support::log::field;
use support::*;

/// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;

/// River with one worker in front of `servers`, with more settings of the connectors.
fn with(servers: &str, connectors: &str) -> Running {
    let settings = format!("connectors: (servers: [{servers}]{connectors})");
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &settings);
    River::with_config(config).serve()
}

/// Connections on each of which a request waits, every other one with a body.
fn asking(river: &Running, count: usize) -> Vec<Conn> {
    let mut conns: Vec<_> = (0..count).map(|_| Conn::open(river.web())).collect();
    for (nth, conn) in conns.iter_mut().enumerate() {
        if nth % 2 == 0 {
            conn.request("GET", "/");
        } else {
            conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody");
        }
    }
    conns
}

/// Waits until `count` streams are open, says that it looks at the first `takes` of them alone, and answers those.
fn take(conn: &mut FrameConn, count: usize, takes: usize) {
    let streams: Vec<u32> = (0..count).map(|_| conn.wait(HEADERS).stream).collect();
    conn.go_away(streams[takes - 1], NO_ERROR);
    streams[..takes].iter().for_each(|&stream| conn.answer(stream, b"done"));
}

#[test]
fn a_request_that_no_server_has_looked_at_is_sent_again_until_one_does() {
    let frames = Frames::listen();
    let river = with(&frames.server(), "");
    let mut conns = asking(&river, 18);
    let mut left = 18;
    for nth in 0.. {
        // It is no number that could be learnt.
        let takes = (nth % 2 + 1).min(left);
        take(&mut frames.accept(&[]), left, takes);
        left -= takes;
        if left == 0 {
            break;
        }
    }
    for (nth, conn) in conns.iter_mut().enumerate() {
        assert_eq!(conn.read_response("GET").expect_status(200).text(), "done", "request {nth}");
    }
}

#[test]
fn how_many_requests_a_server_takes_on_a_connection_is_learnt_and_forgotten() {
    let frames = Frames::listen();
    let river = with(&frames.server(), ", pool: (idle_timeout: \"10s\")");
    let mut conns = asking(&river, 12);
    take(&mut frames.accept(&[]), 12, 2);
    take(&mut frames.accept(&[]), 10, 2);
    // From here on no more than two are sent on a connection, and each of the others comes without one being refused.
    let mut limited: Vec<_> = (0..4).map(|_| frames.accept(&[])).collect();
    for conn in &mut limited {
        let streams: Vec<u32> = (0..2).map(|_| conn.wait(HEADERS).stream).collect();
        // The server does not end it any more.
        streams.iter().for_each(|&stream| conn.answer(stream, b"done"));
        while let Some(frame) = conn.read() {
            assert_ne!(frame.kind, HEADERS, "a third request");
        }
    }
    conns.iter_mut().for_each(|conn| drop(conn.read_response("GET").expect_status(200)));
    // One more than were expected comes on the next one.
    let mut conns = asking(&river, 5);
    let mut next = frames.accept(&[]);
    let streams: Vec<u32> = (0..5).map(|_| next.wait(HEADERS).stream).collect();
    streams.iter().for_each(|&stream| next.answer(stream, b"done"));
    conns.iter_mut().for_each(|conn| drop(conn.read_response("GET").expect_status(200)));
}

#[test]
fn a_request_of_which_only_the_head_has_gone_is_sent_again() {
    let frames = Frames::listen();
    let river = with(&frames.server(), "");
    let mut conn = Conn::open(river.web());
    conn.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n");
    let mut first = frames.accept(&[]);
    first.wait(HEADERS);
    first.go_away(0, NO_ERROR);
    let mut second = frames.accept(&[]);
    let stream = second.wait(HEADERS).stream;
    conn.send(vec![b'x'; 100_000]);
    let mut received = 0;
    while received < 50_000 {
        received += second.wait(support::h2_frames::DATA).payload.len();
    }
    second.answer(stream, b"done");
    assert_eq!(conn.read_response("PUT").expect_status(200).text(), "done");
}

#[test]
fn a_server_that_ends_each_connection_at_once_is_not_asked_for_ever() {
    let frames = Frames::listen();
    let river = with(&frames.server(), "");
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/");
    let address = frames.address();
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let mut conn = frames.accept_silently();
            let settings = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
            let go_away = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            conn.bytes(&[&settings[..], &go_away].concat());
        }
        assert!(frames.nobody_comes());
    });
    assert_eq!(conn.read_response("GET").status, 502);
    server.join().unwrap();
    let line = river.wait_for_line("request failed", PATIENCE).text;
    let why = field(&line, "why").unwrap();
    assert!(
        why.contains(&format!("{address} took no request: it said GOAWAY (NO_ERROR, last stream 0) at once")),
        "{why}"
    );
}

#[test]
fn a_request_that_may_be_what_servers_fail_at_is_sent_again_three_times_and_no_more() {
    let frames = Frames::listen();
    let river = with(&frames.server(), "");
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/poison");
    for _ in 0..4 {
        let mut server = frames.accept(&[]);
        server.wait(HEADERS);
        server.go_away(0, INTERNAL_ERROR);
    }
    assert_eq!(conn.read_response("GET").status, 502);
    let line = river.wait_for_line("GET /poison ", PATIENCE).text;
    assert!(field(&line, "why").unwrap().contains("GOAWAY (INTERNAL_ERROR, last stream 0)"), "{line}");
    assert!(frames.nobody_comes());
}

#[test]
fn the_log_says_in_the_words_of_the_protocol_what_ended_a_request() {
    let frames = Frames::listen();
    let river = with(&frames.server(), ", h2: (ping_interval: \"200ms\", ping_timeout: \"1s\")");
    let mut conn = Conn::open(river.web());
    let ask = |conn: &mut Conn, path: &str| {
        conn.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody"));
    };
    let why = |conn: &mut Conn, path: &str| {
        assert_eq!(conn.read_response("POST").status, 502);
        field(&river.wait_for_line(&format!("POST {path} "), PATIENCE).text, "why").unwrap()
    };
    ask(&mut conn, "/reset");
    let mut server = frames.accept(&[]);
    let stream = server.wait(HEADERS).stream;
    server.reset(stream, INTERNAL_ERROR);
    let text = why(&mut conn, "/reset");
    assert!(text.ends_with("the server reset the stream (RST_STREAM, INTERNAL_ERROR)"), "{text}");
    ask(&mut conn, "/away");
    let stream = server.wait(HEADERS).stream;
    let word = [&stream.to_be_bytes()[..], &INTERNAL_ERROR.to_be_bytes(), b"out of \"memory\""].concat();
    server.send(GOAWAY, 0, 0, &word);
    drop(server);
    let text = why(&mut conn, "/away");
    let said =
        "the server said GOAWAY (INTERNAL_ERROR, last stream 3, \\\"out of \\\\\\\"memory\\\\\\\"\\\")";
    let plain = text.replace('\\', "");
    assert!(plain.contains(&said.replace('\\', "")), "{text}");
    assert!(plain.ends_with("and closed the connection before the end of stream 3"), "{text}");
    ask(&mut conn, "/gone");
    let mut server = frames.accept(&[]);
    server.wait(HEADERS);
    drop(server);
    let text = why(&mut conn, "/gone");
    assert!(
        text.contains("closed the connection without GOAWAY") || text.contains("reset by peer"),
        "{text}"
    );
    ask(&mut conn, "/silent");
    let mut server = frames.accept(&[]);
    server.wait(HEADERS);
    let text = why(&mut conn, "/silent");
    assert!(text.ends_with("the server did not answer a PING within h2.ping_timeout"), "{text}");
}

#[test]
fn a_server_that_does_not_speak_http_2_gets_no_request_and_the_log_says_what_to_do() {
    let cases: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it answered in HTTP/1.1; set proto to H1Only"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "it answered in TLS; set tls_sni"),
        (b"220 mail.example\r\n", "it answered in another protocol; see that its proto"),
        (b"", "it closed the connection without a word; see that its proto"),
    ];
    for (answer, expected) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).unwrap();
            stream.write_all(answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            rest
        });
        let other = H2Origin::echo();
        let river = with(&format!("(addr: \"{address}\", proto: H2Only)"), "");
        let response = get(river.web(), "/secret");
        assert_eq!(response.status, 502);
        let line = river.wait_for_line("GET /secret ", PATIENCE).text;
        let why = field(&line, "why").unwrap();
        assert!(why.contains(&format!("{address} does not speak HTTP/2: {expected}")), "{why}");
        let rest = server.join().unwrap();
        assert!(!rest.windows(6).any(|part| part == b"secret"), "{}", rest.escape_ascii());
        drop((river, other));
    }
}

#[test]
fn interim_responses_that_a_client_does_not_take_are_not_kept_without_end() {
    let frames = Frames::listen();
    let river = with(&frames.server(), "");
    let mut slow = Conn::open(river.web());
    slow.request("GET", "/slow");
    let mut server = frames.accept(&[]);
    let stream = server.wait(HEADERS).stream;
    // `:status: 103` and `x: ...` (RFC 7541 §6.2.2), of about 15 KiB; fewer than one request may have in all.
    let mut head = vec![0x08, 3, b'1', b'0', b'3', 0, 1, b'x', 0x7f];
    // 127 and 14,977 behind it, in groups of seven bits.
    head.extend([0x81, 0x75]);
    head.extend([b'x'; 127 + 14_977]);
    let frame = {
        let length = u32::try_from(head.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], HEADERS, support::h2_frames::END_HEADERS];
        frame.extend(stream.to_be_bytes());
        frame.extend(head);
        frame
    };
    let refused = (0..990).any(|_| !server.try_bytes(&frame));
    if !refused {
        server.wait_end();
    }
    river.wait_for_line("interim responses faster than they were taken", PATIENCE);
    drop(slow);
}

#[test]
fn a_body_that_does_not_come_holds_up_no_other() {
    const DATA: u8 = support::h2_frames::DATA;
    for framing in ["content-length: 100000\r\n\r\nbegin", "transfer-encoding: chunked\r\n\r\n5000\r\nbegin"]
    {
        let frames = Frames::listen();
        let river = with(&frames.server(), "");
        let mut slow = Conn::open(river.web());
        slow.send(format!("PUT /slow HTTP/1.1\r\nhost: a\r\n{framing}"));
        let mut server = frames.accept(&[]);
        server.wait(HEADERS);
        assert_eq!(server.wait(DATA).payload, b"begin");
        // All that is left of the connection's window (RFC 9113 §6.9.2), which the server does not widen.
        let left = 65_535 - 5;
        let mut conn = Conn::open(river.web());
        conn.send(format!("PUT /other HTTP/1.1\r\nhost: a\r\ncontent-length: {left}\r\n\r\n"));
        conn.send(vec![b'x'; left]);
        let stream = server.wait(HEADERS).stream;
        let mut received = 0;
        while received < left {
            let data = server.wait(DATA);
            assert_eq!(data.stream, stream);
            received += data.payload.len();
        }
        server.answer(stream, b"done");
        assert_eq!(conn.read_response("PUT").expect_status(200).text(), "done");
    }
}

#[test]
fn no_more_of_a_response_is_taken_than_fits_the_window_of_a_client_that_does_not_read() {
    const DATA: u8 = support::h2_frames::DATA;
    const WINDOW: usize = 65_535;
    let frames = Frames::listen();
    let river = with(&frames.server(), ", h2: (window: \"64KiB\")");
    let mut slow = Conn::open(river.web());
    slow.request("GET", "/slow");
    let mut server = frames.accept(&[]);
    let stream = server.wait(HEADERS).stream;
    server.send(HEADERS, support::h2_frames::END_HEADERS, stream, support::h2_frames::STATUS_200);
    // What the kernel takes for the client is credited, and the rest is not.
    let (mut sent, mut credited) = (0, WINDOW + 1);
    loop {
        while credited - sent >= 16_384 {
            server.send(DATA, 0, stream, &[b'x'; 16_384]);
            sent += 16_384;
        }
        let Some(frame) = server.read_within(std::time::Duration::from_secs(2)) else { break };
        if frame.kind == support::h2_frames::WINDOW_UPDATE && frame.stream == stream {
            let more: [u8; 4] = frame.payload[..].try_into().unwrap();
            credited += u32::from_be_bytes(more) as usize;
        }
        assert!(sent < 64 << 20, "{sent} bytes taken for a client that does not read");
    }
    assert!(sent >= WINDOW - 16_384 && credited - sent < 16_384, "{sent} of {credited}");
    drop(slow);
}
