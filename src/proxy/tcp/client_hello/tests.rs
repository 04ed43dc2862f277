//! ClientHellos that rustls made, whole and in pieces, and broken ones.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What a client of rustls sends first.
fn hello(name: &str, alpn: &[Vec<u8>]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.to_vec();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    assert!(!client.wants_write());
    bytes
}

fn read(bytes: &[u8]) -> Option<Hello> {
    ClientHello::default().feed(bytes)
}

/// The same handshake message in records of other lengths.
fn in_records(hello: &[u8], lengths: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut message = &hello[RECORD_HEADER..];
    let mut records = Vec::new();
    for length in lengths {
        let (piece, rest) = message.split_at(length.clamp(1, message.len()));
        records.extend([HANDSHAKE, 3, 1]);
        records.extend((piece.len() as u16).to_be_bytes());
        records.extend_from_slice(piece);
        message = rest;
        if message.is_empty() {
            break;
        }
    }
    assert!(message.is_empty());
    records
}

/// A ClientHello in one record, with these extensions.
fn with_extensions(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (kind, content) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((content.len() as u16).to_be_bytes());
        all.extend_from_slice(content);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((all.len() as u16).to_be_bytes());
    body.extend(all);
    in_one_record(&body)
}

fn in_one_record(body: &[u8]) -> Vec<u8> {
    let mut message = vec![CLIENT_HELLO];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend_from_slice(body);
    let mut record = vec![HANDSHAKE, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend_from_slice(name);
    }
    [&(list.len() as u16).to_be_bytes()[..], &list].concat()
}

#[test]
fn the_name_is_found_in_what_rustls_sends() {
    let bytes = hello("DB.example", &[b"postgresql".to_vec()]);
    assert_eq!(read(&bytes), Some(Hello::Named("db.example".to_owned())));
    // An address is no name, and is left out (RFC 6066 §3).
    assert_eq!(read(&hello("127.0.0.1", &[])), Some(Hello::Nameless));
}

#[test]
fn what_comes_behind_does_not_matter() {
    let mut bytes = hello("a.example", &[]);
    bytes.extend_from_slice(b"\x14\x03\x03\x00\x01\x01 and more");
    assert_eq!(read(&bytes), Some(Hello::Named("a.example".to_owned())));
}

#[test]
fn every_begin_of_it_needs_more() {
    let bytes = hello("a.example", &[]);
    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]), None, "{length} of {}", bytes.len());
    }
}

#[test]
fn records_of_one_byte_each_are_put_together() {
    let bytes = in_records(&hello("a.example", &[]), std::iter::repeat(1));
    let mut reader = ClientHello::default();
    let answers: Vec<_> = bytes.iter().map(|byte| reader.feed(&[*byte])).collect();
    let (last, before) = answers.split_last().unwrap();
    assert_eq!(*last, Some(Hello::Named("a.example".to_owned())));
    assert!(before.iter().all(Option::is_none));
}

#[test]
fn a_name_is_compared_without_the_dot_at_its_end() {
    let bytes = with_extensions(&[(0, &names(&[(0, b"Db.Example.")]))]);
    assert_eq!(read(&bytes), Some(Hello::Named("db.example".to_owned())));
}

#[test]
fn without_the_extension_there_is_no_name() {
    assert_eq!(read(&with_extensions(&[(43, &[2, 3, 4])])), Some(Hello::Nameless));
    assert_eq!(read(&with_extensions(&[])), Some(Hello::Nameless));
    // TLS 1.2 without any extensions.
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    assert_eq!(read(&in_one_record(&body)), Some(Hello::Nameless));
}

#[test]
fn names_of_other_types_are_passed_over() {
    let bytes = with_extensions(&[(0, &names(&[(9, b"\xff\x00"), (0, b"a")]))]);
    assert_eq!(read(&bytes), Some(Hello::Named("a".to_owned())));
    assert_eq!(read(&with_extensions(&[(0, &names(&[(9, b"a")]))])), Some(Hello::Nameless));
}

