//! HTTP/2 from clients to servers in HTTP/1.1: what a request and its response become.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ::bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use support::config::{connectors, respond};
use support::h2::{H2, exactly, get, read, request, send_all, wait};
use support::log::field;
use support::*;

/// A river that takes HTTP/2 in front of an origin.
fn proxy(origin: &Origin) -> Running {
    River::with_config(support::h2::proxy(origin)).serve()
}

#[test]
fn a_get_arrives_as_one_of_http_1_and_its_response_comes_back() {
    let origin = Origin::with(|_, reply| {
        reply.respond(200, &[("x-one", "1"), ("connection", "x-two"), ("x-two", "2")], b"hello")
    });
    let river = River::with_config(support::h2::proxy(&origin).with("via: \"river\"")).serve();
    let mut client = H2::open(river.web());
    let mut asked = get("/path?query");
    asked.headers_mut().append("accept", HeaderValue::from_static("*/*"));
    asked.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
    asked.headers_mut().append("x-more", HeaderValue::from_static("y"));
    asked.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
    asked.headers_mut().append("via", HeaderValue::from_static("1.1 other"));
    let answer = client.ask(asked, b"");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "hello"));
    assert_eq!((answer.get("x-one"), answer.get("x-two"), answer.get("connection")), (Some("1"), None, None));
    assert_eq!((answer.get("content-length"), answer.get("via")), (Some("5"), Some("1.1 river")));
    assert!(answer.get("date").is_some() && answer.trailers.is_none());
    let requests = origin.requests();
    let [request] = &*requests else { panic!("{requests:?}") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/path?query"));
    let value = |name| request.fields.get(name);
    assert_eq!(
        (value("host"), value("cookie"), value("accept")),
        (Some("host"), Some("a=1; b=2"), Some("*/*"))
    );
    assert_eq!(value("via"), Some("1.1 other, 2.0 river"));
    assert_eq!((value("x-forwarded-for"), value("x-forwarded-proto")), (Some("127.0.0.1"), Some("http")));
    assert_eq!((value("x-forwarded-host"), value("transfer-encoding")), (Some("host"), None));
    assert_eq!((value("content-length"), value("x-more")), (None, Some("y")));
}

#[test]
fn bodies_go_both_ways_with_and_without_a_length() {
    let origin = Origin::with(|request, reply| {
        if request.fields.has("content-length") {
            return reply.respond(200, &[], &request.body);
        }
        reply.respond_chunked(200, &[], &[&request.body], &[])
    });
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    for length in [0, 1, 63, 64, 100, 8191, 8192, 65_535, 65_536, 1_000_000] {
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut known = request(Method::POST, "/");
        known.headers_mut().append("content-length", length.into());
        assert!(client.ask(known, &body).body == body, "{length} bytes of a known length");
        let answer = client.ask(request(Method::PUT, "/"), &body);
        assert!(answer.body == body, "{length} bytes of an unknown length");
        assert_eq!(answer.get("content-length").is_none(), length > 0);
        assert_eq!(answer.get("transfer-encoding"), None);
    }
    let seen = origin.requests();
    assert!(
        seen.iter()
            .skip(3)
            .step_by(2)
            .all(|request| request.fields.get("transfer-encoding") == Some("chunked"))
    );
    // An end without a body is said to be one where a body is expected.
    assert_eq!(seen[1].fields.get("content-length"), Some("0"));
}

#[test]
fn a_head_and_a_304_have_the_length_of_what_they_do_not_have() {
    let origin = Origin::with(|request, reply| {
        let status = if request.method == "HEAD" { 200 } else { 304 };
        reply.raw(format!("HTTP/1.1 {status} OK\r\ncontent-length: 1000\r\n\r\n").as_bytes())
    });
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    for method in [Method::HEAD, Method::GET] {
        let answer = client.ask(request(method, "/"), b"");
        assert_eq!((answer.get("content-length"), answer.body.len()), (Some("1000"), 0));
    }
}

#[test]
fn trailers_go_both_ways() {
    let origin = Origin::with(|_, reply| {
        reply.respond_chunked(
            200,
            &[("trailer", "x-end")],
            &[b"one", b"two"],
            &[("x-end", "yes"), ("host", "no")],
        )
    });
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let mut asked = request(Method::POST, "/");
    asked.headers_mut().append("te", HeaderValue::from_static("trailers"));
    let (response, mut sending) = client.begin(asked, false);
    send_all(&mut sending, b"body", false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    sending.send_trailers(trailers).unwrap();
    let answer = read(response).unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.trailer("x-end"), answer.trailer("host")),
        ("onetwo", Some("yes"), None)
    );
    let requests = origin.requests();
    assert_eq!(requests[0].body, b"body");
    assert_eq!(requests[0].trailers.get("x-sum"), Some("42"));
    assert_eq!(requests[0].fields.get("te"), Some("trailers"));
}

