//! Requests, rule by rule.

use super::{LIMITS, kept, request, shown, status};
use crate::http::{
    Framing, HeadLimits, Known, Method, RequestHead, Target, Unparsed, Version, parse_request,
};

/// Whole heads, and what becomes of each: 200 is accepted, 0 needs more.
const HEADS: &[(u16, &[u8])] = &[
    // Line ends and blank lines.
    (200, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"\n"),
    (400, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (0, b""),
    (0, b"\r"),
    (0, b"\r\n"),
    (400, b"\r\n\r"),
    (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX:\nY: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \nY: b\r\n\r\n"),
    (400, b"GET / HTTP/1.0\n\r\n"),
    (400, b"GET / HTTP/1.0\r\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX"),
    // The request line.
    (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\r\n\r\n"),
    (400, b"GET / \r\n\r\n"),
    (400, b"GET / HTTP/1.1X\r\n\r\n"),
    (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (505, b"PRI * HTTP/2"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, b"(GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG"),
    (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
    (501, b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Targets.
    (200, b"GET /a;b=c/~d/%7E?x=|[]{}^`'&y=$@!*(),:=+ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"GET //x HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"GET /?? HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /< HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /> HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\\ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /% HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /%1 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /%4g HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /%%20 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n"),
    (200, b"GET HTTPS://b:8443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http://b/c HTTP/1.1\r\n\r\n"),
    (400, b"GET http:///c HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http:/c HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http://u:p@b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http://b:65536/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n"),
    // Names and values.
    (
        200,
        b"GET / HTTP/1.1\r\nHost:a\r\nX:\r\nY: \t \r\nZ:\xff \x80\r\n!#$%&'*+-.^_`|~09az: \tb \tc\t \r\n\r\n",
    ),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n(X): b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\n\"X\": b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x0bc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x7fc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x1b[0m\r\n\r\n"),
    // Expectations.
    (417, b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n"),
    (417, b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, tea\r\n\r\n"),
    (417, b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: tea\r\n\r\n"),
];

#[test]
fn heads() {
    for &(expected, text) in HEADS {
        let outcome = request(text);
        assert_eq!(status(&outcome), expected, "{}: {outcome:?}", shown(text));
    }
}

#[test]
fn hosts() {
    let cases: &[(u16, &str)] = &[
        (200, "example.org"),
        (200, "EXAMPLE.org:80"),
        (200, "example.org:"),
        (200, "127.0.0.1:65535"),
        (200, "[::1]"),
        (200, "[2001:db8::1]:8080"),
        (200, "[::ffff:1.2.3.4]"),
        (200, "a_b-c.d~e"),
        (200, "a%20b"),
        (200, "!$&'()*+;="),
        (400, ""),
        (400, ":80"),
        (400, "a:b"),
        (400, "a:80:90"),
        (400, "a:65536"),
        (400, "a:000080"),
        (400, "a:-1"),
        (400, "a:+1"),
        (400, "a, b"),
        (400, "a,b"),
        (400, "a b"),
        (400, "a/b"),
        (400, "a?b"),
        (400, "a#b"),
        (400, "a@b"),
        (400, "a\\b"),
        (400, "a\"b"),
        (400, "a<b"),
        (400, "a|b"),
        (400, "a%2"),
        (400, "a%zz"),
        (400, "http://a"),
        (400, "[::1"),
        (400, "::1"),
        (400, "[::1]a"),
        (400, "[::1]:x"),
        (400, "[fe80::1%25eth0]"),
        (400, "[v1.a]"),
        (400, "[1.2.3.4]"),
        (400, "[]"),
        (400, "[[::1]]"),
        (400, "\u{e4}"),
    ];
    for &(expected, host) in cases {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let outcome = request(text.as_bytes());
        assert_eq!(status(&outcome), expected, "{host:?}");
        if let Ok(head) = outcome {
            assert_eq!(head.host.of(text.as_bytes()), host.as_bytes());
        }
    }
    assert_eq!(status(&request(b"GET / HTTP/1.1\r\n\r\n")), 400);
    assert_eq!(status(&request(b"GET / HTTP/1.0\r\n\r\n")), 200);
    assert_eq!(status(&request(b"GET / HTTP/1.0\r\nHost:\r\n\r\n")), 400);
    for version in ["1.0", "1.1"] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\nX: y\r\nhOST: a\r\n\r\n");
        assert_eq!(status(&request(text.as_bytes())), 400);
    }
}

#[test]
fn framing() {
    let cases: &[(&str, Result<Framing, u16>)] = &[
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("Content-Length: 42\r\n", Ok(Framing::Length(42))),
        ("Content-Length:\t007 \r\n", Ok(Framing::Length(7))),
        ("Content-Length: 9223372036854775807\r\n", Ok(Framing::Length(i64::MAX as u64))),
        ("Content-Length: 9223372036854775808\r\n", Err(400)),
        ("Content-Length: 18446744073709551616\r\n", Err(400)),
        ("Content-Length: 99999999999999999999999999\r\n", Err(400)),
        ("Content-Length:\r\n", Err(400)),
        ("Content-Length: +5\r\n", Err(400)),
        ("Content-Length: -5\r\n", Err(400)),
        ("Content-Length: 5 5\r\n", Err(400)),
        ("Content-Length: 5, 5\r\n", Err(400)),
        ("Content-Length: 5,\r\n", Err(400)),
        ("Content-Length: 0x5\r\n", Err(400)),
        ("Content-Length: 5.0\r\n", Err(400)),
        ("Content-Length: \"5\"\r\n", Err(400)),
        ("Content-Length: 5\r\ncontent-length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("transfer-encoding:CHUNKED \t\r\n", Ok(Framing::Chunked)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Content-Length: 0\r\nTransfer-Encoding: gzip\r\n", Err(400)),
        ("Transfer-Encoding:\r\n", Err(400)),
        ("Transfer-Encoding: ,chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked,\r\n", Err(400)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(400)),
        ("Transfer-Encoding: chunked, gzip\r\n", Err(400)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(400)),
        ("Transfer-Encoding: chunked;q=1\r\n", Err(400)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(400)),
        ("Transfer-Encoding: chunked gzip\r\n", Err(400)),
        ("Transfer-Encoding: gzip\r\n", Err(501)),
        ("Transfer-Encoding: identity\r\n", Err(501)),
        ("Transfer-Encoding: xchunked\r\n", Err(501)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
        ("Transfer-Encoding: gzip;level=9, chunked\r\n", Err(501)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(501)),
        ("Transfer_Encoding: chunked\r\n", Ok(Framing::None)),
    ];
    for (fields, expected) in cases {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let outcome = request(text.as_bytes());
        let actual = outcome.as_ref().map(|head| head.framing).map_err(|_| status(&outcome));
        assert_eq!(actual, *expected, "{fields:?}");
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(&request(old)), 400);
}

#[test]
fn persistence() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: foo, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: close, keep-alive\r\n", false),
        ("1.1", "Connection: ,, \r\n", true),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ];
    for (version, fields, expected) in cases {
        let head = request(format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        assert_eq!(head.keep_alive, expected, "{version} {fields:?}");
    }
}

#[test]
fn hop_by_hop_fields_and_those_named_are_dropped() {
    let text = b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nKeep-Alive: 5\r\nConnection: x-ONE, te, X-Three\r\n\
        Proxy-Connection: b\r\nTE: trailers\r\nTrailer: c\r\nUpgrade: d\r\nX-Two: 2\r\nProxy-Authorization: e\r\n\
        x-one: 3\r\nConnection: X-Four\r\nX-Four: 4\r\nX-One-More: 5\r\n\r\n";
    let head = request(text).unwrap();
    assert_eq!(kept(&head.fields, text), ["Host", "Trailer", "X-Two", "X-One-More"]);
    assert!(head.te_trailers);
    assert!(!head.upgrade);
}

#[test]
fn what_servers_rely_on_cannot_be_dropped_by_naming_it() {
    let text = b"POST / HTTP/1.1\r\nConnection: host, content-length, x-forwarded-for, cookie, authorization, via\r\n\
        Host: a\r\nContent-Length: 5\r\nX-Forwarded-For: b\r\nCookie: c\r\nAuthorization: d\r\nVia: e\r\n\r\n";
    let head = request(text).unwrap();
    let expected = ["Host", "Content-Length", "X-Forwarded-For", "Cookie", "Authorization", "Via"];
    assert_eq!(kept(&head.fields, text), expected);
    assert_eq!(head.framing, Framing::Length(5));
}

#[test]
fn connection_options_are_bounded() {
    let named = |count: usize| {
        let options: Vec<String> = (0..count).map(|n| format!("x{n}")).collect();
        request(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n", options.join(",")).as_bytes())
    };
    assert_eq!(status(&named(32)), 200);
    assert_eq!(status(&named(33)), 400);
}

#[test]
fn upgrades() {
    let cases = [
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
        ("1.1", "Upgrade: websocket\r\nConnection: keep-alive, UPGRADE\r\n", true),
        ("1.1", "Connection: upgrade\r\nUpgrade: a/1, b\r\n", true),
        ("1.1", "Connection: upgrade\r\n", false),
        ("1.1", "Connection: upgrade\r\nUpgrade:\r\n", false),
        ("1.1", "Upgrade: websocket\r\n", false),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", false),
        ("1.1", "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: x, H2C\r\n", false),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
    ];
    for (version, fields, expected) in cases {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let head = request(text.as_bytes()).unwrap();
        assert_eq!(head.upgrade, expected, "{version} {fields:?}");
        assert_eq!(kept(&head.fields, text.as_bytes()), ["Host"]);
    }
}

#[test]
fn expectations() {
    let head = request(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n\r\n").unwrap();
    assert!(head.expect_continue);
    assert!(!head.fields[1].drop);
    let head = request(b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(!head.expect_continue, "HTTP/1.0 clients do not know 100");
    assert!(head.fields[1].drop, "River would send it on as HTTP/1.1");
    assert!(!request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().expect_continue);
}

#[test]
fn targets_are_sent_on_in_origin_form() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("GET", "/a?b", "h", "/a?b"),
        ("GET", "http://x.y:8/a?b", "x.y:8", "/a?b"),
        ("GET", "http://x.y", "x.y", "/"),
        ("GET", "http://x.y?b", "x.y", "/?b"),
        ("GET", "http://[::1]:80/", "[::1]:80", "/"),
        ("OPTIONS", "*", "h", "*"),
        ("OPTIONS", "http://x.y", "x.y", "*"),
        ("OPTIONS", "http://x.y?", "x.y", "/?"),
        ("OPTIONS", "http://x.y/", "x.y", "/"),
    ];
    for (method, target, authority, origin) in cases {
        let text = format!("\r\n{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let head = request(text.as_bytes()).unwrap();
        assert_eq!(head.target.of(text.as_bytes()), target.as_bytes());
        assert_eq!(head.authority().of(text.as_bytes()), authority.as_bytes(), "{target}");
        let (before, rest) = head.origin_target(text.as_bytes());
        assert_eq!([before, rest].concat(), origin.as_bytes(), "{method} {target}");
    }
}

#[test]
fn everything_of_a_head() {
    let text = b"POST /p?q HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\nX-A:  v w \r\nDate:\r\n\r\nabcGET";
    let head = request(text).unwrap();
    assert_eq!(head.len, text.len() - 6);
    assert_eq!((head.method, head.method_span.of(text)), (Method::Post, &b"POST"[..]));
    assert_eq!((head.form, head.target.of(text)), (Target::Origin, &b"/p?q"[..]));
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, Framing::Length(3));
    let fields: Vec<_> =
        head.fields.iter().map(|field| (field.name.of(text), field.value.of(text), field.known)).collect();
    let expected: [(&[u8], &[u8], Known); 4] = [
        (b"Host", b"h:1", Known::Host),
        (b"Content-Length", b"3", Known::ContentLength),
        (b"X-A", b"v w", Known::Other),
        (b"Date", b"", Known::Date),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn limits() {
    let parse = |text: &[u8], max_bytes, max_fields| {
        status(&parse_request(text, &HeadLimits { max_bytes, max_fields }, &mut RequestHead::default()))
    };
    let text = b"GET /abcdefgh HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nbody that does not count";
    let len = text.len() - 24;
    assert_eq!(parse(text, len, 2), 200);
    assert_eq!(parse(text, len - 1, 2), 431);
    assert_eq!(parse(text, len, 1), 431);
    assert_eq!(parse(text, len, 0), 431);
    assert_eq!(parse(text, 25, 2), 431, "the request line fits");
    assert_eq!(parse(text, 23, 2), 414, "it does not");
    assert_eq!(parse(text, 8, 2), 414);
    assert_eq!(parse(&text[..8], 8, 2), 414, "no more can come");
    assert_eq!(parse(&text[..8], 9, 2), 0);
    assert_eq!(parse(b"", 0, 0), 414);

    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert_eq!(parse(many.as_bytes(), 1 << 20, 5000), 431);
    let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(999));
    assert_eq!(parse(most.as_bytes(), usize::MAX, 5000), 200);
}

#[test]
fn a_head_is_reused() {
    let mut head = RequestHead::default();
    let first = b"POST http://b/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nTE: trailers\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    parse_request(first, &LIMITS, &mut head).unwrap();
    let capacity = head.fields.capacity();
    let second = b"GET / HTTP/1.1\r\nHost: c\r\n\r\n";
    parse_request(second, &LIMITS, &mut head).unwrap();
    let fresh = request(second).unwrap();
    assert_eq!(format!("{head:?}"), format!("{fresh:?}"), "nothing of the first is left");
    assert_eq!(head.fields.capacity(), capacity);

    assert_eq!(parse_request(&first[..60], &LIMITS, &mut head), Err(Unparsed::NeedMore));
    head.clear();
    assert_eq!(head.fields.capacity(), capacity);
    let long = [&second[..], &[b'x'; 100]].concat();
    assert_eq!(parse_request(&long, &LIMITS, &mut head), Ok(second.len()));
}

#[test]
fn methods() {
    let idempotent = [Method::Get, Method::Head, Method::Options, Method::Trace, Method::Put, Method::Delete];
    assert!(idempotent.into_iter().all(Method::is_idempotent));
    assert!(!Method::of(b"POST").is_idempotent());
    assert!(!Method::of(b"PATCH").is_idempotent());
    assert!(!Method::of(b"PURGE").is_idempotent());
    assert_eq!(Method::of(b"get"), Method::Other);
}

#[test]
fn known_names() {
    for &(name, length, known) in Known::ALL {
        assert_eq!(name.len(), length, "{name} stands in the wrong line of the table");
        assert_eq!(Known::of(name.as_bytes()), known);
        assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known);
        assert_eq!(Known::of(name.replace('-', "_").as_bytes()) == known, !name.contains('-'));
        assert_eq!(Known::of(&name.as_bytes()[1..]), Known::Other);
    }
    assert!(Known::ALL.len() < 32, "a set of them is 32 bits");
}
