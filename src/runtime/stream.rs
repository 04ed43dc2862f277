//! Stream sockets, TCP and Unix.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags};

use super::reactor::Reactor;
use super::source::Source;

/// The most slices that one `sendmsg` takes (`UIO_MAXIOV`).
const SLICES: usize = 1024;

/// A connected stream socket, TCP or Unix, of one worker. epoll watches it from when somebody first waits for it: a
/// connection that brings its only request at once, and ends with the response, is never watched.
///
/// All methods take `&self`: one task may read while another writes. Of each direction one task can wait at a
/// time; the last to ask is woken.
///
/// # Fairness
///
/// A task whose streams are always ready would never give up the thread. After 64 reads, writes and accepts
/// that succeeded within one poll of a task, the next one is [`Pending`](Poll::Pending), with the task
/// already woken: other tasks run and epoll is asked before it goes on.
///
/// # When a read is attempted
///
/// epoll reports changes only, so a stream remembers what it was told. An attempt that finds the socket's
/// queue empty (`EAGAIN`) makes it wait for the next report. On TCP so does a read that fills less than the
/// space it was given, which saves the attempt that would fail; but not once the peer has closed or the
/// socket failed, because the end is still to be read then, and not once the peer has sent urgent data, at
/// whose mark reads stop short. On Unix sockets a read also stops short at every message that carries
/// descriptors, so there only `EAGAIN` counts.
pub struct Stream {
    /// Before the rest, because it is dropped in this order.
    ending: Option<Ending>,
    pub(super) link: Link,
    pub(super) fd: Rc<OwnedFd>,
}

impl Stream {
    /// Takes a non-blocking stream socket, in both directions of which an attempt is worth its call.
    pub(super) fn new(reactor: &Rc<Reactor>, fd: OwnedFd, kind: Kind) -> Self {
        let source = reactor.place_stream(true);
        let link = Link { source, reactor: Rc::clone(reactor), kind };
        Self { ending: None, link, fd: Rc::new(fd) }
    }

    /// Takes a non-blocking socket whose connect has begun, and has it watched.
    pub(super) fn connecting(reactor: &Rc<Reactor>, fd: OwnedFd, kind: Kind) -> io::Result<Self> {
        let source = reactor.place_stream(false);
        let link = Link { source, reactor: Rc::clone(reactor), kind };
        let stream = Self { ending: None, link, fd: Rc::new(fd) };
        stream.watch()?;
        Ok(stream)
    }

    /// Takes a non-blocking stream socket of unknown kind, for which the kernel is asked.
    pub(super) fn adopt(reactor: &Rc<Reactor>, fd: OwnedFd) -> io::Result<Self> {
        let kind = match rustix::net::sockopt::socket_domain(&fd)? {
            AddressFamily::INET | AddressFamily::INET6 => Kind::Tcp,
            _ => Kind::Other,
        };
        Ok(Self::new(reactor, fd, kind))
    }

    /// Reads what is there, into the start of `buf`; 0 means that the peer has closed its direction, or that
    /// `buf` is empty.
    ///
    /// # Errors
    ///
    /// What `recv(2)` reports, a connection reset for one; never `WouldBlock`.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.link.reactor.poll_budget(cx));
        loop {
            ready!(self.await_readable(cx))?;
            match rustix::net::recv(&self.fd, &mut *buf, RecvFlags::empty()) {
                Ok((count, _)) => {
                    self.link.reactor.spend();
                    if count < buf.len() {
                        self.link.drained();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.link.source.readable.set(false),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Resolves, without a system call, once a read is worth one: bytes, the end or an error have been
    /// reported and not been read, or may be there. Until then it keeps the waker, so that a pool can leave
    /// it with an idle connection.
    ///
    /// It may resolve without cause: for a new stream, after a read that filled its buffer, and on a Unix
    /// socket after any read until [`is_stale`](Self::is_stale) or a read found it empty.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What cannot be watched is told by the read.
        self.await_readable(cx).map(drop)
    }

    /// Resolves once the connection is gone in both directions, as after a reset, whatever is left to read. An end
    /// in order of the peer's direction alone is no such thing. While nobody has waited for the stream otherwise, it may
    /// take 20 ms longer to be known.
    ///
    /// It shares the waker of [`poll_readable`](Self::poll_readable), so the task that reads may also ask this.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.link.source.failed.get() {
            return Poll::Ready(());
        }
        self.link.source.register_reader(cx);
        self.link.reactor.late.add(&self.link.source, &self.fd);
        Poll::Pending
    }

    /// Sends a part of `buf` from its start, and returns how many bytes that was: at least 1, unless `buf` is
    /// empty.
    ///
    /// # Errors
    ///
    /// What `send(2)` reports; a broken pipe raises no signal; never `WouldBlock`.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf.len(), |flags| rustix::net::send(&self.fd, buf, flags))
    }

