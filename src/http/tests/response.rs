//! Responses, rule by rule.

use super::{LIMITS, kept, response, shown, status};
use crate::http::{Framing, HeadLimits, Method, ResponseHead, Unparsed, Version, parse_response};

#[test]
fn heads() {
    let cases: &[(u16, &[u8])] = &[
        (200, b"HTTP/1.1 200 OK\r\n\r\n"),
        (200, b"HTTP/1.0 200 OK\r\n\r\n"),
        (200, b"HTTP/1.1 200 \r\n\r\n"),
        (200, b"HTTP/1.1 200\r\n\r\n"),
        (200, b"HTTP/1.1 599 \xc3\xa4\t~\r\n\r\n"),
        (200, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"),
        (0, b""),
        (0, b"HTTP/1.1 200 OK\r\n"),
        (0, b"HTTP/1.1 200 OK\r\nA: b\r\n\r"),
        (502, b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
        (502, b"\nHTTP/1.1 200 OK\r\n\r\n"),
        (502, b"HTTP/1.1 099 No\r\n\r\n"),
        (502, b"HTTP/1.1 600 No\r\n\r\n"),
        (502, b"HTTP/1.1 999 No\r\n\r\n"),
        (502, b"HTTP/1.1 20 OK\r\n\r\n"),
        (502, b"HTTP/1.1 2000 OK\r\n\r\n"),
        (502, b"HTTP/1.1 20x OK\r\n\r\n"),
        (502, b"HTTP/1.1  200 OK\r\n\r\n"),
        (502, b"HTTP/1.1200 OK\r\n\r\n"),
        (502, b"HTTP/1.2 200 OK\r\n\r\n"),
        (502, b"HTTP/2 200\r\n\r\n"),
        (502, b"HTTP/2.0 200 OK\r\n\r\n"),
        (502, b"http/1.1 200 OK\r\n\r\n"),
        (502, b"ICY 200 OK\r\n\r\n"),
        (502, b"<html>"),
        (502, b"HTTP/1.1 200 O\x00K\r\n\r\n"),
        (502, b"HTTP/1.1 200 O\rK\r\n\r\n"),
        (502, b"HTTP/1.1 200 OK\n\r\n"),
        (502, b"HTTP/1.1 200\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\n\n"),
        (502, b"HTTP/1.1 200 OK\nA: b\r\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\nA: b\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\nA: b\n\n"),
        (502, b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n"),
        (502, b"HTTP/1.1 200 OK\r\nA\r\n\r\n"),
    ];
    for &(expected, text) in cases {
        let outcome = response(text, Method::Get);
        assert_eq!(status(&outcome), expected, "{}: {outcome:?}", shown(text));
    }
}

#[test]
fn reasons() {
    let cases: &[(&[u8], &[u8])] = &[
        (b"HTTP/1.1 200 OK\r\n\r\n", b"OK"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"OK"),
        (b"HTTP/1.1 200 a \xe4 c\r\nA: b\r\n\r\n", b"a \xe4 c"),
        (b"HTTP/1.1 200 \xe4\r\n\r\n", b"\xe4"),
        (b"HTTP/1.1 200 \r\n\r\n", b""),
        (b"HTTP/1.1 200\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\nA: b\r\n\r\n", b""),
        (b"HTTP/1.1 200 \r\nA: b\r\n\r\n", b""),
    ];
    for &(text, reason) in cases {
        assert_eq!(response(text, Method::Get).unwrap().reason.of(text), reason, "{}", shown(text));
    }
}

#[test]
fn framing() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    const FIVE: &str = "Content-Length: 5\r\n";
    let cases = [
        (Method::Get, "1.1 200", "", Some((Framing::UntilClose, false))),
        (Method::Get, "1.0 200", "Connection: keep-alive\r\n", Some((Framing::UntilClose, false))),
        (Method::Get, "1.1 200", FIVE, Some((Framing::Length(5), true))),
        (Method::Get, "1.1 200", "Content-Length: 0\r\n", Some((Framing::Length(0), true))),
        (Method::Get, "1.0 200", FIVE, Some((Framing::Length(5), false))),
        (
            Method::Get,
            "1.0 200",
            "Content-Length: 5\r\nConnection: keep-alive\r\n",
            Some((Framing::Length(5), true)),
        ),
        (
            Method::Get,
            "1.1 200",
            "Content-Length: 5\r\nConnection: close\r\n",
            Some((Framing::Length(5), false)),
        ),
        (Method::Get, "1.1 200", CHUNKED, Some((Framing::Chunked, true))),
        (Method::Post, "1.1 500", CHUNKED, Some((Framing::Chunked, true))),
        (Method::Head, "1.1 200", "", Some((Framing::None, true))),
        (Method::Head, "1.1 200", FIVE, Some((Framing::None, true))),
        (Method::Head, "1.1 200", CHUNKED, Some((Framing::None, true))),
        (Method::Get, "1.1 304", FIVE, Some((Framing::None, true))),
        (Method::Get, "1.1 304", CHUNKED, Some((Framing::None, true))),
        (Method::Get, "1.1 204", "", Some((Framing::None, true))),
        (Method::Get, "1.1 204", FIVE, Some((Framing::None, false))),
        (Method::Get, "1.1 204", CHUNKED, Some((Framing::None, false))),
        (Method::Get, "1.1 205", "", Some((Framing::UntilClose, false))),
        (Method::Get, "1.1 100", "", Some((Framing::None, true))),
        (Method::Get, "1.1 103", FIVE, Some((Framing::None, true))),
        (Method::Get, "1.1 103", CHUNKED, None),
        (Method::Get, "1.1 200", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
        (Method::Head, "1.1 200", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", None),
        (Method::Get, "1.1 200", "Content-Length: 5\r\nContent-Length: 5\r\n", None),
        (Method::Get, "1.1 200", "Content-Length: 5\r\nContent-Length: 6\r\n", None),
        (Method::Head, "1.1 200", "Content-Length: 5, 5\r\n", None),
        (Method::Get, "1.1 304", "Content-Length: x\r\n", None),
        (Method::Get, "1.1 200", "Content-Length: -1\r\n", None),
        (Method::Get, "1.0 200", CHUNKED, None),
        (Method::Get, "1.1 200", "Transfer-Encoding: gzip, chunked\r\n", None),
        (Method::Get, "1.1 200", "Transfer-Encoding: identity\r\n", None),
        (Method::Get, "1.1 200", "Transfer-Encoding: chunked, chunked\r\n", None),
    ];
    for (method, line, fields, expected) in cases {
        let text = format!("HTTP/{line} Reason\r\n{fields}\r\n");
        let outcome = response(text.as_bytes(), method);
        let actual = outcome.as_ref().ok().map(|head| (head.framing, head.keep_alive));
        assert_eq!(actual, expected, "{method:?} {text:?}");
        assert!(actual.is_some() || status(&outcome) == 502);
    }
}

#[test]
fn length_is_dropped_where_it_must_not_be() {
    let fields = |text: &'static [u8]| kept(&response(text, Method::Get).unwrap().fields, text);
    assert_eq!(fields(b"HTTP/1.1 204 A\r\nContent-Length: 0\r\nB: c\r\n\r\n"), ["B"]);
    assert_eq!(fields(b"HTTP/1.1 103 A\r\nContent-Length: 0\r\nLink: c\r\n\r\n"), ["Link"]);
    assert_eq!(fields(b"HTTP/1.1 304 A\r\nContent-Length: 0\r\n\r\n"), ["Content-Length"]);
}

#[test]
fn hop_by_hop_fields_and_those_named_are_dropped() {
    let text = b"HTTP/1.1 200 OK\r\nConnection: X-A, date, set-cookie\r\nX-A: b\r\nKeep-Alive: c\r\nDate: d\r\n\
        Set-Cookie: e\r\nTransfer-Encoding: chunked\r\nTrailer: f\r\nProxy-Authenticate: g\r\nUpgrade: h\r\n\r\n";
    assert_eq!(kept(&response(text, Method::Get).unwrap().fields, text), ["Date", "Set-Cookie", "Trailer"]);
}

#[test]
fn upgrades() {
    let cases = [
        ("1.1 101", "Connection: upgrade\r\nUpgrade: websocket\r\n", true),
        ("1.1 101", "Connection: upgrade\r\n", false),
        ("1.1 101", "Upgrade: websocket\r\n", false),
        ("1.1 101", "Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        ("1.0 101", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
        ("1.1 426", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
    ];
    for (line, fields, expected) in cases {
        let head = response(format!("HTTP/{line} A\r\n{fields}\r\n").as_bytes(), Method::Get).unwrap();
        assert_eq!(head.upgrade, expected, "{line} {fields:?}");
    }
}

#[test]
fn limits_and_reuse() {
    let text = b"HTTP/1.0 404 Not Found\r\nA: b\r\nC: d\r\n\r\nbody";
    let len = text.len() - 4;
    let mut head = ResponseHead::default();
    let mut parse = |text: &[u8], max_bytes, max_fields| {
        status(&parse_response(text, &HeadLimits { max_bytes, max_fields }, &Method::Get, &mut head))
    };
    assert_eq!(parse(text, len - 1, 2), 502);
    assert_eq!(parse(text, len, 1), 502);
    assert_eq!(parse(&text[..10], 10, 2), 502);
    assert_eq!(parse(text, len, 2), 200);
    assert_eq!((head.status, head.version, head.len), (404, Version::Http10, len));

    assert_eq!(parse_response(&text[..30], &LIMITS, &Method::Get, &mut head), Err(Unparsed::NeedMore));
    head.clear();
    let other = b"HTTP/1.1 200 OK\r\n\r\na body of twenty bytes";
    assert_eq!(parse_response(other, &LIMITS, &Method::Get, &mut head), Ok(19));
    assert!(head.fields.is_empty());
}
