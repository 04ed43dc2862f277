//! How much memory a process takes, and each connection that has nothing to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use support::h2;
use support::h2_frames::{ACK, DATA, END_HEADERS, END_STREAM, HEADERS, SETTINGS, WINDOW_UPDATE};
use support::proc::{anonymous, resident};
use support::*;

/// Connections whose memory is taken together.
const IDLE: usize = 2000;

/// Connections before those, which make the process put up what it keeps in any case.
const FIRST: usize = 64;

/// What a large response holds, in bytes.
const LARGE: usize = 64 << 10;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Asks and reads the whole answer.
fn converse(stream: &mut (impl Read + Write)) {
    stream
        .write_all(b"GET /idle HTTP/1.1\r\nhost: localhost\r\nuser-agent: curl/8.5.0\r\naccept: */*\r\n\r\n")
        .unwrap();
    let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"GET /idle\n") {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&answer));
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length, &[kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// Asks in HTTP/2 and returns the body of the answer. What the request says goes into the compression's table.
fn converse_h2(stream: &mut (impl Read + Write), path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87];
    let fields = [(0x44, path), (0x41, "localhost"), (0x7a, "curl/8.5.0"), (0x53, "*/*")];
    for (index, value) in fields {
        block.extend([index, u8::try_from(value.len()).unwrap()]);
        block.extend_from_slice(value.as_bytes());
    }
    let mut asked = h2::PREFACE.to_vec();
    // Windows of 1 MiB.
    asked.extend_from_slice(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0x10, 0, 0]));
    asked.extend_from_slice(&frame(WINDOW_UPDATE, 0, 0, &[0, 0x10, 0, 0]));
    asked.extend_from_slice(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    stream.write_all(&asked).unwrap();
    let mut body = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).unwrap();
        let [_, _, _, kind, flags, ..] = head;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, b"")).unwrap(),
            HEADERS => assert_eq!(payload.first(), Some(&0x88), "not 200: {payload:02x?}"),
            DATA => body.extend_from_slice(&payload),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return body;
        }
    }
}

/// A connection that had its first answer and stays.
fn settled(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, large: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match tls {
        None => converse(&mut stream),
        Some(config) => {
            let name = ServerName::try_from("localhost").unwrap();
            let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
            let speaks_h2 = !config.alpn_protocols.is_empty();
            let mut stream = rustls::Stream::new(&mut client, &mut stream);
            if large {
                assert_eq!(converse_h2(&mut stream, "/large").len(), LARGE);
            } else if speaks_h2 {
                assert_eq!(converse_h2(&mut stream, "/idle"), b"GET /idle\n");
            } else {
                converse(&mut stream);
            }
        }
    }
    stream
}

/// Waits until the process's memory of its own stays what it is, and returns its bytes.
fn at_rest(river: &Running) -> usize {
    let mut last = usize::MAX;
    until("memory stays what it is", PATIENCE, || {
        let now = anonymous(river.pid());
        let same = now == last;
        last = now;
        // Not a wait for an event: nothing tells that a process allocates no more.
        std::thread::park_timeout(Duration::from_millis(50));
        same
    });
    last * KIB
}

/// Bytes of the process's own memory for each of many connections that are idle after their first request.
fn each_idle(river: &Running, tls: Option<&Arc<ClientConfig>>, large: bool) -> usize {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let first: Vec<_> = (0..FIRST).map(|_| settled(river.web(), tls, large)).collect();
    let before = at_rest(river);
    let idle: Vec<_> = (0..IDLE).map(|_| settled(river.web(), tls, large)).collect();
    let after = at_rest(river);
    let each = after.saturating_sub(before) / IDLE;
    println!("{each} bytes for each of {IDLE} idle connections ({before} before, {after} after)");
    // They are still there. What TLS has sent unasked may lie unread.
    for stream in first.iter().chain(&idle) {
        stream.set_nonblocking(true).unwrap();
        match stream.peek(&mut [0]) {
            Ok(0) => panic!("a connection was closed meanwhile"),
            Ok(_) => assert!(tls.is_some(), "something came unasked"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!(after > before, "the memory of {IDLE} connections cannot be nothing");
    each
}

#[test]
fn an_idle_connection_takes_two_kib_at_most() {
    let origin = Origin::echo();
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let each = each_idle(&river, None, false);
    assert!(each <= 2 * KIB, "{each} bytes for each idle connection");
}

/// A service with TLS, and a client that trusts it and speaks these protocols.
fn over_tls(protocols: &[&[u8]]) -> (Running, Origin, Arc<ClientConfig>) {
    let origin = Origin::with(|request, reply| match &*request.target {
        "/large" => reply.respond(200, &[], &vec![b'x'; LARGE]),
        target => reply.respond(200, &[], format!("{} {target}\n", request.method).as_bytes()),
    });
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = Dir::new();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let service = format!(
        "listeners: [(bind: \"127.0.0.1:0\", tls: (certificates: [(cert: \"cert.pem\", key: \"key.pem\")]))], \
         connectors: (servers: [(addr: \"{}\")])",
        origin.address()
    );
    let config = Config::new().system("workers: 1").service_text("web", &service);
    let river = River::in_dir(dir).config(config).serve();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    (river, origin, Arc::new(client))
}

#[test]
fn an_idle_connection_over_tls_takes_24_kib_at_most() {
    let (river, _origin, client) = over_tls(&[]);
    let each = each_idle(&river, Some(&client), false);
    assert!(each <= 24 * KIB, "{each} bytes for each idle connection");
}

/// 28 KiB of address space are buffers of the `h2` crate, which it allocates at once and never gives back. Of those, the
/// pages are bounded that nobody has written to.
#[test]
fn an_idle_connection_in_http_2_over_tls_takes_28_kib_at_most() {
    let (river, _origin, client) = over_tls(&[b"h2"]);
    let each = each_idle(&river, Some(&client), false);
    assert!(each <= 28 * KIB, "{each} bytes for each idle connection");
}

#[test]
fn what_a_large_response_in_http_2_took_is_given_back() {
    let (river, _origin, client) = over_tls(&[b"h2"]);
    let each = each_idle(&river, Some(&client), true);
    assert!(each <= 40 * KIB, "{each} bytes for each idle connection");
}

/// The bound is for what is installed. A debug build's code is several times as large, so it has another.
#[test]
fn a_fresh_process_takes_twelve_mib_at_most() {
    let origin = Origin::echo();
    let river = River::with_config(Config::proxy(&origin).system("workers: 1")).serve();
    let resident = resident(river.pid()) * KIB;
    println!("a fresh process has {resident} bytes resident, {} of its own", anonymous(river.pid()) * KIB);
    assert!(resident > 0);
    let most = if cfg!(debug_assertions) { 24 * MIB } else { 12 * MIB };
    assert!(resident <= most, "a fresh process has {resident} bytes resident");
}
