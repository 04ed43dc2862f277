//! Streams: transfer in both directions, over every kind of socket.

use std::io::IoSlice;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;

use futures_lite::future::poll_fn;

use super::*;
use crate::base::Address;
use crate::runtime::{Expired, Task, with_deadline};

/// More than the buffers of any loopback connection hold, and no multiple of a buffer's length.
const BIG: usize = 24 * 1024 * 1024 + 17;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

/// Accepts one connection and sends back what it reads, as a server of its own on the worker.
fn echo(handle: &Handle, listener: impl Into<OwnedFd>) -> Task<()> {
    let acceptor = handle.acceptor(std::sync::Arc::new(listener.into())).unwrap();
    let handle = handle.clone();
    handle.clone().spawn(async move {
        let (fd, _) = acceptor.accept().await.unwrap();
        let stream = handle.stream(fd).unwrap();
        let mut buf = vec![0; 30_000];
        loop {
            match stream.read(&mut buf).await.unwrap() {
                0 => break,
                count => stream.write_all(&buf[..count]).await.unwrap(),
            }
        }
        stream.shutdown(Shutdown::Write).unwrap();
    })
}

async fn transfer(handle: &Handle, address: &Address, server: Task<()>) {
    let stream = Rc::new(handle.connect(address).await.unwrap());
    let writer = handle.spawn({
        let stream = Rc::clone(&stream);
        async move {
            stream.write_all(&pattern(BIG)).await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
    assert!(read_to_end(&stream).await.unwrap() == pattern(BIG), "what comes back differs");
    writer.await;
    server.await;
}

fn listener(address: &str) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[test]
fn much_goes_both_ways_at_once_over_tcp() {
    run(async |handle| {
        let listener = listener("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let server = echo(&handle, listener);
        transfer(&handle, &address, server).await;
    });
}

#[test]
fn much_goes_both_ways_at_once_over_ipv6() {
    // A machine without IPv6 has no loopback to try it on.
    let Ok(listener) = listener("[::1]:0") else { return };
    run(async |handle| {
        let address = Address::Tcp(listener.local_addr().unwrap());
        let server = echo(&handle, listener);
        transfer(&handle, &address, server).await;
    });
}

#[test]
fn much_goes_both_ways_at_once_over_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    run(async |handle| {
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = echo(&handle, listener);
        transfer(&handle, &Address::Unix(path), server).await;
    });
}

#[test]
fn vectored_writes_send_every_slice() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        let parts: Vec<Vec<u8>> = (0..3000).map(|i| pattern(i % 7)).collect();
        let all = parts.concat();
        let expected = all.len();
        let reader = smol::unblock(move || {
            let mut all = vec![0; expected];
            far.read_exact(&mut all).map(|()| all)
        });
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let count = poll_fn(|cx| stream.poll_write_vectored(cx, rest)).await.unwrap();
            IoSlice::advance_slices(&mut rest, count);
        }
        assert_eq!(reader.await.unwrap(), all);
        assert!(matches!(poll_once(|cx| stream.poll_write_vectored(cx, &[])), Poll::Ready(Ok(0))));
    });
}

#[test]
fn a_writer_waits_for_a_peer_that_does_not_read() {
    run(async |handle| {
        for (stream, mut far) in [
            {
                let (stream, far) = tcp(&handle);
                (stream, Box::new(far) as Box<dyn Read + Send>)
            },
            {
                let (stream, far) = unix(&handle);
                (stream, Box::new(far) as Box<dyn Read + Send>)
            },
        ] {
            let chunk = vec![1; 1_000_000];
            let mut sent = 0;
            while let Poll::Ready(count) = poll_once(|cx| stream.poll_write(cx, &chunk)) {
                sent += count.unwrap();
            }
            let reader = smol::unblock(move || {
                let mut all = vec![0; sent + 1];
                far.read_exact(&mut all).map(|()| all.len())
            });
            stream.write_all(b"x").await.unwrap();
            assert_eq!(reader.await.unwrap(), sent + 1);
        }
    });
}

