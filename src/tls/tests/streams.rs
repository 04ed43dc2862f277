//! Streams against rustls's blocking connections: bytes, ends, waits.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::ServerConnection;
use rustls::version::TLS13;

use super::*;
use crate::tls::{Connector, connect};

fn poll_once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// River as the server of a blocking client of this version, which `far` goes on with before its handshake.
async fn serve_client<T: Send + 'static>(
    handle: &Handle,
    signed: &Arc<Signed>,
    version: &'static SupportedProtocolVersion,
    far: impl FnOnce(Client) -> T + Send + 'static,
) -> (Box<TlsStream>, smol::Task<T>) {
    let acceptor = Acceptor::new(Arc::new(signed.server(BOTH)));
    let signed = Arc::clone(signed);
    serve(handle, &acceptor, move |socket| far(signed.blocking(socket, version))).await
}

/// Writes `bytes` over and over until the kernel takes no more; how many that was. Every so many writes a task has to
/// give way.
async fn fill(stream: &TlsStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while let Poll::Ready(count) = poll_once(|cx| stream.poll_write(cx, bytes)) {
        sent += count.unwrap();
        futures_lite::future::yield_now().await;
    }
    sent
}

#[test]
fn bytes_come_and_go_whole_in_both_versions_whatever_the_readers_space() {
    let signed = Arc::new(signed("river.test"));
    for version in BOTH {
        for step in [1, 7, 1_000, 8 << 10, 20_000, 64 << 10] {
            let length = if step == 1 { 40_000 } else { 300_000 };
            run(async |handle: Handle| {
                let (stream, far) = serve_client(&handle, &signed, version, move |mut client| {
                    client.write_all(&noise(length)).unwrap();
                    client.conn.send_close_notify();
                    client.flush().unwrap();
                    let mut back = Vec::new();
                    client.read_to_end(&mut back).unwrap();
                    back
                })
                .await;
                assert_eq!(stream.version(), Some(version.version));
                let (all, end) = read_to_end(&stream, step).await;
                end.unwrap();
                assert!(all == noise(length), "{} bytes came", all.len());
                assert_eq!(read(&stream, &mut [0]).await.unwrap(), 0, "the end stays the end");
                write_all(&stream, &all).await.unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                assert!(far.await == all);
            });
        }
    }
}

#[test]
fn an_end_without_a_close_notify_is_no_end_in_order() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            client.write_all(b"half of it").unwrap();
            client.flush().unwrap();
        })
        .await;
        far.await;
        let (all, end) = read_to_end(&stream, 100).await;
        assert_eq!(all, b"half of it");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(read(&stream, &mut [0]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert!(stream.is_stale());
    });
}

#[test]
fn a_client_hears_of_an_end_in_order_and_of_one_that_is_none() {
    let signed = Arc::new(signed("river.test"));
    for in_order in [true, false] {
        let end = run(async |handle: Handle| {
            let (stream, far) = serve_client(&handle, &signed, &TLS13, |mut client| {
                client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
            })
            .await;
            write_all(&stream, b"all of it").await.unwrap();
            if in_order {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            drop(stream);
            far.await
        });
        assert_eq!(end, if in_order { Ok(9) } else { Err(ErrorKind::UnexpectedEof) });
    }
}

#[test]
fn keys_are_updated_while_bytes_go_both_ways() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            let mut back = vec![0; 1_000];
            for _ in 0..20 {
                client.write_all(&noise(1_000)).unwrap();
                client.conn.refresh_traffic_keys().unwrap();
                client.write_all(&noise(500)).unwrap();
                client.flush().unwrap();
                client.read_exact(&mut back).unwrap();
                assert!(back == noise(1_000));
            }
        })
        .await;
        let mut buf = vec![0; 1_500];
        for _ in 0..20 {
            let mut filled = 0;
            while filled < buf.len() {
                filled += read(&stream, &mut buf[filled..]).await.unwrap();
            }
            assert!(buf[..1_000] == noise(1_000) && buf[1_000..] == noise(500));
            write_all(&stream, &buf[..1_000]).await.unwrap();
        }
        far.await;
    });
}

#[test]
fn what_is_no_tls_is_an_error_and_the_peer_is_told() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            client.write_all(b"begin").unwrap();
            // A record that nobody has encrypted.
            client
                .sock
                .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
                .unwrap();
            client.read_to_end(&mut Vec::new()).unwrap_err().to_string()
        })
        .await;
        let (all, end) = read_to_end(&stream, 100).await;
        assert_eq!(all, b"begin");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(&stream, &mut [0]).await.unwrap_err().kind(), ErrorKind::InvalidData);
        drop(stream);
        let told = far.await;
        assert!(told.contains("BadRecordMac") || told.contains("bad_record_mac"), "{told}");
    });
}

#[test]
fn a_pending_write_goes_on_with_its_own_bytes_only() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            client.write_all(b"x").unwrap();
            client.flush().unwrap();
            begun.recv().unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        })
        .await;
        read(&stream, &mut [0]).await.unwrap();
        let bytes = noise(16 << 20);
        let mut sent = 0;
        loop {
            match poll_once(|cx| stream.poll_write(cx, &bytes[sent..])) {
                Poll::Ready(count) => sent += count.unwrap(),
                // Every so many writes a task has to give way.
                Poll::Pending if sent < 1 << 20 => futures_lite::future::yield_now().await,
                Poll::Pending => break,
            }
        }
        let other = poll_once(|cx| stream.poll_write(cx, b"something else, and shorter"));
        let Poll::Ready(Err(error)) = other else { panic!("another write was taken: {other:?}") };
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        // Its own bytes may come in other slices, and with more behind them.
        let (one, two) = bytes[sent..].split_at(10);
        assert!(
            poll_once(|cx| stream.poll_write_vectored(cx, &[IoSlice::new(one), IoSlice::new(two)]))
                .is_pending()
        );
        begin.send(()).unwrap();
        // Nor do they have to come all at once: what was sent already is only told of then.
        for step in [1, 3, 16_000, 370, 8, 7, 5] {
            write_all(&stream, &bytes[sent..sent + step]).await.unwrap();
            sent += step;
        }
        write_all(&stream, &bytes[sent..]).await.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(far.await == bytes);
    });
}

