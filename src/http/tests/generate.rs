//! Strategies that make valid messages from random parts.

use proptest::collection::vec;
use proptest::prelude::*;

/// A name and a value that are nothing special.
pub(super) type Line = (String, Vec<u8>);

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) lines: Vec<Line>,
    pub(super) text: Vec<u8>,
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    let parts = (
        "[A-Z]{1,8}!?",
        "/([a-z0-9._~!$&'()*+,;=:@/|^`{}-]|\\[|\\]|%[0-9a-fA-F]{2}){0,40}(\\?[a-z=&/?%0-9]{0,0}[a-z=&/?]{0,20})?",
        "[a-z0-9.-]{1,20}(:[0-9]{0,4})?",
        lines(),
        any::<bool>(),
    );
    parts.prop_filter("refused", |(method, ..)| method != "CONNECT").prop_map(
        |(method, target, host, lines, blank)| {
            let mut text = if blank { b"\r\n".to_vec() } else { Vec::new() };
            text.extend_from_slice(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").as_bytes());
            push(&mut text, &lines);
            Request { method, target, host, lines, text }
        },
    )
}

#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) reason: Vec<u8>,
    pub(super) lines: Vec<Line>,
    pub(super) text: Vec<u8>,
}

pub(super) fn response() -> impl Strategy<Value = Response> {
    (100_u16..600, vec(text_byte(), 0..20), lines()).prop_map(|(status, reason, lines)| {
        let mut text = format!("HTTP/1.1 {status} ").into_bytes();
        text.extend_from_slice(&reason);
        text.extend_from_slice(b"\r\n");
        push(&mut text, &lines);
        Response { status, reason, lines, text }
    })
}

/// A valid head of which one byte is another, or is missing.
pub(super) fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    (request(), any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(|(made, at, byte)| {
        let mut text = made.text;
        let at = at.index(text.len());
        match byte {
            Some(byte) => text[at] = byte,
            None => drop(text.remove(at)),
        }
        text
    })
}

/// A chunked body of random chunks, with its content.
pub(super) fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let extension = "([ \t]{0,2};[ \t]{0,2}[a-z!]{1,4}([ \t]{0,2}=[ \t]{0,2}([a-z]{1,3}|\"([a-z; \t]|\\\\\"){0,5}\"))?){0,2}";
    (vec((vec(any::<u8>(), 1..40), extension), 0..6), lines()).prop_map(|(chunks, trailers)| {
        let (mut text, mut content) = (Vec::new(), Vec::new());
        for (data, extension) in chunks {
            text.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
            text.extend_from_slice(&data);
            text.extend_from_slice(b"\r\n");
            content.extend_from_slice(&data);
        }
        text.extend_from_slice(b"0\r\n");
        push(&mut text, &trailers);
        (text, content)
    })
}

/// Bytes that look like HTTP more often than chance has it.
pub(super) fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"GET / HTTP/1.1\r\n"[..]),
        Just(&b"HTTP/1.1 200 OK\r\n"[..]),
        Just(&b"Host: a\r\n"[..]),
        Just(&b"Connection: x, upgrade, close\r\n"[..]),
        Just(&b"Upgrade: a\r\n"[..]),
        Just(&b"Content-Length: 5\r\n"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n"[..]),
        Just(&b"0\r\n"[..]),
        Just(&b"5;a=b\r\nhello\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b" "[..]),
        Just(&b":"[..]),
        Just(&b"\x00"[..]),
    ];
    let piece = prop_oneof![6 => piece.prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 1..10)];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    vec(("x[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", vec(text_byte(), 0..30)), 0..8)
}

fn text_byte() -> impl Strategy<Value = u8> {
    prop_oneof![6 => 0x20..=0x7e_u8, 1 => 0x80..=0xff_u8, 1 => Just(b'\t')]
}

fn push(text: &mut Vec<u8>, lines: &[Line]) {
    for (name, value) in lines {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
}