#[test]
fn interim_responses_come_before_the_final_one() {
    let origin = Origin::with(|_, reply| {
        reply.interim(103, &[("link", "</style>")])?;
        reply.respond(200, &[], b"done")
    });
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let (mut response, _) = client.begin(get("/"), true);
    let early = wait("103", std::future::poll_fn(|cx| response.poll_informational(cx))).unwrap().unwrap();
    assert_eq!((early.status().as_u16(), early.headers()["link"].as_bytes()), (103, &b"</style>"[..]));
    assert_eq!(read(response).unwrap().text(), "done");
}

#[test]
fn a_body_that_is_held_back_is_asked_for() {
    let origin = Origin::asking_for_bodies();
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let mut asked = request(Method::POST, "/");
    asked.headers_mut().append("expect", HeaderValue::from_static("100-continue"));
    let (mut response, mut sending) = client.begin(asked, false);
    let go_on = wait("100", std::future::poll_fn(|cx| response.poll_informational(cx))).unwrap().unwrap();
    assert_eq!(go_on.status().as_u16(), 100);
    send_all(&mut sending, b"now", true).unwrap();
    assert_eq!(read(response).unwrap().text(), "POST /\nnow");
}

#[test]
fn streams_are_served_at_the_same_time() {
    let (origin, gate) = Origin::gated(
        |target| target == "/slow",
        |request, reply| reply.respond(200, &[], request.target.as_bytes()),
    );
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let slow: Vec<_> = (0..20).map(|_| client.begin(get("/slow"), true).0).collect();
    assert_eq!(client.get("/fast").text(), "/fast");
    gate.open();
    for response in slow {
        assert_eq!(read(response).unwrap().text(), "/slow");
    }
}

#[test]
fn both_directions_stream() {
    let origin = Origin::builder()
        .on_head(|_, reply| {
            reply.begin_chunked(200, &[])?;
            loop {
                let bytes = reply.read_some()?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if text.contains("pong") {
                    reply.chunk(b"PONG")?;
                } else if text.contains("ping") {
                    reply.chunk(b"PING")?;
                }
                if text.ends_with("0\r\n\r\n") {
                    reply.end(&[("grpc-status", "0")])?;
                    return Ok(Next::Done);
                }
            }
        })
        .start();
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let (response, mut sending) = client.begin(request(Method::POST, "/"), false);
    let mut receiving = wait("a response", response).unwrap().into_body();
    for _ in 0..3 {
        sending.send_data(Bytes::from_static(b"ping"), false).unwrap();
        assert_eq!(exactly(&mut receiving, 4), b"PING");
        sending.send_data(Bytes::from_static(b"pong"), false).unwrap();
        assert_eq!(exactly(&mut receiving, 4), b"PONG");
    }
    sending.send_data(Bytes::new(), true).unwrap();
    let trailers = wait("trailers", async {
        assert!(receiving.data().await.is_none());
        receiving.trailers().await
    });
    assert_eq!(trailers.unwrap().unwrap()["grpc-status"], "0");
}