#[test]
fn an_idle_connection_is_stale_once_anything_happens() {
    async fn check(handle: &Handle, stream: Stream, mut far: impl Read + Write) {
        assert!(!stream.is_stale(), "new");
        far.write_all(b"response").unwrap();
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 8);
        assert!(stream.is_quiet(), "after a short read");
        far.write_all(b"exact").unwrap();
        assert_eq!(stream.read(&mut [0; 5]).await.unwrap(), 5);
        assert!(stream.is_quiet(), "after a full read");
        let stream = Rc::new(stream);
        let idle = handle.spawn({
            let stream = Rc::clone(&stream);
            async move { stream.readable().await }
        });
        turn(handle).await;
        turn(handle).await;
        assert!(stream.is_quiet() && !idle.is_finished());
        far.write_all(b"!").unwrap();
        idle.await;
        assert!(stream.is_stale(), "bytes");
        assert_eq!(stream.read(&mut [0; 64]).await.unwrap(), 1);
        assert!(stream.is_quiet(), "until they are read");
        drop(far);
        stream.readable().await;
        assert!(stream.is_stale(), "closed");
    }
    run(async |handle| {
        let (stream, far) = tcp(&handle);
        check(&handle, stream, far).await;
        let (stream, far) = unix(&handle);
        check(&handle, stream, far).await;
    });
}

#[test]
fn a_socket_given_up_keeps_its_bytes_and_wakes_this_worker_no_more() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        far.write_all(b"unread").unwrap();
        stream.readable().await;
        let fd = stream.into_fd().unwrap();
        // The kernel would not have it twice.
        let fd = handle.stream(fd).unwrap().into_fd().unwrap();
        let before = handle.waits();
        let other = smol::unblock(move || {
            run(async move |handle| {
                let stream = handle.stream(fd).unwrap();
                let mut all = Vec::new();
                let mut buf = [0; 4];
                while all.len() < 6 {
                    let count = stream.read(&mut buf).await.unwrap();
                    all.extend_from_slice(&buf[..count]);
                }
                for _ in 0..50 {
                    far.write_all(b"more").unwrap();
                    stream.read(&mut buf).await.unwrap();
                }
                all
            })
        });
        assert_eq!(other.await, b"unread");
        assert!(handle.waits() - before < 10, "{} waits", handle.waits() - before);
    });
}

