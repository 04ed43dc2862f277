//! The last bytes of a response behind which River ends the connection: they wait for that end, and come with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io;
use std::time::Instant;

use support::*;

/// More than goes in one segment over loopback, and no multiple of anything.
const LENGTH: usize = 200_003;

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn answer(request: &Request, reply: &mut Reply<'_>) -> io::Result<()> {
    let large = body(LENGTH);
    match &*request.target {
        "/small" => reply.respond(200, &[], b"small"),
        "/large" => reply.respond(200, &[], &large),
        "/pieces" => {
            reply.head(200, &[("content-length", &LENGTH.to_string())])?;
            large.chunks(7_001).try_for_each(|piece| reply.raw(piece))
        }
        "/chunked" => reply.respond_chunked(200, &[], &[b"in ", b"chunks"], &[("x-t", "1")]),
        "/large-chunked" => reply.respond_chunked(200, &[], &[&large], &[("x-t", "1")]),
        "/until-close" => {
            reply.head(200, &[("connection", "close")])?;
            reply.raw(&large)?;
            reply.close();
            Ok(())
        }
        "/nothing" => reply.respond(204, &[], b""),
        _ => {
            reply.close();
            Ok(())
        }
    }
}

/// What a client does behind its request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Waits,
    Ends,
    SendsMore,
}

#[test]
fn every_response_is_whole_at_once_and_ends_in_order() {
    let origin = Origin::with(answer);
    let river = River::with_config(
        Config::proxy(&origin)
            .service(
                "own",
                &["127.0.0.1:0"],
                &format!("respond: (status: 200, body: {:?})", "x".repeat(LENGTH)),
            )
            .system("workers: 1"),
    )
    .serve();
    let whole = body(LENGTH);
    let cases: &[(&str, &str, &str, u16, &[u8])] = &[
        ("web", "GET", "/small", 200, b"small"),
        ("web", "HEAD", "/small", 200, b""),
        ("web", "GET", "/nothing", 204, b""),
        ("web", "GET", "/large", 200, &whole),
        ("web", "GET", "/pieces", 200, &whole),
        ("web", "GET", "/chunked", 200, b"in chunks"),
        ("web", "GET", "/large-chunked", 200, &whole),
        ("web", "GET", "/until-close", 200, &whole),
        ("web", "GET", "/failure", 502, b"502 Bad Gateway\n"),
        ("web", "GET", "relative", 400, b"400 Bad Request\n"),
        ("own", "GET", "/", 200, &[b'x'; LENGTH]),
        ("own", "HEAD", "/", 200, b""),
    ];
    for &(service, method, target, status, body) in cases {
        for version in ["1.0", "1.1"] {
            for then in [Then::Waits, Then::Ends, Then::SendsMore] {
                let case = format!("{service} {method} {target} HTTP/{version} {then:?}");
                let begun = Instant::now();
                let mut conn = Conn::open(river.address(service, 0));
                let more = if then == Then::SendsMore { "\r\nmore" } else { "" };
                conn.send(format!(
                    "{method} {target} HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n{more}"
                ));
                if then == Then::Ends {
                    conn.finish();
                }
                let response = conn.read_response(method);
                assert_eq!((response.status, response.closed), (status, true), "{case}");
                assert!(response.body == body, "{case}: {} bytes", response.body.len());
                conn.expect_closed();
                assert!(begun.elapsed() < SOON, "{case} took {:?}", begun.elapsed());
            }
        }
    }
}
