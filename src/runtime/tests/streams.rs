//! Streams: transfer in both directions, over every kind of socket.

use std::io::IoSlice;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;

use futures_lite::future::poll_fn;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::base::Address;
use crate::runtime::Task;

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
