//! Acceptors: sharing, pausing, and no spinning.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::*;
use crate::runtime::{AcceptErrorKind, accept_error_kind, spawn};

/// A non-blocking listening socket to be shared.
fn listen() -> (Arc<OwnedFd>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (Arc::new(listener.into()), address)
}

#[test]
fn two_workers_share_a_listener() {
    let (fd, address) = listen();
    let (to, accepted) = std::sync::mpsc::channel();
    let (stop, stopped) = smol::channel::bounded::<()>(1);
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let (fd, to, stopped) = (Arc::clone(&fd), to.clone(), stopped.clone());
            spawn("river-test", async move |handle| {
                let acceptor = handle.acceptor(fd).unwrap();
                let accepting = handle.spawn(async move {
                    loop {
                        to.send(acceptor.accept().await.unwrap()).unwrap();
                    }
                });
                let _ = stopped.recv().await;
                drop(accepting);
            })
            .unwrap()
        })
        .collect();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.extend((0..20).map(|_| TcpStream::connect(address).unwrap()));
        for _ in 0..20 {
            let (_fd, peer) = accepted.recv_timeout(LIMIT).unwrap();
            assert!(clients.iter().any(|client| client.local_addr().ok() == peer));
        }
    }
    drop(stop);
    for worker in workers {
        worker.join().unwrap();
    }
}

#[test]
fn an_accepted_socket_is_ready_for_use() {
    run(async |handle| {
        let (fd, address) = listen();
        let acceptor = handle.acceptor(fd).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (fd, peer) = acceptor.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().ok());
        assert!(rustix::fs::fcntl_getfl(&fd).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        let stream = handle.stream(fd).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 1);
    });
}

#[test]
fn a_paused_acceptor_leaves_the_queue_as_it_is() {
    run(async |handle| {
        let (fd, address) = listen();
        let acceptor = Rc::new(handle.acceptor(fd).unwrap());
        acceptor.pause().unwrap();
        acceptor.pause().unwrap();
        let clients: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
        let waiting = handle.spawn({
            let acceptor = Rc::clone(&acceptor);
            async move { acceptor.accept().await.unwrap().1 }
        });
        let before = handle.waits();
        for _ in 0..3 {
            turn(&handle).await;
        }
        assert!(!waiting.is_finished() && acceptor.is_paused());
        assert_eq!(handle.waits(), before + 3);
        acceptor.resume().unwrap();
        assert_eq!(waiting.await, clients[0].local_addr().ok());
        for client in &clients[1..10] {
            assert_eq!(acceptor.accept().await.unwrap().1, client.local_addr().ok());
        }
        acceptor.pause().unwrap();
        let mut swept = 0;
        while acceptor.try_accept().unwrap().is_some() {
            swept += 1;
        }
        assert_eq!(swept, 10);
        acceptor.resume().unwrap();
        acceptor.resume().unwrap();
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(acceptor.accept().await.unwrap().1, client.local_addr().ok());
    });
}

#[test]
fn a_queue_that_nobody_accepts_from_does_not_make_a_worker_spin() {
    run(async |handle| {
        let (fd, address) = listen();
        let acceptor = handle.acceptor(fd).unwrap();
        let first = TcpStream::connect(address).unwrap();
        let before = handle.waits();
        let timer = handle.timer();
        timer.set(handle.now() + Duration::from_millis(50));
        timer.expired().await;
        assert!(handle.waits() - before <= 4, "{} waits", handle.waits() - before);
        // And misses nothing for it.
        for client in [first, TcpStream::connect(address).unwrap()] {
            assert_eq!(acceptor.accept().await.unwrap().1, client.local_addr().ok());
        }
        assert!(poll_once(|cx| acceptor.poll_accept(cx)).is_pending());
        let third = TcpStream::connect(address).unwrap();
        assert_eq!(acceptor.accept().await.unwrap().1, third.local_addr().ok());
    });
}

#[test]
fn a_waiting_acceptor_does_not_make_a_worker_spin() {
    run(async |handle| {
        let (fd, address) = listen();
        let acceptor = handle.acceptor(fd).unwrap();
        let (to, from) = smol::channel::unbounded();
        let accepting = handle.spawn(async move {
            loop {
                to.send(acceptor.accept().await.unwrap()).await.unwrap();
            }
        });
        let _client = TcpStream::connect(address).unwrap();
        from.recv().await.unwrap();
        let before = handle.waits();
        let timer = handle.timer();
        timer.set(handle.now() + Duration::from_millis(50));
        timer.expired().await;
        assert!(handle.waits() - before <= 3, "{} waits", handle.waits() - before);
        drop(accepting);
    });
}

#[test]
fn a_dropped_acceptor_is_out_of_epoll_and_may_be_made_again() {
    run(async |handle| {
        let (fd, address) = listen();
        let acceptor = handle.acceptor(Arc::clone(&fd)).unwrap();
        let twice = handle.acceptor(Arc::clone(&fd)).unwrap_err();
        assert_eq!(twice.kind(), io::ErrorKind::AlreadyExists);
        drop(acceptor);
        let client = TcpStream::connect(address).unwrap();
        let again = handle.acceptor(fd).unwrap();
        assert_eq!(again.accept().await.unwrap().1, client.local_addr().ok());
    });
}

#[test]
fn errors_are_told_apart() {
    let kind = |error: Errno| accept_error_kind(&error.into());
    assert_eq!(kind(Errno::CONNABORTED), AcceptErrorKind::Transient);
    assert_eq!(kind(Errno::NETUNREACH), AcceptErrorKind::Transient);
    assert_eq!(kind(Errno::MFILE), AcceptErrorKind::Resource);
    assert_eq!(kind(Errno::NOBUFS), AcceptErrorKind::Resource);
    assert_eq!(kind(Errno::INVAL), AcceptErrorKind::Fatal);
    assert_eq!(accept_error_kind(&io::Error::other("x")), AcceptErrorKind::Fatal);
    run(async |handle| {
        let (near, _far) = tcp_pair("127.0.0.1:0");
        near.set_nonblocking(true).unwrap();
        let acceptor = handle.acceptor(Arc::new(near.into())).unwrap();
        let error = acceptor.try_accept().unwrap_err();
        assert_eq!(accept_error_kind(&error), AcceptErrorKind::Fatal);
    });
}
