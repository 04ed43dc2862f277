//! Outgoing connections.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};

use super::reactor::Reactor;
use super::stream::{Kind, Stream};
use crate::base::Address;

/// Connects to `address`; see [`Handle::connect`](super::Handle::connect).
pub(super) async fn connect(reactor: &Rc<Reactor>, address: &Address) -> io::Result<Stream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, kind, started) = match address {
        Address::Tcp(address) => {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let fd = socket_with(family, SocketType::STREAM, flags, None)?;
            // A proxy sends what it has; waiting for more would only add delay.
            sockopt::set_tcp_nodelay(&fd, true)?;
            let started = rustix::net::connect(&fd, address);
            (fd, Kind::Tcp, started)
        }
        Address::Unix(path) => {
            let path = SocketAddrUnix::new(path.as_path())?;
            let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // Done at once, or refused at once: EAGAIN means that the server's backlog is full, and nothing
            // reports when it no longer is.
            let started = rustix::net::connect(&fd, &path);
            (fd, Kind::Other, started)
        }
    };
    match started {
        Ok(()) => Ok(Stream::new(reactor, fd, kind)),
        Err(Errno::INPROGRESS) => {
            // Registered after the connect has begun: epoll reports an unconnected socket as closed.
            let stream = Stream::connecting(reactor, fd, kind)?;
            poll_fn(|cx| stream.poll_connected(cx)).await?;
            Ok(stream)
        }
        Err(error) => Err(error.into()),
    }
}