#[test]
fn what_two_could_read_differently_is_malformed() {
    let one = names(&[(0, b"a.example")]);
    let malformed = |bytes: Vec<u8>| match read(&bytes) {
        Some(Hello::Malformed(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(malformed(with_extensions(&[(0, &one), (0, &one)])), "the ClientHello names the server twice");
    let twice = names(&[(0, b"a"), (0, b"b")]);
    assert_eq!(malformed(with_extensions(&[(0, &twice)])), "the ClientHello names the server twice");
    for name in
        [&b""[..], b"a\0.example", b"a b", "\u{e4}".as_bytes(), b".", b"a..", b".a", b"a..b", &[b'a'; 256]]
    {
        let bytes = with_extensions(&[(0, &names(&[(0, name)]))]);
        assert_eq!(malformed(bytes), "the server name is no name of a host", "{name:?}");
    }
    // An empty list, a list that says it is longer than it is, and bytes behind it.
    for content in [&[0, 0][..], &[0, 9, 0, 0, 1, b'a'], &[0, 4, 0, 0, 1, b'a', 7], &[]] {
        assert_eq!(malformed(with_extensions(&[(0, content)])), BROKEN, "{content:?}");
    }
    let mut behind = with_extensions(&[]);
    behind.extend([0, 0]);
    behind[4] += 2;
    behind[8] += 2;
    assert_eq!(malformed(behind), "the ClientHello goes on behind its extensions");
}

#[test]
fn something_else_than_tls_is_told_by_its_first_byte() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0", b"\x80\x2e\x01\x03\x01", b"\0\0\0\x08\x04\xd2\x16\x2f"]
    {
        assert_eq!(read(&bytes[..1]), Some(Hello::NotTls));
        assert_eq!(read(bytes), Some(Hello::NotTls));
    }
}

#[test]
fn broken_records_are_told_by_their_headers() {
    let cases = [
        (&[22, 2, 1, 0, 9][..], "the version of a record is wrong"),
        (&[22, 3, 1, 0, 0], "the length of a record is wrong"),
        (&[22, 3, 1, 0x40, 1], "the length of a record is wrong"),
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0], "the first handshake message is no ClientHello"),
        (&[22, 3, 1, 0, 4, 1, 0, 0x40, 0], "the ClientHello is too long"),
        (&[22, 3, 1, 0, 2, 1, 0, 21, 3, 1, 0, 2], "a record within the ClientHello is of another type"),
    ];
    for (bytes, why) in cases {
        assert_eq!(read(bytes), Some(Hello::Malformed(why)), "{bytes:?}");
        assert_eq!(read(&bytes[..bytes.len() - 1]), None, "{bytes:?}");
    }
}

#[test]
fn what_never_becomes_whole_is_given_up_at_the_limit() {
    // A message of 4,000 bytes in records of one byte each is within the limits of both, but takes six times as many.
    let padding = vec![0; 4_000];
    let bytes = in_records(&with_extensions(&[(21, &padding)]), std::iter::repeat(1));
    assert!(bytes.len() > MAX_CLIENT_HELLO);
    let mut reader = ClientHello::default();
    assert_eq!(reader.feed(&bytes[..MAX_CLIENT_HELLO]), None);
    let answer = reader.feed(&bytes[MAX_CLIENT_HELLO..]);
    assert_eq!(answer, Some(Hello::Malformed("the ClientHello is too long")));
    assert!(reader.message.capacity() <= 2 * MAX_CLIENT_HELLO);
    // One that just fits is read.
    let room = MAX_CLIENT_HELLO - with_extensions(&[(21, &[])]).len();
    let bytes = with_extensions(&[(21, &vec![0; room])]);
    assert_eq!(bytes.len(), MAX_CLIENT_HELLO);
    assert_eq!(read(&bytes), Some(Hello::Nameless));
}

proptest! {
    #[test]
    fn pieces_and_records_change_nothing(
        records in prop::collection::vec(1_usize..400, 0..8),
        pieces in prop::collection::vec(1_usize..300, 1..20),
        protocols in prop::collection::vec(prop::collection::vec(1_u8.., 1..40), 0..12),
    ) {
        let plain = hello("some.name.example", &protocols);
        let bytes = in_records(&plain, records.into_iter().chain([usize::MAX]));
        let mut reader = ClientHello::default();
        let mut answer = None;
        let mut rest = &bytes[..];
        for length in pieces.into_iter().cycle() {
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            answer = reader.feed(piece);
            rest = behind;
            if answer.is_some() || rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(answer, Some(Hello::Named("some.name.example".to_owned())));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_changed_byte_brings_no_panic(at in 0_usize..2_000, byte in any::<u8>(), length in 0_usize..2_000) {
        let mut bytes = hello("some.name.example", &[]);
        let count = bytes.len();
        bytes[at % count] = byte;
        read(&bytes[..length.min(count)]);
        read(&bytes);
    }
}
