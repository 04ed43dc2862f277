//! HTTP/2 from clients, malformed: nothing that is poison in HTTP/1.1 gets to a server (RFC 9113 §8).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use http::{HeaderValue, Method};
use support::h2::{END_HEADERS, END_STREAM, Frames, H2, block, kind, pseudo, read, request};
use support::*;

const PROTOCOL_ERROR: u32 = 1;

/// What a header block may be answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The stream is reset as malformed.
    Reset,
    /// A response says no, with this status, as the static table of HPACK or a literal has it.
    Status(u16),
    /// The connection ends.
    Goaway,
}

/// The first status of an answer, from a header block of River's: `:status` always comes first.
fn status(payload: &[u8]) -> u16 {
    match payload {
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x88, ..] => 200,
        // A literal, and three digits in the code of Huffman, which are 5 or 6 bits each.
        [0x48, 0x82, a, b, ..] => {
            let mut bits = u32::from(*a) << 24 | u32::from(*b) << 16;
            let mut digit = || {
                let short = bits >> 27;
                let (digit, length) = if short <= 2 { (short, 5) } else { ((bits >> 26) - 0x19 + 3, 6) };
                bits <<= length;
                digit as u16
            };
            digit() * 100 + digit() * 10 + digit()
        }
        _ => panic!("no status in {payload:x?}"),
    }
}

/// What it is, its fields, and what becomes of it.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Fate);

fn fate(frames: &mut Frames, stream: u32) -> Fate {
    let frame = frames.until("an answer", |frame| {
        frame.kind == kind::GOAWAY
            || (frame.stream == stream && matches!(frame.kind, kind::HEADERS | kind::RST_STREAM))
    });
    match frame.kind {
        kind::GOAWAY => {
            assert_eq!(frame.goaway().unwrap().1, PROTOCOL_ERROR);
            Fate::Goaway
        }
        kind::RST_STREAM => {
            assert_eq!(frame.reset(), Some(PROTOCOL_ERROR));
            Fate::Reset
        }
        _ => Fate::Status(status(&frame.payload)),
    }
}

/// A GET with these fields behind the pseudo-fields.
fn with<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&pseudo("GET", "/")[..], fields].concat()
}

/// A request of nothing but these fields.
fn bare<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    fields.to_vec()
}

fn of_path(path: &str) -> Vec<(&str, &str)> {
    pseudo("GET", path).to_vec()
}