#[test]
fn an_end_that_waits_for_room_is_sent_while_somebody_reads() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            client.write_all(b"x").unwrap();
            client.flush().unwrap();
            begun.recv().unwrap();
            let mut all = Vec::new();
            let end = client.read_to_end(&mut all).map_err(|error| error.kind());
            client.conn.send_close_notify();
            let _ = client.flush();
            (all.len(), end)
        })
        .await;
        read(&stream, &mut [0]).await.unwrap();
        let bytes = noise(100_000);
        let sent = fill(&stream, &bytes).await;
        stream.shutdown(Shutdown::Write).unwrap();
        begin.send(()).unwrap();
        // A write that was pending counts: its records were made.
        while std::future::poll_fn(|cx| stream.poll_read(cx, &mut [0; 10])).await.unwrap() > 0 {}
        let (got, end) = far.await;
        assert!(end.is_ok() && got > sent, "{got} of {sent}, {end:?}");
    });
}

/// A blocking server's end of a connection, before its handshake.
fn blocking_server(config: &Arc<rustls::ServerConfig>, socket: TcpStream) -> Server {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), socket)
}

#[test]
fn tickets_make_an_idle_connection_to_a_server_no_stale_one_but_data_and_ends_do() {
    let signed = Arc::new(signed("river.test"));
    for how in ["data", "close_notify", "cut"] {
        run(async |handle: Handle| {
            let (stream, socket) = tcp(&handle);
            let mut config = signed.server(BOTH);
            config.send_tls13_tickets = 4;
            let (go, gone) = std::sync::mpsc::channel::<()>();
            let far = smol::unblock(move || {
                let mut server = blocking_server(&Arc::new(config), socket);
                server.conn.complete_io(&mut server.sock).unwrap();
                gone.recv().unwrap();
                match how {
                    "data" => server.write_all(b"unasked").unwrap(),
                    "close_notify" => {
                        server.conn.send_close_notify();
                        server.flush().unwrap();
                    }
                    _ => server.sock.shutdown(Shutdown::Both).unwrap(),
                }
                server
            });
            let roots = signed.vouching();
            let connector = Connector::new("river.test", &roots, None, &[]).unwrap();
            let stream = connect(stream, &connector, None, handle.buffers()).await.unwrap();
            // The client's last words go with its first request otherwise, and the server has no tickets before them.
            assert!(poll_once(|cx| stream.poll_read(cx, &mut [0])).is_pending());
            std::future::poll_fn(|cx| stream.stream().poll_readable(cx)).await;
            assert!(!stream.is_stale(), "tickets are no news");
            go.send(()).unwrap();
            let _server = far.await;
            // Before it asks, what has happened has to be heard of.
            std::future::poll_fn(|cx| stream.stream().poll_readable(cx)).await;
            assert!(stream.is_stale(), "{how} is news");
            assert!(poll_once(|cx| stream.poll_readable(cx)).is_ready());
        });
    }
}

#[test]
fn a_write_that_is_pending_or_fails_tells_whether_the_peer_may_have_some_of_it() {
    let signed = Arc::new(signed("river.test"));
    let mut random = fastrand::Rng::with_seed(1);
    // Where the kernel is full exactly at the end of a write, the next one does not begin.
    let mut rounds = (0..20).map(|_| {
        let piece = noise(random.usize(30_000..60_000));
        run(async |handle: Handle| {
            let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
                client.conn.complete_io(&mut client.sock).unwrap();
                client
            })
            .await;
            let client = far.await;
            fill(&stream, &piece).await;
            let begun = stream.has_begun();
            drop(client);
            begun
        })
    });
    assert!(rounds.any(|begun| begun));
    run(async |handle: Handle| {
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            client.conn.complete_io(&mut client.sock).unwrap();
            client.sock.shutdown(Shutdown::Both).unwrap();
        })
        .await;
        write_all(&stream, b"a whole one").await.unwrap();
        far.await;
        let failed = loop {
            let written = std::future::poll_fn(|cx| stream.poll_write(cx, b"another")).await;
            if written.is_err() {
                break written;
            }
            futures_lite::future::yield_now().await;
        };
        assert!(failed.is_err() && !stream.has_begun(), "nothing of it has gone");
    });
}

#[test]
fn an_end_that_waits_for_room_can_be_waited_for() {
    let signed = Arc::new(signed("river.test"));
    run(async |handle: Handle| {
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let (stream, far) = serve_client(&handle, &signed, &TLS13, move |mut client| {
            client.conn.complete_io(&mut client.sock).unwrap();
            begun.recv().unwrap();
            client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())
        })
        .await;
        assert!(poll_once(|cx| stream.poll_finished(cx)).is_ready(), "nobody has asked for an end");
        let bytes = noise(100_000);
        let sent = fill(&stream, &bytes).await;
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(poll_once(|cx| stream.poll_finished(cx)).is_pending());
        begin.send(()).unwrap();
        std::future::poll_fn(|cx| stream.poll_finished(cx)).await;
        drop(stream);
        let got = far.await;
        assert!(got.is_ok_and(|got| got > sent), "{got:?} of {sent}");
    });
}
