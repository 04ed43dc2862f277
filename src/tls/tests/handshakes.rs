//! Both handshakes: who is let in, for how long, and what is said of the others.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::runtime::with_deadline;
use crate::tls::{Connector, Fault, HandshakeLimits, Identity, Roots, connect};

/// The certificate of one with the key of another.
fn identity(certificate: &Signed, key: &Signed) -> Result<Identity, Fault> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("cert.pem"), &certificate.certificate).unwrap();
    std::fs::write(path("key.pem"), &key.key).unwrap();
    Identity::read(&path("cert.pem"), &path("key.pem"))
}

/// What a server with `config` says of a handshake with `connector`, and what River says.
async fn met(
    handle: &Handle,
    config: ServerConfig,
    connector: &Connector,
) -> (Result<Vec<u8>, String>, Result<Box<TlsStream>, HandshakeError>) {
    let (stream, socket) = tcp(handle);
    let far = smol::unblock(move || {
        let mut server: Server = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
        let mut got = [0; 4];
        server.read_exact(&mut got).map_err(|error| error.to_string())?;
        server.write_all(b"pong").map_err(|error| error.to_string())?;
        Ok(got.to_vec())
    });
    let stream = connect(stream, connector, None, handle.buffers()).await;
    if let Ok(stream) = &stream {
        write_all(stream, b"ping").await.unwrap();
        // Where the server refuses the client, that is heard here.
        let _ = read(stream, &mut [0; 4]).await;
    }
    let stream = stream.inspect_err(|_| {});
    (far.await, stream)
}

#[test]
fn servers_are_believed_if_the_right_authority_vouches_for_the_right_name() {
    let (signed, other) = (signed("river.test"), signed("other.test"));
    for version in BOTH {
        run(async |handle: Handle| {
            let refused = async |name: &str, roots: Roots| {
                let connector = Connector::new(name, &roots, None, &[]).unwrap();
                let (server, river) = met(&handle, signed.server(&[version]), &connector).await;
                let refusal = river.expect_err("it was believed");
                assert!(matches!(refusal, HandshakeError::Refused(_)), "{refusal:?}");
                assert!(server.unwrap_err().contains("alert"), "the server was not told");
                refusal.to_string()
            };
            let unknown = refused("river.test", other.vouching()).await;
            assert!(unknown.contains("certificate") && unknown.contains("UnknownIssuer"), "{unknown}");
            let misnamed = refused("elsewhere.test", signed.vouching()).await;
            assert!(misnamed.contains("certificate") && misnamed.contains("elsewhere.test"), "{misnamed}");

            for (name, roots) in [("river.test", signed.vouching()), ("elsewhere.test", Roots::anyone())] {
                let connector = Connector::new(name, &roots, None, &[]).unwrap();
                let (server, river) = met(&handle, signed.server(&[version]), &connector).await;
                assert_eq!(server.unwrap(), b"ping");
                assert_eq!(river.unwrap().version(), Some(version.version));
            }
        });
    }
}

#[test]
fn the_second_connection_to_a_server_resumes_the_session_of_the_first() {
    let signed = signed("river.test");
    for version in BOTH {
        run(async |handle: Handle| {
            let roots = signed.vouching();
            let connector = Connector::new("river.test", &roots, None, &[]).unwrap();
            let config = signed.server(&[version]);
            for resumed in [false, true, true] {
                let (_, river) = met(&handle, config.clone(), &connector).await;
                assert_eq!(river.unwrap().is_resumed(), resumed, "{version:?}");
            }
        });
    }
}

