//! Real clients, where the machine has them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::curl::{curl, hinting, large, sum, upload};
use support::*;

fn proxy(origin: &Origin) -> Running {
    River::with_config(Config::proxy(origin).system("workers: 1")).serve()
}

#[test]
fn curl_keeps_its_connection() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin);
    let url = |path: &str| format!("http://{}{path}", river.web());
    let said = curl(&["-w", "%{num_connects} %{http_version}\n", &url("/a"), &url("/b"), &url("/c")]);
    assert_eq!(said, "GET /a\n1 1.1\nGET /b\n0 1.1\nGET /c\n0 1.1\n");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn curl_speaks_http_1_0() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::with(|_, reply| reply.respond_chunked(200, &[], &[b"one ", b"two\n"], &[]));
    let river = proxy(&origin);
    let url = format!("http://{}/", river.web());
    let said = curl(&["--http1.0", "-i", &url]);
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    assert!(said.contains("Connection: close\r\n") && said.ends_with("\r\n\r\none two\n"), "{said}");
}

#[test]
fn curl_uploads_with_and_without_a_length() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::builder()
        .on_head(|request, reply| {
            if request.fields.has("expect") {
                reply.interim(100, &[])?;
            }
            Ok(Next::Read)
        })
        .answer(|request, reply| {
            let framing =
                request.fields.get("transfer-encoding").or(request.fields.get("content-length")).unwrap();
            let sum = sum(&request.body);
            let expects = request.fields.has("expect");
            reply.respond(200, &[], format!("{framing} {sum} {expects}\n").as_bytes())
        })
        .start();
    let river = proxy(&origin);
    let (file, sum) = upload(&river);
    let url = format!("http://{}/up", river.web());
    let upload = ["-T", &file, &url];
    let with = |more: &[&str]| curl(&[more, &upload[..]].concat());
    assert_eq!(with(&["-H", "expect:"]), format!("5000000 {sum} false\n"));
    assert_eq!(
        with(&["-H", "expect: 100-continue", "--expect100-timeout", "20"]),
        format!("5000000 {sum} true\n")
    );
    assert_eq!(
        with(&["-H", "transfer-encoding: chunked", "-H", "expect:"]),
        format!("chunked {sum} false\n")
    );
}

#[test]
fn curl_reads_heads_and_large_bodies() {
    if !tools::require("curl") {
        return;
    }
    let origin = large();
    let river = proxy(&origin);
    let url = format!("http://{}/", river.web());
    let said = curl(&["--head", &url]);
    assert!(
        said.to_lowercase().contains("content-length: 20000000\r\n") && said.contains("x-large: yes\r\n"),
        "{said}"
    );
    let said = curl(&["-o", "/dev/null", "-w", "%{size_download}", &url]);
    assert_eq!(said, "20000000");
}

#[test]
fn curl_reads_early_hints_and_trailers() {
    if !tools::require("curl") {
        return;
    }
    let origin = hinting();
    let river = proxy(&origin);
    let said = curl(&["-i", &format!("http://{}/", river.web())]);
    assert!(
        said.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{said}"
    );
    assert!(said.contains("page\n") && said.contains("x-sum: 42\r\n"), "{said}");
}

#[test]
fn curl_through_a_unix_socket() {
    if !tools::require("curl") {
        return;
    }
    let config =
        Config::new().system("workers: 1").service("web", &["unix:web.sock"], &config::respond("hi\n"));
    let river = River::with_config(config).serve();
    let path = river.dir().join("web.sock");
    assert_eq!(curl(&["--unix-socket", path.to_str().unwrap(), "http://any.example/"]), "hi\n");
}
