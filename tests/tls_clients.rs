//! Real clients over TLS, where the machine has them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers fail by panicking")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use support::tls::{Authority, NAME};
use support::{Config, Dir, Origin, River, Running, config, tools};

/// River with a service `web` on TLS in front of `origin`; `ca.pem` is there.
fn serve(origin: &Origin) -> (Arc<Dir>, Running) {
    let (authority, dir) = (Authority::new("authority"), Dir::new());
    authority.sign(NAME).write(dir.path(), "site");
    std::fs::write(dir.join("ca.pem"), authority.pem()).unwrap();
    let listener = "(bind: \"127.0.0.1:0\", tls: (certificates: [(cert: \"site.pem\", key: \"site.key\")]))";
    let connectors = config::connectors(&[origin.target().clone()]);
    let config = Config::new().service_text("web", &format!("listeners: [{listener}], {connectors}"));
    let river = River::in_dir(dir.clone()).config(config).serve();
    (dir, river)
}

/// Runs a program in the directory with `ca.pem`, and returns whether it is content and what it has said.
fn ask(dir: &Dir, program: &str, arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn curl(dir: &Dir, river: &Running, arguments: &[&str], input: &[u8]) -> String {
    let resolve = format!("{NAME}:{}:127.0.0.1", river.web().port());
    let mut all = support::curl::ALWAYS.to_vec();
    all.extend(["--cacert", "ca.pem", "--resolve", &resolve]);
    all.extend(arguments);
    let (content, said) = ask(dir, "curl", &all, input);
    assert!(content, "curl {arguments:?}: {said}");
    said
}

#[test]
fn curl_keeps_its_connection_in_both_versions() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::echo();
    let (dir, river) = serve(&origin);
    let url = |path: &str| format!("https://{NAME}:{}{path}", river.web().port());
    for version in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let mut arguments = version.to_vec();
        let (one, two) = (url("/a"), url("/b"));
        arguments.extend([
            "--http1.1",
            "-w",
            "%{num_connects} %{http_version} %{ssl_verify_result}\n",
            &one,
            &two,
        ]);
        assert_eq!(curl(&dir, &river, &arguments, b""), "GET /a\n1 1.1 0\nGET /b\n0 1.1 0\n");
    }
}

#[test]
fn curl_uploads_and_reads_until_the_end() {
    if !tools::require("curl") {
        return;
    }
    let origin = Origin::builder()
        .answer(|request, reply| {
            reply.head(200, &[("x-length", &request.body.len().to_string())])?;
            reply.raw(&request.body)?;
            reply.close();
            Ok(())
        })
        .start();
    let (dir, river) = serve(&origin);
    let url = format!("https://{NAME}:{}/up", river.web().port());
    let body = vec![b'u'; 300_000];
    std::fs::write(dir.join("body"), &body).unwrap();
    // To HTTP/1.0 the body ends with the connection, and curl fails where that has no close_notify.
    for version in ["--http1.0", "--http1.1"] {
        let arguments = [version, "--data-binary", "@body", "-H", "Expect:", &*url];
        let said = curl(&dir, &river, &arguments, b"");
        assert!(said.as_bytes() == body, "{version}: {} bytes", said.len());
    }
}

#[test]
fn curl_reads_slowly_in_both_protocols() {
    if !tools::require("curl") {
        return;
    }
    let body: Vec<u8> = (0..6_000_000).map(|at: usize| b'a' + ((at / 7 + at / 251) % 26) as u8).collect();
    let sent = body.clone();
    let origin = Origin::with(move |_, reply| reply.respond(200, &[], &sent));
    let (dir, river) = serve(&origin);
    let url = format!("https://{NAME}:{}/", river.web().port());
    for (version, name) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let said = curl(&dir, &river, &[version, "--limit-rate", "3M", "-w", " %{http_version}", &url], b"");
        let (got, spoken) = said.rsplit_once(' ').unwrap();
        assert!(got.as_bytes() == body, "{version}: {} bytes", got.len());
        assert_eq!(spoken, name);
    }
}

#[test]
fn openssl_resumes_its_session_and_sees_an_end_in_order() {
    if !tools::require("openssl") {
        return;
    }
    let origin = Origin::echo();
    let (dir, river) = serve(&origin);
    let connect = river.web().to_string();
    let request = format!("GET / HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
    for version in ["-tls1_2", "-tls1_3"] {
        let client = |session: [&str; 2]| {
            let mut arguments =
                vec!["s_client", "-connect", &connect, "-servername", NAME, "-CAfile", "ca.pem"];
            arguments.extend(["-ign_eof", version]);
            arguments.extend(session);
            let (content, said) = ask(&dir, "openssl", &arguments, request.as_bytes());
            assert!(content && said.contains("GET /") && said.contains("Verify return code: 0"), "{said}");
            assert!(!said.contains("unexpected eof"), "{said}");
            said
        };
        assert!(client(["-sess_out", "session.pem"]).contains("New, TLS"), "{version}");
        assert!(client(["-sess_in", "session.pem"]).contains("Reused, TLS"), "{version}");
    }
}
