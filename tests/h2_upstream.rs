//! Requests that River sends on in HTTP/2: heads, bodies, trailers, interim responses, both ways at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::*;

fn proxy(origin: &H2Origin) -> Running {
    with(origin, "", "")
}

/// River with one worker in front of `origin`, with settings for the connectors and for the service.
fn with(origin: &H2Origin, connectors: &str, service: &str) -> Running {
    let settings = format!("connectors: (servers: [{}]{connectors}){service}", origin.server());
    let config = Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &settings);
    River::with_config(config).serve()
}

#[test]
fn a_request_goes_on_in_http_2_and_its_response_comes_back() {
    let origin = H2Origin::echo();
    let river = proxy(&origin);
    let mut conn = Conn::open(river.web());
    conn.send("GET /a?b=c HTTP/1.1\r\nHost: Example.com:81\r\nX-One: 1\r\nConnection: x-gone\r\nX-Gone: 1\r\nTE: trailers, deflate\r\n\r\n");
    let response = conn.read_response("GET").expect_status(200);
    assert_eq!(response.text(), "GET /a?b=c\n");
    assert_eq!(response.fields.get("x-origin"), Some("h2"));
    let [request] = &origin.wait_requests(1)[..] else { panic!("one request") };
    let pseudo = (&*request.method, &*request.scheme, &*request.authority, &*request.path);
    assert_eq!(pseudo, ("GET", "http", "Example.com:81", "/a?b=c"));
    assert_eq!(request.field("x-one"), Some("1"));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-host"), Some("Example.com:81"));
    for gone in ["host", "connection", "x-gone", "te", "transfer-encoding"] {
        assert!(!request.fields.contains_key(gone) || gone == "te", "{gone}: {:?}", request.fields);
    }
    assert_eq!(request.field("te"), Some("trailers"));
}

#[test]
fn requests_share_one_connection() {
    let origin = H2Origin::echo();
    let river = proxy(&origin);
    let mut conns: Vec<_> = (0..20).map(|_| Conn::open(river.web())).collect();
    for _ in 0..5 {
        conns.iter_mut().for_each(|conn| conn.request("GET", "/x"));
        conns.iter_mut().for_each(|conn| drop(conn.read_response("GET").expect_status(200)));
    }
    assert_eq!((origin.connections(), origin.wait_requests(100).len()), (1, 100));
}