#[test]
fn what_is_malformed_is_refused_and_never_reaches_the_server() {
    let origin = Origin::echo();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let (reset, bad) = (Fate::Reset, Fate::Status(400));
    let host = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let cases: Vec<Case<'_>> = vec![
        ("cr lf in a value", with(&[("x", "a\r\nevil: 1")]), Fate::Goaway),
        ("lf in a value", with(&[("x", "a\nevil: 1")]), Fate::Goaway),
        ("cr in a value", with(&[("x", "a\rb")]), Fate::Goaway),
        ("nul in a value", with(&[("x", "a\0b")]), Fate::Goaway),
        ("del in a value", with(&[("x", "a\x7fb")]), Fate::Goaway),
        ("space before a value", with(&[("x", " a")]), reset),
        ("space behind a value", with(&[("x", "a ")]), reset),
        ("tab before a value", with(&[("x", "\ta")]), reset),
        ("tab behind a cookie", with(&[("cookie", "a=1"), ("cookie", "b=2\t")]), reset),
        ("capital in a name", with(&[("X-Up", "1")]), Fate::Goaway),
        ("space in a name", with(&[("x y", "1")]), Fate::Goaway),
        ("colon in a name", with(&[("x:y", "1")]), Fate::Goaway),
        ("lf in a name", with(&[("x\ny", "1")]), Fate::Goaway),
        ("empty name", with(&[("", "1")]), Fate::Goaway),
        ("connection", with(&[("connection", "close")]), reset),
        ("keep-alive", with(&[("keep-alive", "timeout=5")]), reset),
        ("proxy-connection", with(&[("proxy-connection", "close")]), reset),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), reset),
        ("upgrade", with(&[("upgrade", "websocket")]), reset),
        ("te other than trailers", with(&[("te", "gzip")]), reset),
        ("te with more than trailers", with(&[("te", "trailers, gzip")]), reset),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "0")]), reset),
        ("lengths that differ", with(&[("content-length", "0"), ("content-length", "1")]), reset),
        ("length that is none", with(&[("content-length", "x")]), reset),
        ("length with a sign", with(&[("content-length", "+0")]), reset),
        ("length as a list", with(&[("content-length", "0, 0")]), reset),
        ("length without a body", with(&[("content-length", "5")]), reset),
        ("empty length", with(&[("content-length", "")]), bad),
        ("host beside another authority", with(&[("host", "evil")]), reset),
        ("two hosts", bare(&[&host[..], &[("host", "host"), ("host", "host")]].concat()), reset),
        ("no host at all", bare(&host), bad),
        ("host with a path", bare(&[&host[..], &[("host", "a/b")]].concat()), bad),
        ("userinfo", bare(&[&host[..], &[(":authority", "me@host")]].concat()), bad),
        ("space in the authority", bare(&[&host[..], &[(":authority", "a b")]].concat()), reset),
        ("empty path", of_path(""), reset),
        ("path without a slash", of_path("x"), reset),
        ("path that is a uri", of_path("http://evil/"), reset),
        ("path that is an authority", of_path("evil:80"), reset),
        ("asterisk of a get", of_path("*"), reset),
        ("space in the path", of_path("/a b"), reset),
        ("a version in the path", of_path("/ HTTP/1.1\r\nevil: 1"), reset),
        ("lf in the path", of_path("/a\nb"), reset),
        ("nul in the path", of_path("/a\0b"), reset),
        ("letter beyond ascii in the path", of_path("/\u{e9}"), reset),
        ("quote in the path", of_path("/\"a\""), bad),
        ("broken escape in the path", of_path("/%zz"), bad),
        ("backslash in the path", of_path("/a\\b"), bad),
        ("space in the method", pseudo("GET /", "/").to_vec(), Fate::Goaway),
        ("lf in the method", pseudo("GET\n", "/").to_vec(), Fate::Goaway),
        ("empty method", pseudo("", "/").to_vec(), Fate::Goaway),
        ("no method", bare(&[(":scheme", "http"), (":authority", "host"), (":path", "/")]), reset),
        ("no scheme", bare(&[(":method", "GET"), (":authority", "host"), (":path", "/")]), reset),
        ("no path", bare(&[(":method", "GET"), (":scheme", "http"), (":authority", "host")]), reset),
        (
            "unknown scheme",
            bare(&[(":method", "GET"), (":scheme", "ftp"), (":authority", "host"), (":path", "/")]),
            reset,
        ),
        ("two paths", bare(&[&pseudo("GET", "/")[..], &[(":path", "/evil")]].concat()), reset),
        ("two authorities", bare(&[&pseudo("GET", "/")[..], &[(":authority", "host")]].concat()), reset),
        ("a pseudo-field of responses", with(&[(":status", "200")]), reset),
        ("an unknown pseudo-field", with(&[(":evil", "1")]), Fate::Goaway),
        ("a pseudo-field behind others", bare(&[&[("x", "1")], &pseudo("GET", "/")[..]].concat()), reset),
        ("connect", bare(&[(":method", "CONNECT"), (":authority", "host:80")]), Fate::Status(501)),
        ("connect with a path", pseudo("CONNECT", "/").to_vec(), reset),
        (
            "connect of a protocol that nobody knows",
            bare(&[&pseudo("CONNECT", "/")[..], &[(":protocol", "other")]].concat()),
            Fate::Status(501),
        ),
        ("protocol without connect", with(&[(":protocol", "websocket")]), reset),
    ];
    assert!(cases.len() >= 50);
    for (what, fields, expected) in cases {
        let mut frames = Frames::open(river.web());
        frames.headers(1, END_STREAM, &fields);
        assert_eq!(fate(&mut frames, 1), expected, "{what}");
        if expected != Fate::Goaway {
            // The compression's state and the connection are whole.
            frames.get(3, "/fine");
            assert_eq!(fate(&mut frames, 3), Fate::Status(200), "after {what}");
        }
    }
    let seen = origin.requests();
    assert!(seen.iter().all(|request| request.target == "/fine"), "{seen:#?}");
}

#[test]
fn a_body_of_another_length_than_said_is_refused() {
    let origin = Origin::echo();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    for (said, body) in [("3", "four"), ("5", "four")] {
        let mut frames = Frames::open(river.web());
        frames.headers(1, 0, &[&pseudo("POST", "/")[..], &[("content-length", said)]].concat());
        frames.send(kind::DATA, END_STREAM, 1, body.as_bytes());
        assert_eq!(fate(&mut frames, 1), Fate::Reset, "{said}");
        frames.get(3, "/fine");
        assert_eq!(fate(&mut frames, 3), Fate::Status(200));
    }
    assert!(origin.requests().iter().all(|request| request.target == "/fine"));
}

