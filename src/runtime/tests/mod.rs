//! Tests of the runtime, on loopback sockets. None of them sleeps to let something happen: each waits for it,
//! with a deadline.

mod accept;
mod buffers;
mod reactor;
mod splice;
mod streams;
mod tasks;
mod timers;
mod wakes;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::fd::OwnedFd;

use super::{Handle, Stream, block_on, with_deadline};

/// Far more than any of these tests takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs a test that must come to its end in time.
fn run<T>(test: impl AsyncFnOnce(Handle) -> T) -> T {
    block_on(async |handle: Handle| {
        let timer = handle.timer();
        let deadline = handle.deadline(LIMIT);
        with_deadline(&timer, deadline, test(handle)).await.expect("the test takes too long")
    })
}

/// The two ends of a TCP connection over loopback; both block.
fn tcp_pair(listen: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(listen).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    (near, far)
}

/// A stream and the blocking far end of its TCP connection.
fn tcp(handle: &Handle) -> (Stream, TcpStream) {
    let (near, far) = tcp_pair("127.0.0.1:0");
    near.set_nonblocking(true).unwrap();
    (handle.stream(near.into()).unwrap(), far)
}

/// A stream and the blocking far end of its Unix connection.
fn unix(handle: &Handle) -> (Stream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (handle.stream(near.into()).unwrap(), far)
}

/// Polls once, with a waker that does nothing.
fn poll_once<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// Reads until the end or an error.
async fn read_to_end(stream: &Stream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = vec![0; 4096];
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buf[..count]),
        }
    }
}

/// Lets the worker turn once: everything that has already happened is dispatched when it returns.
async fn turn(handle: &Handle) {
    let before = handle.waits();
    while handle.waits() == before {
        futures_lite::future::yield_now().await;
    }
}
