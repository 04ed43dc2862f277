//! Servers that answer nonsense: 502, and nothing of it reaches the client.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::log::field;
use support::*;

/// Heads that are refused; each is followed by bytes that a lenient reader would take for a body or a response.
const HEADS: &[&str] = &[
    "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\rZ: z\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nNo colon\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\0z\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\na",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\na",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "<html>oops</html>",
    "220 smtp.example ESMTP\r\n",
];

#[test]
fn malformed_heads_are_not_forwarded() {
    let origin = Origin::with(|request, reply| {
        let nth: usize = request.target[1..].parse().unwrap();
        reply.raw(HEADS[nth].as_bytes())?;
        reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhidden")?;
        reply.close();
        Ok(())
    });
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let mut conn = Conn::open(river.web());
    for (nth, head) in HEADS.iter().enumerate() {
        let response = conn.get(&format!("/{nth}"));
        assert_eq!((response.status, response.closed), (502, false), "{head:?}");
        assert_eq!(response.text(), "502 Bad Gateway\n");
        let line = river.wait_nth_line("request failed", nth).text;
        assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{head:?}: {line}");
        assert_eq!(field(&line, "upstream"), Some(origin.address().to_string()), "{line}");
    }
    assert!(conn.is_quiet());
    // Each on a connection of its own, and none of them twice.
    assert_eq!((origin.connections(), origin.requests().len()), (HEADS.len(), HEADS.len()));
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        "/large" => reply.respond(200, &[("x-large", &"a".repeat(4096))], b""),
        "/endless" => {
            reply.raw(b"HTTP/1.1 200 OK\r\nx-endless: ")?;
            loop {
                reply.raw(&[b'a'; 1024])?;
            }
        }
        "/many" => {
            let fields: Vec<(&str, &str)> = (0..30).map(|_| ("x-many", "1")).collect();
            reply.respond(200, &fields, b"")
        }
        _ => reply.respond(200, &[("x-large", &"a".repeat(3000))], b"fits"),
    });
    let limits = "limits: (max_head: \"4KiB\", max_headers: 30)";
    let river = River::with_config(Config::proxy(&origin).system("workers: 1").with(limits)).serve();
    let mut conn = Conn::open(river.web());
    for path in ["/large", "/endless", "/many"] {
        assert_eq!(conn.get(path).status, 502, "{path}");
        assert_eq!(conn.get("/fits").text(), "fits");
    }
}

#[test]
fn bytes_behind_a_response_are_no_response() {
    let origin = Origin::with(|request, reply| {
        if request.target == "/extra" {
            return reply.raw(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
            );
        }
        reply.respond(200, &[], b"good")
    });
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let mut conn = Conn::open(river.web());
    for _ in 0..3 {
        assert_eq!(conn.get("/extra").text(), "ok");
        assert_eq!(conn.get("/good").text(), "good");
    }
    let connections: Vec<_> = origin.requests().into_iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1, 1, 2, 2, 3]);
}

#[test]
fn a_body_to_head_is_no_response_either() {
    let origin = Origin::with(|request, reply| {
        if request.method == "HEAD" {
            return reply.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody");
        }
        reply.respond(200, &[], b"good")
    });
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let mut conn = Conn::open(river.web());
    conn.request("HEAD", "/");
    assert_eq!(conn.read_response("HEAD").fields.get("content-length"), Some("4"));
    assert_eq!(conn.get("/").text(), "good");
    assert_eq!(origin.connections(), 2);
}

/// What it announces may come a moment later, when the connection is in the pool or somebody else's.
#[test]
fn a_204_that_announces_a_body_is_the_last_of_its_connection() {
    let origin = Origin::with(|request, reply| match request.target.as_str() {
        "/none" => reply.raw(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"),
        "/length" => reply.raw(b"HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\n"),
        _ => reply.raw(b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n"),
    });
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let mut conn = Conn::open(river.web());
    for path in ["/none", "/length", "/none", "/chunked", "/none"] {
        assert!(!conn.get(path).expect_status(204).fields.has("content-length"));
    }
    let connections: Vec<_> = origin.requests().into_iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1, 2]);
}

#[test]
fn servers_that_end_before_their_response() {
    let origin = Origin::with(|request, reply| {
        match request.target.as_str() {
            "/half" => reply.raw(format!("HTTP/1.1 200 OK\r\nx-half: {}", "a".repeat(150)).as_bytes())?,
            "/reset" => return reply.reset(),
            "/close" => {}
            _ => {
                // Shorter than the half, with a body that reaches beyond it.
                return reply.respond(200, &[], &[b'b'; 160]);
            }
        }
        reply.close();
        Ok(())
    });
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let mut conn = Conn::open(river.web());
    for path in ["/half", "/close", "/reset", "/half"] {
        let response = conn.get(path).expect_status(502);
        assert!(!response.closed);
        let line = river.wait_for_line(&format!("GET {path} "), PATIENCE).text;
        assert_eq!(field(&line, "blame").as_deref(), Some("upstream"), "{line}");
        // What was read of the half head does not disturb the next.
        assert_eq!(conn.get("/good").body, [b'b'; 160]);
    }
}