#[test]
fn trailers_that_are_malformed_or_frame_do_not_pass() {
    let origin = Origin::echo();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    for (name, value) in
        [("x", " a"), ("x-\"y", "a"), ("transfer-encoding", "chunked"), ("connection", "close")]
    {
        let mut frames = Frames::open(river.web());
        frames.headers(1, 0, &pseudo("POST", "/evil"));
        frames.send(kind::DATA, 0, 1, b"body");
        frames.headers(1, END_STREAM, &[(name, value)]);
        assert!(matches!(fate(&mut frames, 1), Fate::Reset | Fate::Status(400)), "{name}");
    }
    // These are no part of a message of HTTP/1.1, and are left out.
    let mut frames = Frames::open(river.web());
    frames.headers(1, 0, &pseudo("POST", "/fine#evil"));
    frames.send(kind::DATA, 0, 1, b"body");
    let left_out = [(":path", "/evil"), ("content-length", "4"), ("host", "evil"), ("x-sum", "1")];
    frames.headers(1, END_STREAM, &left_out);
    assert_eq!(fate(&mut frames, 1), Fate::Status(200));
    let seen = origin.requests();
    let [request] = &*seen else { panic!("{seen:#?}") };
    assert_eq!((request.target.as_str(), &*request.body), ("/fine", &b"body"[..]));
    assert_eq!((request.trailers.get("x-sum"), request.trailers.has("host")), (Some("1"), false));
}

#[test]
fn what_names_river_to_servers_is_rivers_to_say() {
    let origin = Origin::echo();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut frames = Frames::open(river.web());
    let fields = with(&[
        ("x-forwarded-for", "1.2.3.4"),
        ("x_forwarded_for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("content_length", "5"),
        ("host", "HOST"),
    ]);
    frames.headers(1, END_STREAM, &fields);
    assert_eq!(fate(&mut frames, 1), Fate::Status(200));
    let seen = origin.requests();
    let fields = &seen[0].fields;
    assert_eq!(fields.all("x-forwarded-for").collect::<Vec<_>>(), ["127.0.0.1"]);
    assert_eq!((fields.get("x-forwarded-proto"), fields.all("host").count()), (Some("http"), 1));
    assert!(!fields.has("x_forwarded_for") && !fields.has("forwarded") && !fields.has("content_length"));
}

#[test]
fn options_of_the_server_and_a_host_alone_are_fine() {
    let origin = Origin::echo();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut frames = Frames::open(river.web());
    frames.headers(1, END_STREAM, &pseudo("OPTIONS", "*"));
    assert_eq!(fate(&mut frames, 1), Fate::Status(200));
    let host = [(":method", "GET"), (":scheme", "https"), (":path", "/x"), ("host", "alone")];
    frames.headers(3, END_STREAM, &host);
    assert_eq!(fate(&mut frames, 3), Fate::Status(200));
    let seen = origin.requests();
    assert_eq!((seen[0].target.as_str(), seen[1].fields.get("host")), ("*", Some("alone")));
}

#[test]
fn header_blocks_have_the_limits_of_heads() {
    let origin = Origin::echo();
    let config = support::h2::proxy(&origin).with("limits: (max_head: \"4KiB\", max_headers: 20)");
    let river = River::with_config(config).serve();
    let mut client = H2::open(river.web());
    let mut long = request(Method::GET, "/");
    long.headers_mut().insert("x-long", HeaderValue::from_str(&"x".repeat(6000)).unwrap());
    let (response, _) = client.begin(long, true);
    assert_eq!(read(response).unwrap().status.as_u16(), 431);
    let mut many = request(Method::GET, "/");
    for _ in 0..30 {
        many.headers_mut().append("x-many", HeaderValue::from_static("1"));
    }
    assert_eq!(client.ask(many, b"").status.as_u16(), 431);
    assert_eq!(client.get("/fine").status.as_u16(), 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_header_bomb_ends_the_connection() {
    let origin = Origin::echo();
    let river = River::with_config(support::h2::proxy(&origin)).serve();
    let mut frames = Frames::open(river.web());
    // One field in the dynamic table, and then thousands of times a byte that stands for it.
    let mut bomb = block(&pseudo("GET", "/"));
    bomb.extend_from_slice(&[0x40, 1, b'x', 127, 0x80 | 0x21, 0x1e]);
    bomb.extend_from_slice(&[b'a'; 4000]);
    bomb.extend_from_slice(&[0x80 | 62; 12_000]);
    frames.send(kind::HEADERS, END_STREAM | END_HEADERS, 1, bomb.get(..16_384).unwrap_or(&bomb));
    let frame =
        frames.until("an end", |frame| matches!(frame.kind, kind::GOAWAY | kind::RST_STREAM | kind::HEADERS));
    assert!(frame.kind != kind::HEADERS || status(&frame.payload) == 431, "{frame:?}");
    assert!(origin.requests().is_empty());
}
