//! What a client of HTTP/2 may ask for, and for how long: each limit, met by frames as they are written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::h2::{
    ACK, END_HEADERS, END_STREAM, Frame, Frames, H2, PREFACE, block, exactly, frame, get, kind, pseudo, read,
    request, send_all, wait,
};
use support::*;

const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

fn river(origin: &Origin, settings: &str) -> Running {
    let config = support::h2::proxy(origin);
    River::with_config(if settings.is_empty() { config } else { config.with(settings) }).serve()
}

/// An origin that answers when the gate is open.
fn gated() -> (Origin, Arc<Gate>) {
    Origin::gated(|target| target != "/fast", |_, reply| reply.respond(200, &[], b"ok"))
}

/// The error code that the connection ends with.
#[track_caller]
fn goodbye(frames: &mut Frames) -> u32 {
    let frames = frames.rest();
    let last = frames.iter().rev().find_map(Frame::goaway);
    last.unwrap_or_else(|| panic!("no GOAWAY in {frames:?}")).1
}

#[test]
fn the_settings_say_the_limits() {
    let origin = Origin::echo();
    let river = river(
        &origin,
        "h2: (max_concurrent_streams: 7, window: \"32KiB\"), limits: (max_head: \"8KiB\", max_headers: 10)",
    );
    let mut frames = Frames::connect(river.web());
    frames.bytes(PREFACE);
    frames.send(kind::SETTINGS, 0, 0, b"");
    let settings = frames.until("SETTINGS", |frame| frame.kind == kind::SETTINGS).payload;
    let said: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|one| (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes(one[2..].try_into().unwrap())))
        .collect();
    for expected in [(3, 7), (4, 32 << 10), (6, (8 << 10) + 320), (8, 1)] {
        assert!(said.contains(&expected), "{expected:?} is not in {said:?}");
    }
}

#[test]
fn streams_above_the_limit_are_refused_for_the_client_to_try_again() {
    let (origin, gate) = gated();
    let river = river(&origin, "h2: (max_concurrent_streams: 2)");
    let mut frames = Frames::open(river.web());
    for stream in [1, 3, 5] {
        frames.get(stream, "/");
    }
    let refused = frames.until("RST_STREAM", |frame| frame.kind == kind::RST_STREAM);
    assert_eq!((refused.stream, refused.reset()), (5, Some(REFUSED_STREAM)));
    gate.open();
    for _ in 0..2 {
        frames.until("a response", |frame| frame.kind == kind::HEADERS);
    }
    frames.get(7, "/fast");
    frames.until("a response", |frame| frame.kind == kind::HEADERS && frame.stream == 7);
    assert_eq!(origin.requests().len(), 3);
}

