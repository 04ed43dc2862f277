//! What becomes of a head on its way: target and Host, hop-by-hop fields, and what River adds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::raw::Fields;
use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

fn lines(fields: &Fields) -> Vec<String> {
    fields.0.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// What the server gets of a request.
fn forwarded(river: &Running, origin: &Origin, text: &str) -> Request {
    let before = origin.requests().len();
    let mut conn = Conn::open(river.web());
    conn.send(text);
    assert_eq!(conn.read_response(text.split(' ').next().unwrap()).status, 200, "{text:?}");
    origin.wait_requests(before + 1, PATIENCE).pop().unwrap()
}

#[test]
fn a_request_is_forwarded_with_these_fields_and_no_others() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let request = forwarded(
        &river,
        &origin,
        "GET /p/%7Ea?q=[1]&r HTTP/1.1\r\nhOsT: Example.org:8080\r\nX-Mixed-Case: kept   \r\nx-empty:\r\n\
         cookie: a=b\r\ncookie: c=d\r\naccept: text/html, */*;q=0.1\r\nX-Latin: caf\u{e9}\r\n\r\n",
    );
    assert!(request.raw.starts_with(b"GET /p/%7Ea?q=[1]&r HTTP/1.1\r\n"));
    assert_eq!(
        lines(&request.fields),
        [
            "hOsT: Example.org:8080",
            "X-Mixed-Case: kept",
            "x-empty: ",
            "cookie: a=b",
            "cookie: c=d",
            "accept: text/html, */*;q=0.1",
            "X-Latin: caf\u{e9}",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: Example.org:8080",
        ]
    );
}

#[test]
fn what_is_for_one_connection_only_is_removed_from_requests() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let request = forwarded(
        &river,
        &origin,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: X-Named, keep-alive\r\nx-named: 1\r\nX-NAMED: 2\r\nx-other: 3\r\n\
         keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nte: gzip\r\nupgrade: websocket\r\n\
         proxy-authorization: Basic Zm9v\r\nconnection: x-second\r\nx-second: 4\r\n\r\n",
    );
    let names: Vec<_> = request.fields.0.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(names, ["host", "x-other", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]);
}

#[test]
fn a_client_cannot_have_removed_what_servers_rely_on() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let request = forwarded(
        &river,
        &origin,
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: host, content-length, x-forwarded-for, cookie, authorization\r\n\
         connection: Content-Range, If-Match, If-None-Match, Range\r\n\
         cookie: c\r\nauthorization: b\r\ncontent-length: 2\r\ncontent-range: bytes 0-1/9\r\nif-match: d\r\n\
         if-none-match: e\r\nrange: bytes=0-1\r\n\r\nhi",
    );
    assert_eq!(request.body, b"hi");
    for (name, value) in [
        ("host", "a"),
        ("cookie", "c"),
        ("authorization", "b"),
        ("content-length", "2"),
        ("x-forwarded-for", "127.0.0.1"),
        ("content-range", "bytes 0-1/9"),
        ("if-match", "d"),
        ("if-none-match", "e"),
        ("range", "bytes=0-1"),
    ] {
        assert_eq!(request.fields.get(name), Some(value));
    }
}

#[test]
fn what_a_client_claims_of_itself_is_replaced() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let request = forwarded(
        &river,
        &origin,
        "GET / HTTP/1.1\r\nhost: real.example\r\nx-forwarded-for: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\n\
         x-forwarded-proto: https\r\nX-FORWARDED-HOST: evil.example\r\n\r\n",
    );
    assert_eq!(request.fields.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.fields.get("x-forwarded-proto"), Some("http"));
    assert_eq!(request.fields.get("x-forwarded-host"), Some("real.example"));
}

#[test]
fn nothing_that_a_client_claims_of_itself_gets_through_in_other_words() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let request = forwarded(
        &river,
        &origin,
        "POST / HTTP/1.1\r\nhost: a\r\nX_Forwarded_For: 10.0.0.1\r\nx-forwarded_proto: https\r\nx_forwarded_host: b\r\n\
         forwarded: for=10.0.0.1\r\nx-real-ip: 10.0.0.1\r\nX_REAL_IP: 10.0.0.1\r\nx-forwarded-port: 443\r\n\
         x_forwarded-port: 443\r\ncontent_length: 7\r\ntransfer_encoding: chunked\r\nx_other: kept\r\n\
         some_longer_name: kept\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx_forwarded_for: 10.0.0.1\r\nx_sum: 1\r\n\r\n",
    );
    let names: Vec<_> = request.fields.0.iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(
        names,
        [
            "host",
            "x_other",
            "some_longer_name",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "transfer-encoding"
        ]
    );
    assert_eq!(request.trailers.0, [("x_sum".to_owned(), "1".to_owned())]);
    // And nobody joins two hosts.
    let mut conn = Conn::open(river.web());
    conn.send("GET / HTTP/1.1\r\nhost: a.example,b.example\r\n\r\n");
    assert_eq!(conn.read_response("GET").status, 400);
}

#[test]
fn targets_become_origin_form_and_host_follows_them() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    for (method, target, sent, host) in [
        ("GET", "/a?b", "/a?b", "a.example"),
        ("GET", "http://B.example:81/c?d", "/c?d", "B.example:81"),
        ("GET", "HTTPS://b.example", "/", "b.example"),
        ("GET", "http://b.example?q", "/?q", "b.example"),
        ("GET", "http://[::1]:8080/", "/", "[::1]:8080"),
        ("OPTIONS", "*", "*", "a.example"),
        ("OPTIONS", "http://b.example", "*", "b.example"),
        ("OPTIONS", "http://b.example/", "/", "b.example"),
        ("OPTIONS", "/", "/", "a.example"),
        ("M-SEARCH", "//double//slash/../", "//double//slash/../", "a.example"),
    ] {
        let request =
            forwarded(&river, &origin, &format!("{method} {target} HTTP/1.1\r\nhost: a.example\r\n\r\n"));
        assert_eq!((request.method.as_str(), request.target.as_str()), (method, sent));
        assert_eq!(request.fields.get("host"), Some(host));
        assert_eq!(request.fields.get("x-forwarded-host"), Some(host));
    }
}

