//! One stream of a client's connection, as a connection in HTTP/1.1 that carries one exchange.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Context, Poll};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream};
use ::http::{HeaderMap, Request};
use bytes::Bytes;

use super::download::Download;
use super::request::{self, Malformed};
use super::upload::Upload;
use crate::h2::Drained;
use crate::h2::websocket::Key;
use crate::http::{Framing, Method};

/// A stream that a client has opened. Reading yields the request, writing takes the response, both in HTTP/1.1.
///
/// The methods keep the contracts of those of [`runtime::Stream`](crate::runtime::Stream). Nothing is read of the stream
/// ahead of the reader, and nothing is taken of the writer beyond what the client's windows, and the bound on what may
/// wait for its connection, leave room for. Dropped before the response is whole, the stream is reset.
pub struct ServerStream {
    upload: RefCell<Upload>,
    download: RefCell<Download>,
}

impl ServerStream {
    /// A stream as the `h2` crate hands it out, of a connection that tells by `drained` when it has sent all it had.
    ///
    /// # Errors
    ///
    /// The request is malformed; the stream has been reset.
    pub fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        drained: Rc<Drained>,
    ) -> Result<Self, Malformed> {
        let mut head = Vec::with_capacity(HEAD);
        let stream = Self::behind(&mut head, request, respond, drained)?;
        stream.upload.borrow_mut().read_first(head);
        Ok(stream)
    }

    /// The same, but what it yields comes behind the request's head, which is appended to `head` and has been read with
    /// that.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn behind(
        head: &mut Vec<u8>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        drained: Rc<Drained>,
    ) -> Result<Self, Malformed> {
        let (parts, body) = request.into_parts();
        let mut key = None;
        let written = request::write(head, &parts, body.is_end_stream(), |out| {
            key = Key::random().ok();
            out.extend_from_slice(key.as_ref().map(Key::as_bytes).unwrap_or_default());
        });
        let written = match written {
            Ok(written) => written,
            Err(malformed) => {
                respond.send_reset(Reason::PROTOCOL_ERROR);
                return Err(malformed);
            }
        };
        let method =
            if written.websocket { Method::Get } else { Method::of(parts.method.as_str().as_bytes()) };
        Ok(Self {
            upload: RefCell::new(Upload::new(body, written.coding)),
            download: RefCell::new(Download::new(respond, method, key, drained)),
        })
    }

    /// As [`runtime::Stream::poll_read`](crate::runtime::Stream::poll_read).
    ///
    /// # Errors
    ///
    /// The client reset the stream, its connection failed, or what it sent contradicts the head or is malformed. In the
    /// last case the stream has been reset, unless its response is complete.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut upload = self.upload.borrow_mut();
        let read = upload.poll_read(cx, buf);
        if matches!(read, Poll::Ready(Err(_))) && upload.is_malformed() {
            self.download.borrow_mut().refuse();
        }
        read
    }

    /// As [`runtime::Stream::poll_readable`](crate::runtime::Stream::poll_readable).
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.upload.borrow_mut().poll_readable(cx)
    }

    /// Resolves once the client has reset the stream or its connection is gone.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.download.borrow_mut().poll_gone(cx)
    }

    /// As [`runtime::Stream::poll_write`](crate::runtime::Stream::poll_write).
    ///
    /// # Errors
    ///
    /// The client reset the stream, its connection failed, what is written is no response, or there has been one already.
    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.download.borrow_mut().poll_write(cx, buf)
    }

    /// Like [`poll_write`](Self::poll_write), of the first of `bufs` that is not empty.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write).
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map(|buf| &**buf).unwrap_or_default())
    }

    /// Whether [`send_head`](Self::send_head) may be called: a final head is what comes next, and nothing has to be known
    /// of it but what that is told.
    pub fn takes_head(&self) -> bool {
        self.download.borrow().takes_head()
    }

    /// Takes a final response's head as if it had been written, which it was not. Its body is to be written as `framing`
    /// says.
    ///
    /// # Errors
    ///
    /// As for [`poll_write`](Self::poll_write). The head may be written instead, to meet the same error.
    pub fn send_head(&self, status: u16, fields: HeaderMap, framing: Framing) -> io::Result<()> {
        self.download.borrow_mut().send_final(status, fields, framing)
    }

    /// Ends River's direction where nothing else tells its end. The client's is left to it.
    ///
    /// # Errors
    ///
    /// The client reset the stream, or its connection failed.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how == Shutdown::Read {
            return Ok(());
        }
        self.download.borrow_mut().shutdown()
    }
}

/// Most heads fit into so many bytes.
const HEAD: usize = 512;

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.download.get_mut().end();
    }
}

impl fmt::Debug for ServerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream").finish_non_exhaustive()
    }
}