/// A stream that is opened and reset at once.
fn opened_and_reset(stream: u32) -> Vec<u8> {
    let head = frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, &block(&pseudo("GET", "/")));
    [head, frame(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
}

#[test]
fn rapid_resets_end_the_connection() {
    let (origin, gate) = gated();
    let river = river(&origin, "h2: (max_resets: 20)");
    let mut frames = Frames::open(river.web());
    for stream in (1..400).step_by(2) {
        if frames.try_bytes(&opened_and_reset(stream)).is_err() {
            break;
        }
    }
    assert_eq!(goodbye(&mut frames), ENHANCE_YOUR_CALM);
    gate.open();
    assert_eq!(support::get(river.web(), "/fast").text(), "ok");
}

#[test]
fn streams_that_are_reset_at_once_reach_no_server() {
    let (origin, gate) = gated();
    let river = river(&origin, "");
    let mut frames = Frames::open(river.web());
    // From now on there is a connection that would take a request at once.
    frames.get(1, "/fast");
    frames.until("a response", |frame| frame.kind == kind::DATA && frame.flags & END_STREAM != 0);
    for stream in (3..43).step_by(2) {
        frames.bytes(&opened_and_reset(stream));
    }
    frames.get(43, "/fast");
    frames.until("a response", |frame| frame.kind == kind::HEADERS && frame.stream == 43);
    gate.open();
    assert_eq!((origin.requests().len(), origin.connections()), (2, 1));
}

#[test]
fn slow_resets_are_counted_too_and_the_server_sees_few_of_them() {
    let (origin, gate) = gated();
    let river = river(&origin, "h2: (max_resets: 5)");
    let mut frames = Frames::open(river.web());
    for (count, stream) in (1..13).step_by(2).enumerate() {
        frames.get(stream, "/");
        origin.wait_requests(count + 1, PATIENCE);
        frames.reset(stream, CANCEL);
    }
    assert_eq!(goodbye(&mut frames), ENHANCE_YOUR_CALM);
    river.wait_for_line("more streams than h2.max_resets", PATIENCE);
    gate.open();
}

#[test]
fn floods_of_frames_without_use_end_the_connection() {
    let origin = Origin::echo();
    let river = river(&origin, "h2: (max_control_frames: 100)");
    let flood: [(&str, Vec<u8>); 5] = [
        ("PING", frame(kind::PING, 0, 0, &[0; 8])),
        ("SETTINGS", frame(kind::SETTINGS, 0, 0, b"")),
        ("PRIORITY", frame(kind::PRIORITY, 0, 5, &[0, 0, 0, 0, 1])),
        ("empty DATA", frame(kind::DATA, 0, 1, b"")),
        ("unknown frames", frame(0xbe, 0, 0, b"")),
    ];
    for (what, one) in flood {
        let mut frames = Frames::open(river.web());
        frames.headers(1, 0, &pseudo("POST", "/"));
        let _ = frames.try_bytes(&one.repeat(2000));
        assert_eq!(goodbye(&mut frames), ENHANCE_YOUR_CALM, "{what}");
    }
    river.wait_for_line("more frames without use than h2.max_control_frames", PATIENCE);
    // As many as are allowed are harmless.
    let mut frames = Frames::open(river.web());
    frames.bytes(&frame(kind::PING, 0, 0, &[7; 8]).repeat(90));
    for _ in 0..90 {
        frames
            .until("PONG", |frame| frame.kind == kind::PING && frame.flags == ACK && frame.payload == [7; 8]);
    }
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let origin = Origin::echo();
    let river = river(&origin, "");
    let mut frames = Frames::open(river.web());
    frames.send(kind::HEADERS, END_STREAM, 1, &block(&pseudo("GET", "/")));
    let one = frame(kind::CONTINUATION, 0, 1, &block(&[("x", "y")]));
    let _ = frames.try_bytes(&one.repeat(100_000));
    assert_eq!(goodbye(&mut frames), ENHANCE_YOUR_CALM);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_without_a_preface_is_let_go_in_time() {
    let origin = Origin::echo();
    let river = river(&origin, "timeouts: (head: \"300ms\")");
    let begun = Instant::now();
    let mut frames = Frames::connect(river.web());
    frames.bytes(&PREFACE[..20]);
    while frames.next().is_some() {}
    // Nor is one that sends its preface and then nothing.
    let mut frames = Frames::connect(river.web());
    frames.bytes(PREFACE);
    assert_eq!(goodbye(&mut frames), NO_ERROR);
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_connection_without_streams_ends_with_the_idle_time_out() {
    let (origin, gate) = gated();
    let river = river(&origin, "timeouts: (idle: \"300ms\")");
    let mut client = H2::open(river.web());
    let (response, _) = client.begin(get("/"), true);
    origin.wait_requests(1, PATIENCE);
    // One with a stream is not idle, however long that takes.
    assert!(client.stays_open(Duration::from_millis(700)));
    gate.open();
    assert_eq!(read(response).unwrap().text(), "ok");
    client.wait_end(PATIENCE).unwrap();
}

#[test]
fn a_client_that_opens_no_window_is_reset_after_the_send_time_out() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[], &vec![1; 1 << 20]));
    let river = river(&origin, "timeouts: (send: \"300ms\")");
    let mut frames = Frames::open(river.web());
    frames.get(1, "/");
    let mut data = 0;
    let reset = frames.until("RST_STREAM", |frame| frame.kind == kind::RST_STREAM);
    assert_eq!(reset.stream, 1);
    river.wait_for_line("took nothing of the response within the send time-out", PATIENCE);
    // The connection goes on.
    frames.get(3, "/");
    frames.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes());
    while data < 65_535 {
        let frame = frames.until("DATA", |frame| frame.kind == kind::DATA && frame.stream == 3);
        data += frame.payload.len();
    }
}