#[test]
fn connects_that_fail_say_why() {
    use std::io::ErrorKind;
    let directory = tempfile::tempdir().unwrap();
    run(async |handle| {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = handle.connect(&Address::Tcp(free)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let missing = handle.connect(&Address::Unix(directory.path().join("none"))).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let long = handle.connect(&Address::Unix(directory.path().join("x".repeat(200)))).await;
        assert!(long.is_err());

        let path = directory.path().join("full");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = Address::Unix(path.clone());
        let mut queued = Vec::new();
        let mut waiting = loop {
            let mut connecting = Box::pin(handle.connect(&address));
            match poll_once(|cx| connecting.as_mut().poll(cx)) {
                Poll::Ready(stream) => queued.push(stream.unwrap()),
                Poll::Pending => break connecting,
            }
        };
        let timer = handle.timer();
        let soon = handle.now() + Duration::from_millis(20);
        assert_eq!(with_deadline(&timer, soon, &mut waiting).await.map(drop), Err(Expired));
        listener.accept().unwrap();
        waiting.await.unwrap();
        drop(listener);
        let gone = handle.connect(&address).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_stream_that_others_hold_copies_of_ends_when_it_is_dropped_and_not_when_it_is_given_up() {
    run(async |handle| {
        for (ends, resets) in [(false, false), (true, false), (true, true)] {
            let (near, mut far) = tcp_pair("127.0.0.1:0");
            near.set_nonblocking(true).unwrap();
            let copy = near.try_clone().unwrap();
            let mut stream = handle.stream(near.into()).unwrap();
            stream.end_when_dropped();
            stream.reset_on_close(resets).unwrap();
            stream.write_all(b"before").await.unwrap();
            far.read_exact(&mut [0; 6]).unwrap();
            if ends {
                drop(stream);
                assert_eq!(
                    far.read(&mut [0]).map_err(|error| error.kind()),
                    match resets {
                        true => Err(std::io::ErrorKind::ConnectionReset),
                        false => Ok(0),
                    }
                );
            } else {
                let socket = TcpStream::from(stream.into_fd().unwrap());
                drop(copy);
                (&socket).write_all(b"after").unwrap();
                far.read_exact(&mut [0; 5]).unwrap();
            }
        }
        // A Unix connection knows no reset.
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let copy = near.try_clone().unwrap();
        let mut stream = handle.stream(near.into()).unwrap();
        stream.end_when_dropped();
        let _ = stream.reset_on_close(true);
        drop(stream);
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        drop(copy);
    });
}

/// How many sockets the worker's epoll instance watches, as the kernel says.
fn watched(handle: &Handle) -> usize {
    handle.worker().reactor.watched()
}

#[test]
fn a_stream_is_watched_once_somebody_waits_for_it() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        let before = watched(&handle);
        far.write_all(b"there").unwrap();
        let mut buf = [0; 16];
        // Bytes of loopback are there when the write returns.
        assert_eq!(stream.read(&mut buf).await.unwrap(), 5);
        stream.write_all(b"answer").await.unwrap();
        assert!(stream.is_quiet());
        assert_eq!(watched(&handle), before, "nobody has waited");
        far.write_all(b"unasked").unwrap();
        assert!(stream.is_stale(), "it is asked for what nobody reports");
        assert_eq!(stream.read(&mut buf).await.unwrap(), 7);
        assert!(poll_once(|cx| stream.poll_readable(cx)).is_pending());
        assert_eq!(watched(&handle), before + 1);
        far.write_all(b"more").unwrap();
        assert_eq!(stream.read(&mut buf).await.unwrap(), 4);
        drop(stream);
        assert_eq!(watched(&handle), before);
    });
}

#[test]
fn who_waits_for_nothing_but_the_end_of_a_stream_learns_of_it() {
    run(async |handle| {
        let (first, far) = tcp(&handle);
        let (second, other) = tcp(&handle);
        let before = watched(&handle);
        assert!(poll_once(|cx| first.poll_gone(cx)).is_pending());
        assert!(poll_once(|cx| second.poll_gone(cx)).is_pending());
        assert_eq!(watched(&handle), before);
        // Those that have ended meanwhile are not watched.
        drop(second);
        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        poll_fn(|cx| first.poll_gone(cx)).await;
        assert_eq!(watched(&handle), before + 1);
        drop(other);
    });
}

#[test]
fn what_is_held_goes_with_the_end() {
    run(async |handle| {
        for released in [true, false] {
            let (stream, mut far) = tcp(&handle);
            stream.hold();
            stream.write_all(b"last").await.unwrap();
            far.set_nonblocking(true).unwrap();
            assert_eq!(far.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            far.set_nonblocking(false).unwrap();
            if released {
                // What it has not read would make closing alone throw the bytes away.
                far.write_all(b"unread").unwrap();
                stream.release();
            }
            drop(stream);
            let mut buf = [0; 8];
            assert_eq!(far.read(&mut buf).unwrap(), 4);
            assert_eq!(&buf[..4], b"last");
        }
    });
}

#[test]
fn a_stream_that_leaves_before_it_is_watched_is_watched_where_it_goes() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        let before = watched(&handle);
        assert!(poll_once(|cx| stream.poll_gone(cx)).is_pending());
        let stream = handle.tcp_stream(stream.into_fd().unwrap());
        let timer = handle.timer();
        // The list is gone through for another one meanwhile, under the same descriptor.
        let (other, _far) = tcp(&handle);
        assert!(poll_once(|cx| other.poll_gone(cx)).is_pending());
        while watched(&handle) == before {
            timer.set(handle.now() + Duration::from_millis(5));
            poll_fn(|cx| timer.poll_expired(cx)).await;
        }
        assert_eq!(watched(&handle), before + 1);
        drop(other);
        assert!(poll_once(|cx| stream.poll_gone(cx)).is_pending());
        let reading = handle.spawn(async move {
            let mut buf = [0; 8];
            let first = stream.read(&mut buf).await.unwrap();
            (first, stream.read(&mut buf).await.unwrap())
        });
        turn(&handle).await;
        far.write_all(b"one").unwrap();
        drop(far);
        assert_eq!(reading.await, (3, 0));
        assert_eq!(watched(&handle), before);
    });
}

#[test]
fn an_end_of_the_peers_direction_alone_is_not_the_streams_end() {
    run(async |handle| {
        let (stream, far) = tcp(&handle);
        let before = watched(&handle);
        far.shutdown(Shutdown::Write).unwrap();
        let timer = handle.timer();
        timer.set(handle.now() + Duration::from_millis(60));
        let gone = poll_fn(|cx| match stream.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => timer.poll_expired(cx).map(|()| false),
        });
        assert!(!gone.await);
        assert_eq!(watched(&handle), before + 1);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        stream.write_all(b"response").await.unwrap();
        rustix::net::sockopt::set_socket_linger(&far, Some(Duration::ZERO)).unwrap();
        drop(far);
        poll_fn(|cx| stream.poll_gone(cx)).await;
    });
}

#[test]
fn urgent_data_that_came_before_a_stream_was_watched_hides_nothing() {
    run(async |handle| {
        let (stream, mut far) = tcp(&handle);
        far.write_all(b"before").unwrap();
        rustix::net::send(&far, b"!", rustix::net::SendFlags::OOB).unwrap();
        far.write_all(b"behind").unwrap();
        drop(far);
        assert_eq!(read_to_end(&stream).await.unwrap(), b"beforebehind");
    });
}