#[test]
fn what_is_for_one_connection_only_is_removed_from_responses() {
    let origin = Origin::with(|_, reply| {
        reply.raw(
            b"HTTP/1.1 299 Fine By Me\r\nConnection: x-named, keep-alive\r\nX-Named: 1\r\nx-other: 2\r\n\
              Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\
              Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nServer: s\r\n\
              Content-Length: 2\r\n\r\nhi",
        )
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    let response = conn.get("/");
    assert!(response.raw.starts_with(b"HTTP/1.1 299 Fine By Me\r\n"));
    assert_eq!(
        lines(&response.fields),
        [
            "x-other: 2",
            "Date: Thu, 01 Jan 1970 00:00:00 GMT",
            "Set-Cookie: a=b",
            "Set-Cookie: c=d",
            "Server: s",
            "Content-Length: 2",
        ]
    );
    assert_eq!(conn.get("/").text(), "hi");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_response_without_a_date_gets_one() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[], b""));
    let river = proxy(&origin);
    let date = get(river.web(), "/").fields.get("date").unwrap().to_owned();
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
}

#[test]
fn the_reason_phrase_may_be_empty() {
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        "/space" => reply.raw(b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"),
        _ => reply.raw(b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n"),
    });
    let river = proxy(&origin);
    for path in ["/space", "/bare"] {
        assert!(get(river.web(), path).raw.starts_with(b"HTTP/1.1 200 \r\n"));
    }
}

#[test]
fn via_is_added_both_ways_where_it_is_configured() {
    let origin = Origin::with(|_, reply| reply.respond(200, &[("via", "1.0 inner, 1.1 other")], b""));
    let river = River::with_config(Config::proxy(&origin).system("workers: 1").with("via: \"edge\"")).serve();
    let mut conn = Conn::open(river.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nvia: 1.1 first\r\nvia: 1.0 second\r\n\r\n");
    let response = conn.read_response("GET");
    assert_eq!(response.fields.get("via"), Some("1.0 inner, 1.1 other, 1.1 edge"));
    conn.send("GET / HTTP/1.0\r\n\r\n");
    conn.read_response("GET");
    let requests = origin.requests();
    assert_eq!(requests[0].fields.get("via"), Some("1.1 first, 1.0 second, 1.1 edge"));
    assert_eq!(requests[1].fields.get("via"), Some("1.0 edge"));

    let silent = proxy(&origin);
    let mut conn = Conn::open(silent.web());
    conn.send("GET / HTTP/1.1\r\nhost: a\r\nvia: 1.1 first\r\n\r\n");
    assert_eq!(conn.read_response("GET").fields.get("via"), Some("1.0 inner, 1.1 other"));
    assert_eq!(origin.requests()[2].fields.get("via"), Some("1.1 first"));
}

#[test]
fn a_request_that_goes_round_in_circles_is_ended() {
    let port = origin::refusing().port();
    let at = |ip: [u8; 4]| Target::from(std::net::SocketAddr::from((ip, port)));
    let (one, two) = (at([127, 0, 0, 1]), at([127, 0, 0, 2]));
    let to = |target: &Target| config::connectors(std::slice::from_ref(target));
    // Two services that forward to each other, which no check of one service's own listeners sees.
    let config = Config::new()
        .system("workers: 1")
        .service("web", &["127.0.0.1:0"], &to(&one))
        .with("via: \"river\"")
        .service("other", &[&one.to_string()], &to(&two))
        .with("via: \"other\"")
        .service("again", &[&two.to_string()], &to(&one))
        .with("via: \"river\"");
    let river = River::with_config(config).serve();
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/").status, 508);
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert_eq!(log::field(&line, "blame").as_deref(), Some("river"), "{line}");
    // The connections to and fro are none that a request could not use again.
    assert_eq!(conn.get("/").status, 508);
}

#[test]
fn a_request_is_forwarded_no_further_than_it_may() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for (method, status) in [("OPTIONS", 200), ("TRACE", 501)] {
        conn.send(format!("{method} / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n"));
        let response = conn.read_response(method);
        assert_eq!((response.status, response.fields.get("content-length")), (status, Some("0")));
    }
    assert_eq!(origin.connections(), 0);
    for (method, given, passed) in
        [("OPTIONS", "10", "9"), ("TRACE", "1", "0"), ("GET", "0", "0"), ("OPTIONS", "x", "x")]
    {
        let text = format!("{method} / HTTP/1.1\r\nhost: a\r\nMax-Forwards: {given}\r\n\r\n");
        assert_eq!(
            forwarded(&river, &origin, &text).fields.get("max-forwards"),
            Some(passed),
            "{method} {given}"
        );
    }
}

#[test]
fn whoever_takes_trailers_is_known_to_the_server() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let request = forwarded(&river, &origin, "GET / HTTP/1.1\r\nhost: a\r\nte: gzip, Trailers\r\n\r\n");
    assert_eq!(request.fields.get("te"), Some("trailers"));
    assert_eq!(request.fields.get("connection"), Some("TE"));
    let request = forwarded(&river, &origin, "GET / HTTP/1.1\r\nhost: a\r\nte: gzip\r\n\r\n");
    assert!(!request.fields.has("te") && !request.fields.has("connection"));
}