#[test]
fn protocols_are_agreed_on_both_ways() {
    let signed = signed("river.test");
    run(async |handle: Handle| {
        let roots = signed.vouching();
        for (offered, agreed) in [
            (&[b"h2".as_slice(), b"http/1.1"][..], Some(b"h2".as_slice())),
            (&[b"http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ] {
            let connector = Connector::new("river.test", &roots, None, offered).unwrap();
            let mut config = signed.server(BOTH);
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let (_, river) = met(&handle, config, &connector).await;
            assert_eq!(river.unwrap().alpn(), agreed);
        }
    });
}

#[test]
fn river_shows_its_certificate_to_servers_that_ask_and_sees_that_of_its_clients() {
    let (signed, own) = (signed("river.test"), signed("client.test"));
    let strict = || {
        let verifier = WebPkiClientVerifier::builder_with_provider(own.roots(), provider()).build().unwrap();
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(BOTH).unwrap();
        builder.with_client_cert_verifier(verifier).with_single_cert(signed.chain(), signed.key()).unwrap()
    };
    run(async |handle: Handle| {
        let roots = signed.vouching();
        let own_identity = identity(&own, &own).unwrap();
        let connector = Connector::new("river.test", &roots, Some(&own_identity), &[]).unwrap();
        assert_eq!(met(&handle, strict(), &connector).await.0.unwrap(), b"ping");
        let nobody = Connector::new("river.test", &roots, None, &[]).unwrap();
        assert!(met(&handle, strict(), &nobody).await.0.is_err());
        assert!(identity(&own, &signed).is_err());

        // Both ends are River's here.
        let (server, client) = {
            let (near, far) = tcp(&handle);
            far.set_nonblocking(true).unwrap();
            (near, handle.stream(far.into()).unwrap())
        };
        let acceptor = Acceptor::new(Arc::new(strict()));
        let (server, client) = futures_lite::future::zip(accepted(&handle, server, &acceptor), async {
            let client = connect(client, &connector, None, handle.buffers()).await.unwrap();
            // What the client has to say last goes with its first words.
            write_all(&client, b"hello").await.unwrap();
            client
        })
        .await;
        let server = server.unwrap();
        assert_eq!(server.peer_certificate(), own.chain().pop());
        assert_eq!(client.peer_certificate(), signed.chain().pop());
    });
}

#[test]
fn a_client_that_stops_in_the_middle_is_in_nobodys_way() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let limits = HandshakeLimits { timeout: LIMIT, max_concurrent: 1 };
        let acceptor = Acceptor::with_limits(Arc::new(signed.server(BOTH)), limits);
        // One has sent the begin of a record, the other a whole greeting; nothing follows.
        let greeting = {
            let name = rustls::pki_types::ServerName::try_from("river.test").unwrap();
            let mut client = ClientConnection::new(Arc::new(signed.client(BOTH)), name).unwrap();
            let mut greeting = Vec::new();
            client.write_tls(&mut greeting).unwrap();
            greeting
        };
        for begin in [&[22, 3, 1][..], &greeting] {
            let (slow, mut socket) = tcp(&handle);
            socket.write_all(begin).unwrap();
            let mut slow = std::pin::pin!(accepted(&handle, slow, &acceptor));
            // It has begun, and comes first.
            for _ in 0..100 {
                assert!(futures_lite::future::poll_once(slow.as_mut()).await.is_none());
                futures_lite::future::yield_now().await;
            }
            let (quick, other) = tcp(&handle);
            let peer = Arc::clone(&signed);
            let client = smol::unblock(move || {
                let mut client = peer.blocking(other, &rustls::version::TLS13);
                client.write_all(b"in").unwrap();
                client.flush().unwrap();
                client
            });
            let second = async {
                accepted(&handle, quick, &acceptor).await.unwrap();
                drop(socket);
            };
            let (refusal, ()) = futures_lite::future::zip(slow, second).await;
            let refusal = refusal.unwrap_err();
            assert!(matches!(refusal, HandshakeError::Closed | HandshakeError::Connection(_)), "{refusal:?}");
            client.await;
        }
    });
}

#[test]
fn silent_clients_take_no_turn_and_are_let_go_of_in_time() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let limits = HandshakeLimits { timeout: Duration::from_millis(200), max_concurrent: 1 };
        let acceptor = Acceptor::with_limits(Arc::new(signed.server(BOTH)), limits);
        let (silent, _socket) = tcp(&handle);
        let (speaking, socket) = tcp(&handle);
        let waiting = accepted(&handle, silent, &acceptor);
        let patient =
            Acceptor::with_limits(acceptor.server_config(), HandshakeLimits { timeout: LIMIT, ..limits });
        let client = smol::unblock(move || {
            let mut client = signed.blocking(socket, &rustls::version::TLS13);
            client.write_all(b"in").unwrap();
            client.flush().unwrap();
            client
        });
        let (silent, speaking) =
            futures_lite::future::zip(waiting, accepted(&handle, speaking, &patient)).await;
        speaking.unwrap();
        assert!(matches!(silent, Err(HandshakeError::TimedOut("the client's first byte"))), "{silent:?}");
        client.await;

        // So is one that stops in the middle.
        let (slow, mut socket) = tcp(&handle);
        socket.write_all(&[22, 3, 1, 0, 200, 1]).unwrap();
        let slow = accepted(&handle, slow, &acceptor).await;
        assert!(matches!(slow, Err(HandshakeError::TimedOut("the client"))), "{slow:?}");
        let (next, socket) = tcp(&handle);
        drop(socket);
        let deadline = handle.deadline(LIMIT);
        let next = with_deadline(&handle.timer(), deadline, accepted(&handle, next, &patient)).await.unwrap();
        assert!(matches!(next, Err(HandshakeError::Silent)), "{next:?}");
    });
}

#[test]
fn who_speaks_plain_http_is_told_from_who_speaks_nonsense() {
    let signed = signed("river.test");
    run(async |handle: Handle| {
        let acceptor = Acceptor::new(Arc::new(signed.server(BOTH)));
        let (stream, mut socket) = tcp(&handle);
        socket.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        match accept(stream, &acceptor, &handle, &handle.timer()).await {
            Ok(Accepted::Plain(_, received)) => assert_eq!(received.unread(), b"GET / HTTP/1.1\r\n"),
            other => panic!("{other:?}"),
        }
        for nonsense in [
            b"\x80\x2e\x01\x00\x02 nonsense".as_slice(),
            b"\x16\x03\x01\xff\xff\x01\x00",
            b"\x16\x09\x09\x00\x01\x00",
        ] {
            let (stream, mut socket) = tcp(&handle);
            socket.write_all(nonsense).unwrap();
            let refusal = accepted(&handle, stream, &acceptor).await.unwrap_err();
            assert!(matches!(refusal, HandshakeError::Refused(_)), "{refusal:?}");
            let mut told = Vec::new();
            let _ = socket.read_to_end(&mut told);
            // A fatal alert, if it was told anything.
            assert!(told.is_empty() || told.starts_with(&[21, 3]), "{told:?}");
        }
    });
}
