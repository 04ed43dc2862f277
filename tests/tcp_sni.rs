//! Tcp services that choose a server by the name in a TLS ClientHello, without ending TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use support::log::field;
use support::*;

/// The configuration of a TLS client that trusts `roots`.
fn client_config(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(versions.unwrap().with_root_certificates(roots).with_no_client_auth())
}

/// What a TLS client sends first to a server of this name.
fn hello(name: &str) -> Vec<u8> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client_config(RootCertStore::empty()), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A service whose servers have the names given; none are for all other clients.
fn service(servers: &[(SocketAddr, &[&str])]) -> Config {
    let server = |(addr, names): &(SocketAddr, &[&str])| match names {
        [] => format!("(addr: \"{addr}\")"),
        names => format!("(addr: \"{addr}\", sni: {names:?})"),
    };
    let servers: Vec<String> = servers.iter().map(server).collect();
    let tcp = format!("tcp: (servers: [{}])", servers.join(", "));
    Config::new().system("workers: 1").service("web", &["127.0.0.1:0"], &tcp)
}

/// What the server says that a client with this begin comes to; everything has to come back.
fn answer(river: &Running, begin: &[u8]) -> String {
    let mut conn = Conn::open(river.web());
    conn.send(begin);
    let name = conn.reader().exactly(1).unwrap();
    assert!(conn.reader().exactly(begin.len()).unwrap() == begin, "what was read to choose is changed");
    conn.send("and more");
    assert_eq!(conn.reader().exactly(8).unwrap(), b"and more");
    String::from_utf8(name).unwrap()
}

#[test]
fn the_name_chooses_the_server() {
    let origins = ["a", "b", "c", "d"].map(BytesOrigin::named);
    let [a, b, c, d] = origins.each_ref().map(BytesOrigin::address);
    let river = River::with_config(service(&[
        (a, &["db.example", "other.example"]),
        (b, &["*.db.example"]),
        (c, &["one.db.example"]),
        (d, &[]),
    ]))
    .serve();
    let cases = [
        ("db.example", "a"),
        ("OTHER.example", "a"),
        ("two.db.example", "b"),
        ("one.db.example", "c"),
        ("a.two.db.example", "d"),
        ("example", "d"),
        // No name is sent of an address.
        ("127.0.0.1", "d"),
    ];
    for (name, server) in cases {
        assert_eq!(answer(&river, &hello(name)), server, "{name}");
    }
    for begin in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x08\x04\xd2\x16\x2f", b"\x80"] {
        assert_eq!(answer(&river, begin), "d");
    }
    let line = river.wait_for_line("sni=\"two.db.example\"", PATIENCE).text;
    assert_eq!(field(&line, "upstream"), Some(b.to_string()), "{line}");
}

#[test]
fn a_name_of_several_servers_has_them_take_turns() {
    let origins = ["a", "b"].map(BytesOrigin::named);
    let [a, b] = origins.each_ref().map(BytesOrigin::address);
    let refusing = support::origin::refusing();
    let river =
        River::with_config(service(&[(a, &["x.example"]), (b, &["x.example"]), (refusing, &["x.example"])]))
            .serve();
    let said: String = (0..6).map(|_| answer(&river, &hello("x.example"))).collect();
    assert!(said.contains('a') && said.contains('b'), "{said}");
}

#[test]
fn a_hello_in_many_pieces_and_records_is_put_together() {
    let origins = ["a", "b"].map(BytesOrigin::named);
    let [a, b] = origins.each_ref().map(BytesOrigin::address);
    let river = River::with_config(service(&[(a, &["x.example"]), (b, &[])])).serve();
    let whole = hello("x.example");
    // One record for every few bytes of the message, and a packet for each record.
    let records: Vec<Vec<u8>> =
        whole[5..].chunks(7).map(|piece| [&[22, 3, 1, 0, piece.len() as u8], piece].concat()).collect();
    let mut conn = Conn::open(river.web());
    for record in &records {
        let (head, rest) = record.split_at(3);
        conn.send(head);
        std::thread::yield_now();
        conn.send(rest);
    }
    assert_eq!(conn.reader().exactly(1).unwrap(), b"a");
    let all = records.concat();
    assert!(conn.reader().exactly(all.len()).unwrap() == all);
}

