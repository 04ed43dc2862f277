//! What lies between the `h2` crate and a byte stream: tokio's traits for I/O, and what many frames are gathered in.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use smallvec::SmallVec;
use tokio::io::ReadBuf;

use super::blocks::{self, BLOCK};
use super::drained::Drained;
use super::meter::{Excess, Meter};

/// What is gathered before it is sent, in bytes.
const GATHERED: usize = BLOCK;

thread_local! {
    /// What a worker reads into; nothing stays in it.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; GATHERED]);
}

/// A byte stream as the `h2` crate uses it, shared with whoever drives the connection.
///
/// `h2` flushes after every larger frame. Here a flush sends nothing: what is written is gathered until there is
/// much of it or the driver calls [`poll_send`](Self::poll_send), which it has to do after every poll of the
/// connection. So the frames of many streams go in one system call, or one record of TLS.
pub struct Io<S>(Rc<RefCell<Inner<S>>>);

struct Inner<S> {
    stream: S,
    /// Read from the stream before `h2` was to read it.
    early: Bytes,
    /// Written and not yet sent from `sent` on: a block, or without memory if nothing is.
    gathered: Vec<u8>,
    sent: usize,
    /// Counts every successful write to the stream.
    writes: u64,
    meter: Option<Meter>,
    drained: Rc<Drained>,
    /// What `h2` wanted to write last was more than is gathered, and was not taken.
    refused: bool,
    /// Counts every successful read of the stream.
    reads: u64,
}

impl<S> Io<S> {
    /// `early` is what was read from `stream` already.
    pub fn new(stream: S, early: Bytes) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            stream,
            early,
            gathered: Vec::new(),
            sent: 0,
            writes: 0,
            meter: None,
            drained: Rc::default(),
            refused: false,
            reads: 0,
        })))
    }

    /// Looks at the stream below.
    pub fn with_stream<R>(&self, look: impl FnOnce(&S) -> R) -> R {
        look(&self.0.borrow().stream)
    }

    /// Counts what the peer sends from now on, the first frame after `skip` bytes, and what it makes this side send; see
    /// [`excess`](Self::excess), which is to be asked after every poll of the connection: in excess, nothing is read.
    pub fn count(&self, skip: usize, max_resets: u32, max_control: u32) {
        self.0.borrow_mut().meter = Some(Meter::new(skip, max_resets, max_control));
    }

    /// What the peer has sent too much of, if anything.
    pub fn excess(&self, now: Instant) -> Option<Excess> {
        self.0.borrow_mut().meter.as_mut()?.excess(now)
    }

    /// Tells whenever [`poll_send`](Self::poll_send) has sent all.
    pub fn drained(&self) -> Rc<Drained> {
        Rc::clone(&self.0.borrow().drained)
    }

    /// Whether something that was written waits for the peer to take it.
    pub fn is_blocked(&self) -> bool {
        let inner = self.0.borrow();
        inner.refused || inner.sent < inner.gathered.len()
    }

    /// Counts every successful write to the stream below, so that a peer that takes something can be told from one that
    /// only sends.
    pub fn writes(&self) -> u64 {
        self.0.borrow().writes
    }

    /// Counts every successful read of the stream below, so that a peer that is there can be told from one that is not.
    pub fn reads(&self) -> u64 {
        self.0.borrow().reads
    }
}

impl<S: AsyncWrite + Unpin> Io<S> {
    /// Sends what has been gathered. Ready when all of it has been taken.
    ///
    /// # Errors
    ///
    /// What the stream below reports; `WriteZero` if it takes nothing.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        if !inner.refused {
            inner.drained.tell();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = self.gathered.get(self.sent..).unwrap_or_default() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.took(count),
            }
        }
        self.clear();
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, count: usize) {
        self.sent += count;
        self.writes = self.writes.wrapping_add(1);
        if let Some(meter) = &mut self.meter {
            meter.sent(count);
        }
    }

    /// So many bytes of `bufs` are on their way.
    fn passed(&mut self, bufs: &[IoSlice<'_>], mut count: usize) {
        let Some(meter) = &mut self.meter else { return };
        for buf in bufs {
            let part = buf.get(..count).unwrap_or(buf);
            meter.written(part);
            count -= part.len();
        }
    }

    /// All of it is sent.
    fn clear(&mut self) {
        self.sent = 0;
        blocks::give_back(std::mem::take(&mut self.gathered));
    }

    /// Sends what has been gathered and `bufs` behind it; returns how much was taken of both together.
    fn poll_write_through(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let gathered = self.gathered.get(self.sent..).unwrap_or_default();
        let mut all: SmallVec<[IoSlice<'_>; 4]> = SmallVec::new();
        all.extend((!gathered.is_empty()).then(|| IoSlice::new(gathered)));
        all.extend(bufs.iter().filter(|buf| !buf.is_empty()).map(|buf| IoSlice::new(buf)));
        let stream = Pin::new(&mut self.stream);
        match &*all {
            [one] => stream.poll_write(cx, one),
            all => stream.poll_write_vectored(cx, all),
        }
    }

    /// Gathers what is small; sends what is not directly, behind what has been gathered.
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        loop {
            let waiting = self.gathered.len() - self.sent;
            if waiting + length <= GATHERED {
                if self.sent > 0 {
                    self.gathered.drain(..self.sent);
                    self.sent = 0;
                }
                if self.gathered.capacity() == 0 {
                    self.gathered = blocks::take();
                }
                bufs.iter().for_each(|buf| self.gathered.extend_from_slice(buf));
                self.passed(bufs, length);
                return Poll::Ready(Ok(length));
            }
            let written = self.poll_write_through(cx, bufs);
            self.refused = written.is_pending();
            let count = ready!(written)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.took(count.min(waiting));
            if self.sent == self.gathered.len() {
                self.clear();
            }
            if let Some(meter) = &mut self.meter {
                meter.sent(count.saturating_sub(waiting));
            }
            if count > waiting {
                self.passed(bufs, count - waiting);
                return Poll::Ready(Ok(count - waiting));
            }
        }
    }
}

impl<S> Clone for Io<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Io<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("blocked", &self.is_blocked()).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> tokio::io::AsyncRead for Io<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        if inner.meter.as_ref().is_some_and(|meter| meter.over().is_some()) {
            // The driver's turn, which asks what is in excess after every poll: here it might not come for long.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !inner.early.is_empty() {
            let count = inner.early.len().min(buf.remaining());
            let early = inner.early.get(..count).unwrap_or_default();
            if let Some(meter) = &mut inner.meter {
                meter.received(early);
            }
            buf.put_slice(early);
            inner.early.advance(count);
            if inner.early.is_empty() {
                // An empty rest would hold the memory of the whole.
                inner.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        // By way of memory that is initialised once: of what `h2` has room for, mostly little is filled.
        SCRATCH.with_borrow_mut(|scratch| {
            let most = buf.remaining().min(scratch.len());
            let scratch = scratch.get_mut(..most).unwrap_or_default();
            let count = ready!(Pin::new(&mut inner.stream).poll_read(cx, scratch))?;
            let received = scratch.get(..count).unwrap_or_default();
            if let Some(meter) = &mut inner.meter {
                meter.received(received);
            }
            buf.put_slice(received);
            inner.reads = inner.reads.wrapping_add(1);
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncWrite + Unpin> tokio::io::AsyncWrite for Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.stream).poll_close(cx)
    }
}
