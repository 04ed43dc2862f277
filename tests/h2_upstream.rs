//! Requests that River sends on in HTTP/2: heads, bodies, trailers, interim responses, both ways at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::Write;
use std::sync::Arc;

use support::h2_origin::pass;
use support::log::field;
use support::*;

/// River with one worker in front of `origin`.
fn proxy(origin: &H2Origin) -> Running {
    with(origin, "")
}

/// The same with settings of the service.
fn with(origin: &H2Origin, service: &str) -> Running {
    let settings = format!("connectors: (servers: [{}]){service}", origin.server());
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &settings);
    River::with_config(config).serve()
}

/// Some bytes that do not repeat early.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 15)) as u8).collect()
}

#[test]
fn a_request_goes_on_in_http_2_and_its_response_comes_back() {
    let origin = H2Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send(
        "GET /a?b=c HTTP/1.1\r\nHost: Example.com:81\r\nX-One: 1\r\nConnection: x-gone, keep-alive\r\nKeep-Alive: 1\r\n\
         X-Gone: 1\r\nTE: trailers, deflate\r\nCookie: a=b; c=d\r\n\r\n",
    );
    let response = conn.read_response("GET").expect_status(200);
    assert_eq!(response.text(), "GET /a?b=c\n");
    assert_eq!(response.fields.get("x-origin"), Some("h2"));
    let [request] = &origin.wait_requests(1)[..] else { panic!("one request") };
    let pseudo = (&*request.method, &*request.scheme, &*request.authority, &*request.path);
    assert_eq!(pseudo, ("GET", "http", "Example.com:81", "/a?b=c"));
    assert_eq!(request.field("x-one"), Some("1"));
    assert_eq!(request.field("cookie"), Some("a=b; c=d"));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-host"), Some("Example.com:81"));
    // Of what is about the connection that it came on, nothing (RFC 9113 §8.2.2).
    assert_eq!(request.field("te"), Some("trailers"));
    for gone in ["host", "connection", "keep-alive", "x-gone", "transfer-encoding"] {
        assert!(!request.fields.contains_key(gone), "{gone}: {:?}", request.fields);
    }
}

#[test]
fn targets_go_on_as_they_were_written() {
    let origin = H2Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for (method, sent, got) in [
        ("GET", "/", "/"),
        ("GET", "//a//b/../c", "//a//b/../c"),
        ("GET", "/%7Ea?%20b=%2f&c", "/%7Ea?%20b=%2f&c"),
        ("GET", "/?", "/?"),
        ("GET", "http://other.example", "/"),
        ("GET", "http://other.example?a", "/?a"),
        ("GET", "http://other.example:1/x", "/x"),
        ("OPTIONS", "*", "*"),
        ("OPTIONS", "http://other.example", "*"),
        ("BREW", "/pot", "/pot"),
    ] {
        conn.send(format!("{method} {sent} HTTP/1.1\r\nHost: example.com\r\n\r\n"));
        let response = conn.read_response(method).expect_status(200);
        assert_eq!(response.text(), format!("{method} {got}\n"));
        let request = origin.requests().pop().unwrap();
        let other = sent.contains("other");
        assert_eq!(request.authority.starts_with("other.example"), other, "{sent}: {}", request.authority);
    }
}