#[test]
fn without_a_server_for_it_a_client_is_closed_and_the_log_says_why() {
    let origin = BytesOrigin::named("a");
    let river = River::with_config(
        service(&[(origin.address(), &["x.example"])]).with("timeouts: (head: \"300ms\")"),
    )
    .serve();
    let closed = |begin: &[u8], why: &str| {
        let mark = river.mark();
        let mut conn = Conn::open(river.web());
        conn.send(begin);
        conn.expect_gone_within(PATIENCE);
        let line = river.wait_line_after(mark, "connection failed").text;
        assert_eq!(field(&line, "blame").as_deref(), Some("downstream"), "{line}");
        assert_eq!(field(&line, "why").as_deref(), Some(why), "{line}");
    };
    closed(&hello("y.example"), "there is no server of the name that the client gives");
    closed(&hello("127.0.0.1"), "the client names no server, and there is none for such clients");
    closed(b"hello", "the client does not begin with TLS, and there is no server for such clients");
    closed(b"\x16\x03\x01\0\0", "the length of a record is wrong");
    let whole = hello("x.example");
    closed(&whole[..whole.len() - 1], "the client sent no ClientHello within the head time-out");
    closed(b"", "the client sent no ClientHello within the head time-out");
    let mut large = vec![22, 3, 1, 0x40, 0, 1, 0, 0x40, 0];
    large.resize(20_000, 0);
    closed(&large, "the ClientHello is too long");
    let mark = river.mark();
    let mut conn = Conn::open(river.web());
    conn.send(&whole[..20]);
    conn.finish();
    conn.expect_closed();
    let line = river.wait_line_after(mark, "connection failed").text;
    assert!(line.contains("the client ended within its ClientHello"), "{line}");
    assert_eq!(origin.connections(), 0);
    assert_eq!(answer(&river, &whole), "a");
}

/// A TLS server with a certificate for `name`, which says its name to whom it has shaken hands with.
fn tls_server(name: &'static str) -> (BytesOrigin, RootCertStore) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let origin = BytesOrigin::with(move |socket| {
        let mut tls = ServerConnection::new(config.clone()).unwrap();
        let mut socket = &*socket;
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        stream.write_all(name.as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (origin, roots)
}

#[test]
fn tls_is_between_the_client_and_the_server() {
    let (one, one_roots) = tls_server("one.example");
    let (two, two_roots) = tls_server("two.example");
    let river =
        River::with_config(service(&[(one.address(), &["one.example"]), (two.address(), &["*.example"])]))
            .serve();
    for (name, roots) in [("one.example", one_roots), ("two.example", two_roots)] {
        let server = ServerName::try_from(name).unwrap();
        let mut tls = ClientConnection::new(client_config(roots), server).unwrap();
        let conn = Conn::open(river.web());
        let mut socket = conn.socket();
        let mut said = String::new();
        rustls::Stream::new(&mut tls, &mut socket).read_to_string(&mut said).unwrap();
        assert_eq!(said, name);
    }
}

#[test]
fn a_client_that_says_nothing_and_leaves_is_noted() {
    let origin = BytesOrigin::named("a");
    let river = River::with_config(service(&[(origin.address(), &["x.example"])])).serve();
    let mut conn = Conn::open(river.web());
    conn.finish();
    conn.expect_closed_within(Duration::from_secs(5));
    let line = river.wait_for_line("connection ended", PATIENCE).text;
    assert_eq!(field(&line, "why").as_deref(), Some("the client sent nothing"), "{line}");
}
