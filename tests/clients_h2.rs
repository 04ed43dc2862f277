//! Real clients of HTTP/2 (curl, nghttp and h2load), to servers that speak HTTP/1.1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;

use support::curl::{client, curl, hinting, large, sum, upload};
use support::tls::{Authority, NAME};
use support::*;

/// A River with two services: `web` has HTTP/2 by prior knowledge, `secure` by ALPN.
fn proxy(origin: &Origin) -> Running {
    let connectors = config::connectors(&[origin.target().clone()]);
    let service = |listener: &str| format!("listeners: [(bind: \"127.0.0.1:0\", {listener})], {connectors}");
    let config = Config::new()
        .system("workers: 2")
        .service_text("web", &service("offer_h2: true"))
        .service_text("secure", &service("tls: (certificates: [(cert: \"site.pem\", key: \"site.key\")])"));
    let dir = Dir::new();
    let authority = Authority::new("an authority");
    authority.sign(NAME).write(dir.path(), "site");
    fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    River::in_dir(dir).config(config).serve()
}

/// What curl prints, which knows beforehand that HTTP/2 is spoken. (That of Debian 12 cannot use such a connection for a
/// second request, with whatever server.)
#[track_caller]
fn curl_2(arguments: &[&str]) -> String {
    curl(&[&["--http2-prior-knowledge"], arguments].concat())
}

/// What curl prints of these paths, which it asks for over TLS in the protocol that was agreed on.
#[track_caller]
fn curl_over_tls(river: &Running, paths: &[String], arguments: &[&str]) -> String {
    let address = river.address("secure", 0);
    let urls: Vec<String> =
        paths.iter().map(|path| format!("https://{NAME}:{}{path}", address.port())).collect();
    let resolve = format!("{NAME}:{}:{}", address.port(), address.ip());
    let authority = river.dir().join("ca.pem");
    let mut all = vec!["--resolve", resolve.as_str(), "--cacert", authority.to_str().unwrap()];
    all.extend(arguments);
    all.extend(urls.iter().map(String::as_str));
    curl(&all)
}

#[test]
fn curl_keeps_its_connection_in_http_2() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin);
    let paths = ["/a", "/b", "/c"].map(String::from);
    let said = curl_over_tls(&river, &paths, &["-w", "%{num_connects} %{http_version}\n"]);
    assert_eq!(said, "GET /a\n1 2\nGET /b\n0 2\nGET /c\n0 2\n");
    let said = curl_over_tls(&river, &paths, &["--http1.1", "-w", "%{num_connects} %{http_version}\n"]);
    assert_eq!(said, "GET /a\n1 1.1\nGET /b\n0 1.1\nGET /c\n0 1.1\n");
}

#[test]
fn curl_asks_at_once_in_one_connection() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin);
    let paths: Vec<String> = (0..50).map(|nth| format!("/{nth}")).collect();
    let said = curl_over_tls(&river, &paths, &["--parallel", "--parallel-max", "50"]);
    let number = |line: &str| line.trim_start_matches("GET /").parse::<u32>().unwrap();
    let mut numbers: Vec<_> = said.lines().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
}

#[test]
fn curl_uploads_in_http_2_with_and_without_a_length() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::with(|request, reply| {
        let framing = request.fields.get("transfer-encoding").or(request.fields.get("content-length"));
        reply.respond(200, &[], format!("{} {}\n", framing.unwrap(), sum(&request.body)).as_bytes())
    });
    let river = proxy(&origin);
    let (file, sum) = upload(&river);
    let url = format!("http://{}/up", river.web());
    assert_eq!(curl_2(&["-T", &file, &url]), format!("5000000 {sum}\n"));
    // From its standard input it cannot know the length.
    let script = format!(
        "curl --disable --silent --show-error --noproxy '*' --max-time 20 --http2-prior-knowledge -T - '{url}' <'{file}'"
    );
    assert_eq!(client("sh", &["-c", &script]), format!("chunked {sum}\n"));
}

#[test]
fn curl_reads_large_bodies_and_heads_in_http_2() {
    if !tools::require("curl") {
        return;
    }
    let origin = large();
    let river = proxy(&origin);
    let url = format!("http://{}/", river.web());
    let said = curl_2(&["--head", &url]);
    assert!(said.starts_with("HTTP/2 200") && said.contains("content-length: 20000000\r\n"), "{said}");
    assert_eq!(curl_2(&["-o", "/dev/null", "-w", "%{size_download}", &url]), "20000000");
}

#[test]
fn curl_reads_early_hints_and_trailers_in_http_2() {
    if !tools::require("curl") {
        return;
    }
    let origin = hinting();
    let river = proxy(&origin);
    let said = curl_2(&["-i", &format!("http://{}/", river.web())]);
    assert!(said.starts_with("HTTP/2 103 \r\nlink: </style.css>\r\n\r\nHTTP/2 200 \r\n"), "{said}");
    assert!(said.contains("page\n") && said.contains("x-sum: 42\r\n"), "{said}");
}

/// nghttp asks for two resources at once, with a dependency of one on the other, PRIORITY frames and padding.
#[test]
fn nghttp_gets_what_it_asks_for() {
    if !tools::require("nghttp") {
        return;
    }
    let origin = Origin::echo();
    let river = proxy(&origin);
    let url = |path: &str| format!("http://{}{path}", river.web());
    let said = client("nghttp", &["--padding=64", "-m", "3", &url("/a"), &url("/b")]);
    for line in ["GET /a\n", "GET /b\n"] {
        assert_eq!(said.matches(line).count(), 3, "{said}");
    }
    assert_eq!(origin.requests().len(), 6);
}

#[test]
fn nghttp_continues_a_large_head() {
    if !tools::require("nghttp") {
        return;
    }
    let origin = Origin::with(|request, reply| {
        let length: usize = request.fields.all("x-large").map(str::len).sum();
        reply.respond(200, &[], format!("{length}\n").as_bytes())
    });
    let river = proxy(&origin);
    let field = format!("x-large: {}", "y".repeat(1000));
    // With --continuation it sends a CONTINUATION frame, whatever the size.
    let url = format!("http://{}/", river.web());
    assert_eq!(client("nghttp", &["--continuation", "-H", &field, &url]), "1000\n");
}

#[test]
fn h2load_loses_nothing() {
    if !tools::require("h2load") {
        return;
    }
    let origin = Origin::builder().forgetful().start();
    let river = proxy(&origin);
    let url = format!("http://{}/load", river.web());
    let said = client("h2load", &["-n", "5000", "-c", "10", "-m", "20", "-t", "1", &url]);
    let expected = "5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(said.contains(expected), "{said}");
    assert!(said.contains("5000 2xx"), "{said}");
}