#[test]
fn a_host_that_has_no_form_in_http_2_is_no_fault_of_the_server() {
    let origin = H2Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /odd HTTP/1.1\r\nHost: a%20b\r\n\r\n");
    conn.read_response("GET").expect_status(502);
    let line = river.wait_for_line("GET /odd ", PATIENCE).text;
    assert!(field(&line, "why").unwrap().contains("its host has no form in HTTP/2"), "{line}");
    // Nothing was sent, and the connection is as good as it was.
    assert_eq!(conn.get("/next").status, 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn bodies_of_known_and_of_unknown_length_go_both_ways() {
    let origin = H2Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for length in [0, 1, 100, 8 << 10, 65_535, 65_536, 300_000, 3 << 20] {
        let body = noise(length);
        conn.send(format!("POST /l HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
        let sender = conn.sender();
        let sent = body.clone();
        let sending = std::thread::spawn(move || (&*sender).write_all(&sent).unwrap());
        let response = conn.read_response("POST").expect_status(200);
        sending.join().unwrap();
        assert!(response.body.strip_prefix(b"POST /l\n").unwrap() == body, "{length} bytes");
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.field("content-length"), request.whole), (Some(&*length.to_string()), true));

        conn.send("PUT /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        let sender = conn.sender();
        let sent = body.clone();
        let sending = std::thread::spawn(move || {
            for part in sent.chunks(50_000) {
                write!(&*sender, "{:x}\r\n", part.len()).unwrap();
                (&*sender).write_all(part).unwrap();
                (&*sender).write_all(b"\r\n").unwrap();
            }
            (&*sender).write_all(b"0\r\nX-Sum: 12\r\nHost: never\r\n\r\n").unwrap();
        });
        let response = conn.read_response("PUT").expect_status(200);
        sending.join().unwrap();
        assert!(response.body.strip_prefix(b"PUT /c\n").unwrap() == body, "{length} bytes in chunks");
        let request = origin.requests().pop().unwrap();
        assert_eq!((request.field("content-length"), request.whole), (None, true));
        assert_eq!(request.trailers.get("x-sum").unwrap(), "12");
        assert_eq!(request.trailers.len(), 1);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_response_of_unknown_length_comes_in_chunks_with_its_trailers() {
    let origin = H2Origin::with(|mut exchange| async move {
        let announced: &[_] = if exchange.request.path == "/announced" {
            &[("content-length", "9"), ("trailer", "x-sum")]
        } else {
            &[]
        };
        let mut body = exchange.begin(200, announced);
        body.part(b"one").await;
        body.part(b"twothr").await;
        body.trailers(&[("x-sum", "1"), ("grpc-status", "0")]);
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for path in ["/", "/announced"] {
        let response = conn.get(path).expect_status(200);
        assert_eq!(response.text(), "onetwothr");
        assert_eq!(response.fields.get("transfer-encoding"), Some("chunked"));
        assert!(!response.fields.has("content-length"));
        assert_eq!(response.trailers.get("x-sum"), Some("1"));
        assert_eq!(response.trailers.get("grpc-status"), Some("0"));
    }
    // HTTP/1.0 has no chunks.
    conn.send("GET / HTTP/1.0\r\n\r\n");
    let response = conn.read_response("GET").expect_status(200);
    assert_eq!((response.text().as_str(), response.closed), ("onetwothr", true));
}

#[test]
fn responses_without_a_body_have_none() {
    let origin = H2Origin::with(|mut exchange| async move {
        let path = exchange.request.path.clone();
        match path.as_str() {
            "/head" => exchange.end(200, &[("content-length", "12345")]),
            "/204" => exchange.end(204, &[]),
            "/304" => exchange.end(304, &[("content-length", "7"), ("etag", "\"a\"")]),
            "/empty" => exchange.end(200, &[]),
            "/zero" => exchange.end(404, &[("content-length", "0")]),
            // The stream ends in a frame of its own.
            _ => drop(exchange.begin(204, &[]).0.send_data(::bytes::Bytes::new(), true)),
        }
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    for (method, path, status, length) in [
        ("HEAD", "/head", 200, Some("12345")),
        ("HEAD", "/empty", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/late", 204, None),
        ("GET", "/304", 304, Some("7")),
        ("GET", "/empty", 200, Some("0")),
        ("GET", "/zero", 404, Some("0")),
    ] {
        conn.request(method, path);
        let response = conn.read_response(method).expect_status(status);
        assert_eq!(
            (response.body.len(), response.fields.get("content-length")),
            (0, length),
            "{method} {path}"
        );
        assert!(!response.closed && !response.fields.has("transfer-encoding"));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn interim_responses_come_through_and_a_body_held_back_is_asked_for() {
    let origin = H2Origin::with(|mut exchange| async move {
        if exchange.request.field("expect") == Some("100-continue") {
            exchange.interim(100, &[]);
        }
        exchange.interim(103, &[("link", "</a.css>; rel=preload")]);
        exchange.read().await;
        let body = std::mem::take(&mut exchange.request.body);
        exchange.respond(200, &[], &body).await;
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    let head = conn.reader().head().unwrap().unwrap();
    assert!(head.start.starts_with("HTTP/1.1 100 "), "{}", head.start);
    conn.send("body");
    let response = conn.read_response("POST").expect_status(200);
    assert_eq!(response.text(), "body");
    let [(103, fields)] = &response.interim[..] else { panic!("{:?}", response.interim) };
    assert_eq!(fields.get("link"), Some("</a.css>; rel=preload"));
}

#[test]
fn both_directions_stream_at_the_same_time() {
    let origin = H2Origin::with(|mut exchange| async move {
        let mut body = exchange.begin(200, &[("content-type", "application/grpc")]);
        while let Some(piece) = exchange.piece().await {
            body.part(&piece.to_ascii_uppercase()).await;
        }
        body.trailers(&[("grpc-status", "0")]);
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("POST /s HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nte: trailers\r\n\r\n");
    let (head, status) = conn.read_head();
    assert_eq!((status, head.fields.get("transfer-encoding")), (200, Some("chunked")));
    for nth in 0..50 {
        // Each comes back before the next is sent.
        let piece = format!("piece {nth};");
        conn.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        assert_eq!(conn.reader().chunk().unwrap(), piece.to_uppercase().as_bytes());
    }
    conn.send("0\r\n\r\n");
    assert_eq!(conn.reader().chunk().unwrap(), b"");
    assert_eq!(conn.reader().trailers().unwrap().get("grpc-status"), Some("0"));
    // A response that began before its request had ended is the last on its connection.
    assert_eq!(head.fields.get("connection"), Some("close"));
    conn.expect_closed();
}

#[test]
fn an_early_response_comes_through_while_its_request_is_on_its_way() {
    let origin = H2Origin::with(|mut exchange| async move {
        // It says all it has to say, and then resets the stream with NO_ERROR (RFC 9113 §8.1).
        exchange.respond(413, &[], b"too much").await;
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\nbegin");
    let response = conn.read_response("POST").expect_status(413);
    assert_eq!(response.text(), "too much");
    // The connection goes on with others.
    assert_eq!(get(river.web(), "/").status, 413);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_reset_stream_is_an_error_of_the_server_and_takes_no_other_along() {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = H2Origin::with(move |mut exchange| {
        let gate = waiting.clone();
        async move {
            match &*exchange.request.path.clone() {
                "/head" => exchange.reset(::h2::Reason::INTERNAL_ERROR),
                "/body" => {
                    let mut body = exchange.begin(200, &[]);
                    body.part(b"begin").await;
                    pass(&gate).await;
                    body.0.send_reset(::h2::Reason::INTERNAL_ERROR);
                }
                _ => exchange.respond(200, &[], b"fine").await,
            }
        }
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    let response = conn.get("/head");
    assert_eq!((response.status, response.closed), (502, false));
    let line = river.wait_for_line("GET /head ", PATIENCE).text;
    assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
    conn.request("GET", "/body");
    let (_, status) = conn.read_head();
    assert_eq!((status, conn.reader().chunk().unwrap()), (200, b"begin".to_vec()));
    gate.open();
    // What is cut short does not look whole.
    assert!(conn.reader().chunk().is_err());
    assert_eq!(get(river.web(), "/").text(), "fine");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_goes_away_takes_its_stream_along_and_nothing_else() {
    let gate = Arc::new(Gate::new());
    let waiting = gate.clone();
    let origin = H2Origin::with(move |mut exchange| {
        let gate = waiting.clone();
        async move {
            if exchange.request.path == "/wait" {
                exchange.gone().await;
                gate.open();
            }
            exchange.respond(200, &[], b"").await;
        }
    });
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.request("GET", "/wait");
    assert_eq!(get(river.web(), "/other").status, 200);
    conn.reset();
    gate.pass();
    assert_eq!(get(river.web(), "/other").status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_body_that_is_cut_short_does_not_look_whole_to_the_server() {
    for head in ["transfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n", "content-length: 10\r\n\r\nbegin"] {
        let origin = H2Origin::echo();
        let river = proxy(&origin);
        let mut conn = Conn::open(river.web());
        conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}"));
        until("the server has the begin", PATIENCE, || origin.connections() == 1);
        conn.finish();
        origin.wait_broken(1);
        assert!(!origin.wait_requests(1)[0].whole);
    }
}
