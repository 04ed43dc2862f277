//! Outgoing connections.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};

use super::handle::Handle;
use super::reactor::Reactor;
use super::stream::{Kind, Stream};
use crate::base::Address;

/// How long a Unix socket whose backlog is full is left alone at first, and at most: nothing reports that it has room.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// Connects to `address`; see [`Handle::connect`](super::Handle::connect).
pub(super) async fn connect(handle: &Handle, reactor: &Rc<Reactor>, address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => connect_tcp(reactor, address).await,
        Address::Unix(path) => {
            connect_unix(handle, path).await.map(|fd| Stream::new(reactor, fd, Kind::Other))
        }
    }
}

async fn connect_tcp(reactor: &Rc<Reactor>, address: &SocketAddr) -> io::Result<Stream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket(family)?;
    // A proxy sends what it has; waiting for more would only add delay.
    sockopt::set_tcp_nodelay(&fd, true)?;
    match rustix::net::connect(&fd, address) {
        Ok(()) => Ok(Stream::new(reactor, fd, Kind::Tcp)),
        Err(Errno::INPROGRESS) => {
            // Registered after the connect has begun: epoll reports an unconnected socket as closed.
            let stream = Stream::connecting(reactor, fd, Kind::Tcp)?;
            poll_fn(|cx| stream.poll_connected(cx)).await?;
            Ok(stream)
        }
        Err(error) => Err(error.into()),
    }
}

/// A Unix socket is connected at once or refuses, or its backlog is full (EAGAIN). Of TCP a full backlog is waited for by
/// the kernel, which repeats its SYN; here nobody else would.
async fn connect_unix(handle: &Handle, path: &Path) -> io::Result<OwnedFd> {
    let path = SocketAddrUnix::new(path)?;
    let fd = socket(AddressFamily::UNIX)?;
    let timer = handle.timer();
    let mut pause = FIRST_PAUSE;
    loop {
        match rustix::net::connect(&fd, &path) {
            Ok(()) => return Ok(fd),
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        timer.set(handle.now() + pause);
        timer.expired().await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

fn socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}
