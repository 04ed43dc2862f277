//! Services that answer by themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::*;

fn respond(settings: &str) -> Running {
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], settings);
    River::with_config(config).serve()
}

#[test]
fn the_answer_is_as_configured() {
    let river = respond(
        r#"respond: (status: 418, headers: {"content-type": "text/tea", "x-pot": "brown"}, body: "short\nand stout\n")"#,
    );
    let mut conn = Conn::open(river.web());
    for method in ["GET", "DELETE", "BREW"] {
        conn.request(method, "/any?thing");
        let response = conn.read_response(method);
        assert_eq!((response.status, response.text().as_str()), (418, "short\nand stout\n"));
        assert_eq!(response.fields.get("content-type"), Some("text/tea"));
        assert_eq!(response.fields.get("x-pot"), Some("brown"));
        assert!(response.fields.get("date").unwrap().ends_with(" GMT"));
        assert!(response.raw.starts_with(b"HTTP/1.1 418 I'm a teapot\r\n"), "{response:?}");
        assert!(!response.closed);
    }
    conn.request("HEAD", "/");
    let head = conn.read_response("HEAD");
    assert_eq!((head.status, head.fields.get("content-length")), (418, Some("16")));
    assert!(conn.is_quiet());
    assert_eq!(conn.get("/").status, 418);
}

#[test]
fn bodies_are_read_and_the_connection_stays() {
    let river = respond(r#"respond: (status: 200, body: "ok")"#);
    let mut conn = Conn::open(river.web());
    let large = vec![b'x'; 3 << 20];
    for _ in 0..2 {
        conn.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", large.len()));
        conn.send(&large);
        assert_eq!(conn.read_response("POST").text(), "ok");
        conn.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        conn.send(format!("{:x}\r\n", large.len()));
        conn.send(&large);
        conn.send("\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n");
        assert_eq!(conn.read_response("POST").text(), "ok");
    }
    assert_eq!(conn.get("/").text(), "ok");
}

#[test]
fn a_client_that_waits_to_send_its_body_is_answered_at_once() {
    let river = respond(r#"respond: (status: 200, body: "ok")"#);
    let mut conn = Conn::open(river.web());
    conn.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let response = conn.read_response("POST");
    assert_eq!((response.status, response.closed, response.interim.len()), (200, true, 0));
    conn.finish();
    conn.expect_closed();
}

#[test]
fn statuses_without_a_body_have_no_length() {
    for status in [204, 304] {
        let river = respond(&format!("respond: (status: {status})"));
        let mut conn = Conn::open(river.web());
        for _ in 0..2 {
            let response = conn.get("/").expect_status(status);
            assert!(!response.fields.has("content-length") && !response.fields.has("transfer-encoding"));
        }
        assert!(conn.is_quiet());
    }
}

#[test]
fn an_empty_answer_says_so() {
    let river = respond("respond: (status: 200)");
    let mut conn = Conn::open(river.web());
    assert_eq!(conn.get("/").fields.get("content-length"), Some("0"));
    conn.send("GET / HTTP/1.0\r\n\r\n");
    let response = conn.read_response("GET");
    assert_eq!((response.status, response.fields.get("connection")), (200, Some("close")));
    conn.expect_closed_within(SOON);
}

#[test]
fn what_is_wrong_is_refused_here_too() {
    let river = respond(r#"respond: (status: 200, body: "ok"), limits: (max_body: "10B")"#);
    for (text, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n", 413),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n",
            413,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", 400),
    ] {
        let mut conn = Conn::open(river.web());
        conn.send(text);
        let response = conn.read_response("POST");
        assert_eq!((response.status, response.closed), (status, true), "{text:?}");
        conn.finish();
        conn.expect_closed();
    }
}

/// Nearly as much as the configuration may hold.
const LARGE: usize = 4_000_000;

#[test]
fn a_failure_names_the_request() {
    let river = respond(&format!("respond: (body: {:?}), limits: (max_body: \"10B\")", "x".repeat(LARGE)));
    let mut conn = Conn::open(river.web());
    conn.send("POST /much?too HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n");
    let line = river.wait_for_line("request failed", PATIENCE).text;
    assert!(line.contains("request=\"POST /much?too HTTP/1.1\" ") && line.contains("status=413"), "{line}");
    conn.reset();
    // An answer that does not get through is one, too.
    let mark = river.mark();
    let mut conn = Conn::open(river.web());
    // More of them than the kernel's buffers hold.
    conn.send("GET http://a/away HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10));
    conn.read_head();
    conn.reset();
    let line = river.wait_line_after(mark, "request failed").text;
    assert!(
        line.contains("request=\"GET http://a/away HTTP/1.1\" ") && line.contains("status=499"),
        "{line}"
    );
    assert_eq!(log::field(&line, "blame").as_deref(), Some("downstream"), "{line}");
}

/// Every answer under way was a copy of the body.
#[test]
fn many_slow_readers_share_one_body() {
    let river = respond(&format!("respond: (body: {:?})", "x".repeat(LARGE)));
    let mut conns: Vec<Conn> = (0..50).map(|_| Conn::open(river.web())).collect();
    for conn in &mut conns {
        conn.request("GET", "/");
        conn.read_head();
    }
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", river.pid())).unwrap();
    let resident = pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size();
    assert!(resident < 20 * LARGE, "{resident} bytes are resident");
    for conn in &mut conns {
        assert_eq!(conn.reader().exactly(LARGE).unwrap(), vec![b'x'; LARGE]);
    }
}

/// A turn of a task is worth 64 operations; a connection that had used them up exactly when it fell idle span for
/// ever, because it asked again without giving way.
#[test]
fn any_number_of_pipelined_requests_leaves_the_worker_alive() {
    let dir = Dir::new();
    let path = dir.join("web.sock");
    let config = Config::new()
        .system("workers: 1")
        .service("web", &["127.0.0.1:0"], r#"respond: (status: 204)"#)
        .service("unix", &["unix:web.sock"], r#"respond: (status: 204)"#);
    let river = River::in_dir(dir).config(config).serve();
    for count in 60..68 {
        for target in [Target::from(path.as_path()), river.web().into()] {
            let mut conn = Conn::open(target);
            conn.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(count));
            for _ in 0..count {
                assert_eq!(conn.read_response("GET").status, 204);
            }
            // The worker serves others, and this connection goes on.
            assert_eq!(get(river.web(), "/").status, 204, "after {count}");
            assert_eq!(conn.get("/").status, 204);
        }
    }
}