#[test]
fn a_client_that_reads_nothing_at_all_is_let_go_after_the_send_time_out() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[], &vec![1; 32 << 20]));
    // Where the kernel still takes the few bytes that are left once the stream is reset, the connection is idle from then on.
    let river = river(&origin, "timeouts: (send: \"500ms\", idle: \"500ms\")");
    let mut frames = Frames::open(river.web());
    frames.send(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let mut settings = 4_u16.to_be_bytes().to_vec();
    settings.extend_from_slice(&(1_u32 << 30).to_be_bytes());
    frames.send(kind::SETTINGS, 0, 0, &settings);
    frames.get(1, "/");
    origin.wait_open_connections(PATIENCE, |open| open == 1);
    origin.wait_open_connections(PATIENCE, |open| open == 0);
    until("the connection is closed", PATIENCE, || river.tcp_peers().is_empty());
}

/// How many bytes were told of by the time that for 200 ms no more were, or that there were `enough`. The pause has only to
/// be longer than one that a busy machine makes: where it is not, the test asks for less than it could, and does not fail.
#[track_caller]
fn until_nothing_moves(told: &Receiver<usize>, enough: usize) -> usize {
    let mut all = told.recv_timeout(PATIENCE).unwrap();
    while all < enough
        && let Ok(more) = told.recv_timeout(Duration::from_millis(200))
    {
        all += more;
    }
    all
}

#[test]
fn a_slow_reader_makes_the_server_wait_not_river_grow() {
    let (tell, sent) = channel();
    let origin = Origin::with(move |_, reply| {
        reply.head(200, &[("content-length", "67108864")])?;
        for _ in 0..1024 {
            reply.raw(&[7; 65_536])?;
            let _ = tell.send(65_536);
        }
        Ok(())
    });
    let river = river(&origin, "");
    let mut client = H2::open(river.web());
    let before = support::proc::resident(river.pid());
    let (response, _sending) = client.begin(get("/"), true);
    let mut receiving = wait("a response", response).unwrap().into_body();
    // The client's windows are 64 KiB, so after as much the sockets towards River fill up, and then nothing moves.
    let last = until_nothing_moves(&sent, 32 << 20);
    assert!(last < 32 << 20, "{last} bytes were taken from the server");
    let grown = support::proc::resident(river.pid()).saturating_sub(before);
    assert!(grown < 2 << 20, "River grew by {grown} bytes");
    assert_eq!(exactly(&mut receiving, 65_535).len(), 65_535);
}

#[test]
fn a_slow_server_makes_the_client_wait_not_river_grow() {
    let gate = Arc::new(Gate::new());
    let held = Arc::clone(&gate);
    let origin = Origin::builder()
        .on_head(move |_, reply| {
            held.pass();
            reply.respond(200, &[], b"enough")?;
            Ok(Next::Done)
        })
        .start();
    let river = river(&origin, "h2: (window: \"64KiB\"), limits: (max_body: \"1GiB\")");
    let mut client = H2::open(river.web());
    let (response, mut sending) = client.begin(request(http::Method::POST, "/"), false);
    let block = vec![0; 64 << 10];
    let (tell, taken) = channel();
    let writer = std::thread::spawn(move || {
        while send_all(&mut sending, &block, false).is_ok() {
            let _ = tell.send(block.len());
        }
    });
    let last = until_nothing_moves(&taken, 32 << 20);
    // What the kernel holds between River and the server, and a window.
    assert!(last < 32 << 20, "{last} bytes were taken");
    gate.open();
    assert_eq!(read(response).unwrap().text(), "enough");
    writer.join().unwrap();
}

#[test]
fn a_connection_counts_once_whatever_its_streams() {
    let (origin, gate) = gated();
    let river = river(&origin, "limits: (max_connections: 2)");
    let mut first = H2::open(river.web());
    let mut second = H2::open(river.web());
    let responses: Vec<_> =
        (0..20).flat_map(|_| [first.begin(get("/"), true).0, second.begin(get("/"), true).0]).collect();
    origin.wait_requests(40, PATIENCE);
    gate.open();
    for response in responses {
        assert_eq!(read(response).unwrap().text(), "ok");
    }
    drop(first);
    assert_eq!(H2::open(river.web()).get("/fast").text(), "ok");
}
