//! The four pairings of versions: whatever a client speaks and whatever its server speaks, they understand each other.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use ::bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use support::h2::{H2, read, receive, request, send_all, wait};
use support::*;

/// An origin of each version. Both answer with what they got, upper case, in chunks, with trailers.
struct Origins {
    one: Origin,
    two: H2Origin,
}

fn origins() -> Origins {
    let one = Origin::with(|request, reply| {
        let body = request.body.to_ascii_uppercase();
        let sum = request.trailers.get("x-sum").unwrap_or("none");
        reply.begin_chunked(200, &[("x-method", &request.method), ("trailer", "x-sum")])?;
        reply.chunk(&body)?;
        reply.end(&[("x-sum", sum), ("grpc-status", "0")])
    });
    let two = H2Origin::with(|mut exchange| async move {
        exchange.read().await;
        let request = exchange.request.clone();
        let sum = request.trailers.get("x-sum").map_or("none", |sum| sum.to_str().unwrap()).to_owned();
        let mut body = exchange.begin(200, &[("x-method", &request.method)]);
        body.part(&request.body.to_ascii_uppercase()).await;
        body.trailers(&[("x-sum", &sum), ("grpc-status", "0")]);
    });
    Origins { one, two }
}

/// A service in front of `server`, whose clients may speak either version.
fn river(server: &str) -> Running {
    River::with_config(support::h2::config(&format!("connectors: (servers: [{server}])"))).serve()
}

fn rivers(origins: &Origins) -> [Running; 2] {
    [river(&format!("(addr: \"{}\")", origins.one.address())), river(&origins.two.server())]
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 26) as u8).collect()
}

#[test]
fn bodies_and_trailers_go_through_in_all_four() {
    let origins = origins();
    for (nth, river) in rivers(&origins).iter().enumerate() {
        let mut one = Conn::open(river.web());
        let mut two = H2::open(river.web());
        for length in [1, 1000, 70_000, 1 << 20] {
            let body = text(length);
            let shouted = body.to_ascii_uppercase();

            let head = "POST /one HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n";
            one.send(format!("{head}{length:x}\r\n"));
            one.send(&body);
            one.send("\r\n0\r\nx-sum: 7\r\n\r\n");
            let response = one.read_response("POST").expect_status(200);
            assert!(response.body == shouted, "{length} bytes to server {nth}");
            let trailers = (response.trailers.get("x-sum"), response.trailers.get("grpc-status"));
            assert_eq!(trailers, (Some("7"), Some("0")), "to server {nth}");

            let (response, mut sending) = two.begin(request(Method::POST, "/two"), false);
            let sender = std::thread::spawn(move || {
                send_all(&mut sending, &body, false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("8"));
                sending.send_trailers(trailers).unwrap();
            });
            let answer = read(response).unwrap();
            sender.join().unwrap();
            assert_eq!((answer.status.as_u16(), answer.get("x-method")), (200, Some("POST")));
            assert!(answer.body == shouted, "{length} bytes to server {nth} in HTTP/2");
            assert_eq!((answer.trailer("x-sum"), answer.trailer("grpc-status")), (Some("8"), Some("0")));
        }
    }
    assert_eq!(origins.two.connections(), 1);
}

/// A call as gRPC makes one (one message a piece, both ways at once), to a server of HTTP/2, with what ends it.
#[test]
fn grpc_streams_both_ways_from_end_to_end() {
    let origin = H2Origin::with(|mut exchange| async move {
        assert_eq!(exchange.request.field("content-type"), Some("application/grpc"));
        assert_eq!(exchange.request.field("te"), Some("trailers"));
        if exchange.request.path == "/unknown" {
            // Trailers only: a head that ends the stream.
            let fields = [("content-type", "application/grpc"), ("grpc-status", "12")];
            return exchange.end(200, &fields);
        }
        let mut body = exchange.begin(200, &[("content-type", "application/grpc")]);
        while let Some(piece) = exchange.piece().await {
            body.part(&piece.to_ascii_uppercase()).await;
        }
        body.trailers(&[("grpc-status", "0"), ("grpc-message", "fine")]);
    });
    let river = river(&origin.server());
    let mut client = H2::open(river.web());
    let call = |path: &str| {
        let mut call = request(Method::POST, path);
        call.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        call
    };
    // Several calls at a time, on one connection on either side.
    let mut calls: Vec<_> = (0..10)
        .map(|_| {
            let (response, sending) = client.begin(call("/echo"), false);
            (wait("a head", response).unwrap().into_body(), sending)
        })
        .collect();
    for nth in 0..20 {
        for (receiving, sending) in &mut calls {
            let message = format!("message {nth}");
            sending.send_data(Bytes::from(message.clone()), false).unwrap();
            let came = support::h2::exactly(receiving, message.len());
            assert_eq!(came, message.to_uppercase().as_bytes());
        }
    }
    for (mut receiving, mut sending) in calls {
        sending.send_data(Bytes::new(), true).unwrap();
        while let Some(data) = receive(&mut receiving) {
            assert!(data.unwrap().is_empty());
        }
        let trailers =
            wait("trailers", std::future::poll_fn(|cx| receiving.poll_trailers(cx))).unwrap().unwrap();
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
        assert_eq!(trailers.get("grpc-message").unwrap(), "fine");
    }
    let answer = client.ask(call("/unknown"), b"");
    let status = answer.get("grpc-status").or(answer.trailer("grpc-status"));
    assert_eq!((answer.status.as_u16(), status, answer.body.len()), (200, Some("12"), 0));
    assert_eq!(origin.connections(), 1);
}

/// A reader that stops reading holds its server up after about one window, whatever the versions.
#[test]
fn a_slow_reader_holds_up_its_own_server_and_no_other() {
    let origin = H2Origin::with(|mut exchange| async move {
        if exchange.request.path == "/little" {
            return exchange.respond(200, &[], b"little").await;
        }
        let (mut body, block) = (exchange.begin(200, &[]), vec![b'x'; 16 << 10]);
        // The test ends before this does.
        while body.part(&block).await {
            exchange.request.body.resize(exchange.request.body.len() + block.len(), 0);
            if exchange.request.body.len() >= 64 << 20 {
                return;
            }
        }
    });
    let river = river(&origin.server());
    let mut slow = H2::open(river.web());
    let stalled: Vec<_> = (0..5).map(|_| slow.begin(support::h2::get("/much"), true)).collect();
    let stalled: Vec<_> =
        stalled.into_iter().map(|(response, _)| wait("a head", response).unwrap().into_body()).collect();
    // Others share the connection to the server with them.
    for _ in 0..20 {
        assert_eq!(get(river.web(), "/little").text(), "little");
    }
    let mut other = H2::open(river.web());
    assert_eq!(other.get("/little").text(), "little");
    assert_eq!(origin.connections(), 1);
    drop((stalled, slow));
    // What the server could send before it was held up: windows and buffers, and nothing like all of it.
    let held = |request: &support::h2_origin::H2Request| request.path == "/much";
    until("the streams are given up", PATIENCE, || {
        origin.requests().iter().filter(|request| held(request)).count() == 5
    });
    for request in origin.requests().iter().filter(|request| held(request)) {
        assert!(request.body.len() < 2 << 20, "{} bytes", request.body.len());
    }
}