#[test]
fn http_1_goes_on_on_the_same_listener() {
    let origin = Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    // As far as it goes, this is the preface.
    conn.send("P");
    conn.send("R");
    conn.send("OPFIND / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(conn.read_response("PROPFIND").text(), "PROPFIND /\n");
    assert_eq!(conn.get("/again").text(), "GET /again\n");
    assert_eq!(H2::open(river.web()).get("/two").text(), "GET /two\n");
}

#[test]
fn a_listener_that_does_not_offer_it_refuses_the_preface() {
    let origin = Origin::echo();
    let river = River::with_config(Config::proxy(&origin)).serve();
    let mut conn = Conn::open(river.web());
    conn.send(support::h2::PREFACE);
    assert_eq!(conn.read_head().1, 505);
}

#[test]
fn a_response_that_breaks_off_is_reset_and_the_connection_stays() {
    let origin = Origin::with(|request, reply| {
        if request.target == "/whole" {
            return reply.respond(200, &[], b"whole");
        }
        reply.head(200, &[("content-length", "10")])?;
        reply.raw(b"half")?;
        reply.close();
        Ok(())
    });
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let error = client.try_ask(get("/half"), b"").unwrap_err();
    assert_eq!(error.reason(), Some(::h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.get("/whole").text(), "whole");
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert_eq!(field(&line, "status").as_deref(), Some("502"));
    assert!(
        line.contains("request=\"GET /half HTTP/2.0\" "),
        "the client's version, not the one inside: {line}"
    );
}

#[test]
fn a_stream_that_the_client_resets_ends_its_request() {
    let (origin, gate) = Origin::gated(|target| target == "/slow", |_, reply| reply.respond(200, &[], b"ok"));
    let river = proxy(&origin);
    let mut client = H2::open(river.web());
    let (response, mut sending) = client.begin(get("/slow"), true);
    origin.wait_requests(1, PATIENCE);
    sending.send_reset(::h2::Reason::CANCEL);
    drop((response, sending));
    river.wait_for_line("the client reset the connection before its response", PATIENCE);
    gate.open();
    assert_eq!(client.get("/").text(), "ok");
}

#[test]
fn river_answers_by_itself_too() {
    let river = River::with_config(support::h2::config(&respond("hello\n"))).serve();
    let mut client = H2::open(river.web());
    assert_eq!(client.get("/").text(), "hello\n");
    assert_eq!(client.ask(request(Method::POST, "/"), &[1; 100_000]).text(), "hello\n");
    let answer = client.ask(request(Method::HEAD, "/"), b"");
    assert_eq!((answer.text().as_str(), answer.get("content-length")), ("", Some("6")));
}

#[test]
fn a_refused_connection_to_the_server_is_told_as_ever_and_in_grpc_as_grpc_does() {
    let servers = connectors(&[support::origin::refusing().into()]);
    let config = support::h2::config(&servers).with("limits: (max_body: \"1KiB\")");
    let river = River::with_config(config).serve();
    let mut client = H2::open(river.web());
    let answer = client.get("/");
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (502, "502 Bad Gateway\n"));
    for (kind, status, grpc) in [
        ("application/grpc", 200, Some("14")),
        ("application/grpc+proto", 200, Some("14")),
        ("application/grpc; x=y", 200, Some("14")),
        ("application/grpc-web", 502, None),
        ("text/plain", 502, None),
    ] {
        let mut call = request(Method::POST, "/package.Service/Method");
        call.headers_mut().append("content-type", kind.parse().unwrap());
        let answer = client.ask(call, b"\0\0\0\0\0");
        assert_eq!((answer.status.as_u16(), answer.get("grpc-status")), (status, grpc), "{kind}");
        if grpc.is_some() {
            assert_eq!((answer.get("content-type"), answer.body.len()), (Some("application/grpc"), 0));
            assert_eq!(answer.get("grpc-message"), Some("502 Bad Gateway"));
        }
    }
    let mut call = request(Method::POST, "/package.Service/Method");
    call.headers_mut().append("content-type", "application/grpc".parse().unwrap());
    call.headers_mut().append("content-length", 2000.into());
    // Refused by its head; none of the body need be sent.
    let (response, _sending) = client.begin(call, false);
    let answer = read(response).unwrap();
    assert_eq!((answer.status.as_u16(), answer.get("grpc-status")), (200, Some("8")));
}

#[test]
fn what_served_one_stream_serves_the_next_as_its_own() {
    let (origin, gate) = Origin::gated(
        |target| target == "/slow",
        |request, reply| reply.respond(200, &[("x-target", &request.target)], request.target.as_bytes()),
    );
    let river = proxy(&origin);
    for round in 0..3 {
        let mut clients = [H2::open(river.web()), H2::open(river.web())];
        let mut begun = Vec::new();
        for at in 0..40 {
            let client = &mut clients[at % 2];
            let slow = client.begin(get("/slow"), true);
            begun.push((format!("/{round}/{at}"), client.begin(get(&format!("/{round}/{at}")), true), slow));
        }
        for (at, (target, (response, _), (_, mut slow))) in begun.into_iter().enumerate() {
            // Of some the connection goes with streams that are under way, and the others are reset one by one.
            if at % 2 == 0 {
                slow.send_reset(::h2::Reason::CANCEL);
            }
            let answer = read(response).unwrap();
            assert_eq!((answer.text(), answer.get("x-target")), (target.clone(), Some(&*target)));
        }
    }
    gate.open();
    assert_eq!(H2::open(river.web()).get("/last").text(), "/last");
}