    /// Makes the next write an attempt, even where epoll has not reported that one is worth it.
    ///
    /// The kernel reports room only once about a third of its send buffer is free, which may be more than a megabyte,
    /// but takes bytes as soon as there is any. So this tells a peer that reads slowly from one that does not read.
    pub fn attempt_write(&self) {
        self.link.source.writable.set(true);
    }

    /// Like [`poll_write`](Self::poll_write), from several slices with one system call. Of more than 1024
    /// slices, the first 1024 are looked at.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write).
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bufs = bufs.get(..SLICES).unwrap_or(bufs);
        self.poll_send(cx, bufs.iter().map(|buf| buf.len()).sum(), |flags| {
            rustix::net::sendmsg(&self.fd, bufs, &mut SendAncillaryBuffer::default(), flags)
        })
    }

    /// What is written from now on is the last, and may wait for the end of this direction: on TCP both then go in one
    /// segment. Only [`shutdown`](Self::shutdown) and dropping the stream send it for sure, and dropping it sends nothing
    /// where bytes of the peer are unread.
    pub fn hold(&self) {
        self.link.source.holds.set(true);
    }

    /// Ends the writing direction if something may be [held](Self::hold) back, so that it goes.
    pub fn release(&self) {
        if self.link.source.holds.get() {
            // It fails where the peer has reset the connection: there is nobody to be told.
            let _ = self.shutdown(Shutdown::Write);
        }
    }

    /// Reads what is there, as [`poll_read`](Self::poll_read) does.
    ///
    /// # Errors
    ///
    /// As for [`poll_read`](Self::poll_read).
    pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_read(cx, buf)).await
    }

    /// Waits until a read is worth a system call, as [`poll_readable`](Self::poll_readable) does.
    pub async fn readable(&self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }

    /// Sends all of `buf`.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write); a part of `buf` may have been sent.
    pub async fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let count = poll_fn(|cx| self.poll_write(cx, buf)).await?;
            buf = buf.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Whether anything has happened on a connection where nothing should: bytes, a close or an error. An
    /// idle connection to an upstream server that is stale must not be used again.
    ///
    /// What epoll has not reported yet, it cannot know (`docs/decisions/0036-idle-connections-are-not-peeked.md`). It makes a
    /// system call (a `recv` that takes nothing out) only where the last read did not show whether the queue is empty (see
    /// [`poll_readable`](Self::poll_readable)) and where nobody has waited for the stream yet, so that nothing is reported.
    pub fn is_stale(&self) -> bool {
        let source = &self.link.source;
        if source.closed.get() {
            return true;
        }
        if source.readable.get() || !source.armed.get() {
            let mut byte = [0];
            match rustix::net::recv(&self.fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => source.readable.set(false),
                _ => return true,
            }
        }
        false
    }

    /// Whether nothing has happened since a read found the end of what there was: the opposite of
    /// [`is_stale`](Self::is_stale).
    pub fn is_quiet(&self) -> bool {
        !self.is_stale()
    }

    /// Whether the peer has closed its direction, or the socket has failed, as far as epoll has reported.
    /// Bytes may still be there to read.
    pub fn is_closed(&self) -> bool {
        self.link.source.closed.get()
    }

    /// Why the socket has failed, if it has and nobody has been told yet, neither here nor by a read or write.
    pub fn take_error(&self) -> Option<io::Error> {
        match rustix::net::sockopt::socket_error(&self.fd) {
            Ok(Ok(())) => None,
            Ok(Err(error)) | Err(error) => Some(error.into()),
        }
    }

    /// Closes one direction or both; what was written before is still sent.
    ///
    /// # Errors
    ///
    /// What `shutdown(2)` reports: `NotConnected` if the peer has reset the connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        Ok(rustix::net::shutdown(&self.fd, how)?)
    }

    /// Whether closing the socket, however that comes about, resets the connection, so that the peer can tell it from
    /// an end in order. What has been written and not been received is lost then. Without effect on Unix sockets.
    ///
    /// # Errors
    ///
    /// What `setsockopt(2)` reports.
    pub fn reset_on_close(&self, reset: bool) -> io::Result<()> {
        let linger = reset.then_some(Duration::ZERO);
        Ok(rustix::net::sockopt::set_socket_linger(&self.fd, linger)?)
    }

    /// From now on, dropping the stream ends the connection, even where another process holds copies of the socket, which
    /// would keep it open otherwise: as [`end`] does, or by a reset where [`reset_on_close`](Self::reset_on_close) asks
    /// for one. [`into_fd`](Self::into_fd) ends nothing.
    pub fn end_when_dropped(&mut self) {
        self.ending = Some(Ending { fd: Some(Rc::clone(&self.fd)), reactor: Rc::clone(&self.link.reactor) });
    }

    /// Gives the socket up, open and no longer known to this worker's epoll, so that it can be passed to
    /// another process or worker. Bytes that have not been read go with it.
    ///
    /// # Errors
    ///
    /// What `epoll_ctl(2)` reports; nothing is known to make it fail. The socket is closed then.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        let Self { ending, link, fd } = self;
        if let Some(mut ending) = ending {
            ending.fd = None;
        }
        if link.source.armed.get() {
            link.reactor.unwatch(&fd)?;
        }
        // Nobody else has one: the ending's was given up.
        Rc::try_unwrap(fd).or_else(|shared| shared.try_clone())
    }

    /// Resolves once a non-blocking connect has come to its end, well or not.
    pub(super) fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.await_writable(cx))?;
        Poll::Ready(match rustix::net::sockopt::socket_error(&self.fd) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(error.into()),
        })
    }

    /// Resolves once a read is worth its system call; an error is that of `epoll_ctl(2)`.
    pub(super) fn await_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.source.poll_readable(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.watch().map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending)
    }

    /// Resolves once a write is worth its system call; an error is that of `epoll_ctl(2)`.
    fn await_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.source.poll_writable(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.watch().map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending)
    }

    fn watch(&self) -> io::Result<()> {
        self.link.reactor.watch(&self.link.source, &*self.fd)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        length: usize,
        send: impl Fn(SendFlags) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        ready!(self.link.reactor.poll_budget(cx));
        let flags = match self.link.source.holds.get() {
            true => SendFlags::NOSIGNAL | SendFlags::MORE,
            false => SendFlags::NOSIGNAL,
        };
        loop {
            ready!(self.await_writable(cx))?;
            match send(flags) {
                Ok(count) => {
                    self.link.reactor.spend();
                    if count < length && !self.link.source.failed.get() {
                        // The send buffer is full, and the kernel will report when it no longer is.
                        self.link.source.writable.set(false);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::AGAIN) => self.link.source.writable.set(false),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("fd", &self.fd.as_raw_fd())
            .field("kind", &self.link.kind)
            .field("readable", &self.link.source.readable.get())
            .field("writable", &self.link.source.writable.get())
            .field("closed", &self.link.source.closed.get())
            .finish()
    }
}

/// Ends a connection in both directions for all processes that hold its socket. What was written before is still sent.
pub fn end(socket: impl AsFd) {
    // It fails where the peer has reset the connection: there is nothing left to end.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Ends the connection when it is dropped with a socket.
struct Ending {
    fd: Option<Rc<OwnedFd>>,
    reactor: Rc<Reactor>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let Some(fd) = &self.fd else { return };
        // The other copies would keep it in there. Closing takes it out where this fails.
        let _ = self.reactor.unwatch(fd);
        let resets = rustix::net::sockopt::socket_linger(fd) == Ok(Some(Duration::ZERO));
        // Connecting to nobody resets a TCP connection, and is an error on Unix sockets.
        if !resets || rustix::net::connect_unspec(fd).is_err() {
            end(fd);
        }
    }
}

/// What the worker has to know of a socket's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A short read means that nothing is left.
    Tcp,
    /// A short read means nothing.
    Other,
}

/// A stream's place in the reactor.
///
/// Apart from the descriptor so that [`Stream::into_fd`] can take that out. Dropping a stream forgets its
/// source and closes the descriptor, which takes it out of epoll without a system call of its own: nothing
/// else can hold the socket, because only `into_fd` gives it away, or it is told to
/// [`end_when_dropped`](Stream::end_when_dropped). Should a child process hold it between
/// fork and exec, what epoll reports meanwhile carries a token that is no longer known.
pub(super) struct Link {
    pub(super) source: Rc<Source>,
    pub(super) reactor: Rc<Reactor>,
    pub(super) kind: Kind,
}

impl Link {
    /// A read has returned less than it was asked for.
    fn drained(&self) {
        if self.kind == Kind::Tcp && !self.source.closed.get() && !self.source.urgent.get() {
            self.source.readable.set(false);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reactor.forget(&self.source);
    }
}
