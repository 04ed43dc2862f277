//! The client's half of a stream: the request as it is read in HTTP/1.1.

use std::io;
use std::task::{Context, Poll, ready};

use ::h2::RecvStream;
use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::request::{Coding, Malformed, write_trailers};

/// The longest line that begins a chunk, with the line end behind the chunk: what a chunk costs beside its data.
const AROUND_CHUNK: usize = 16 + 2 + 2;

/// Data in chunks smaller than this are read by way of a buffer.
const LEAST_SPACE: usize = 64;

/// The request of a stream on its way to the proxy.
pub(super) struct Upload {
    /// Written in HTTP/1.1 and not read yet from `read` on: the head, later what is around the data.
    text: Vec<u8>,
    read: usize,
    body: RecvStream,
    coding: Coding,
    /// Received and not read yet. Its room in the window is given back as it is read.
    data: Bytes,
    /// Nothing comes behind what is at hand.
    ended: bool,
    /// What is wrong with it; whatever was read before, it stays.
    malformed: Option<Malformed>,
}

impl Upload {
    /// What comes behind the request's head: the body, in the given coding.
    pub(super) fn new(body: RecvStream, coding: Coding) -> Self {
        let ended = coding == Coding::Nothing;
        Self { text: Vec::new(), read: 0, body, coding, data: Bytes::new(), ended, malformed: None }
    }

    /// `head` is to be read before all else.
    pub(super) fn read_first(&mut self, head: Vec<u8>) {
        self.text = head;
    }

    /// Whether a read would get something, an end or an error.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read < self.text.len() || !self.data.is_empty() || self.ended {
            return Poll::Ready(());
        }
        match ready!(self.poll_data(cx)) {
            Ok(()) => {}
            // It is met again by the read.
            Err(_) => return Poll::Ready(()),
        }
        Poll::Ready(())
    }

    /// Whether the client's half turned out to be malformed.
    pub(super) fn is_malformed(&self) -> bool {
        self.malformed.is_some()
    }

    /// Reads into `buf`; 0 at the end of the request.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        loop {
            filled += self.take_text(buf.get_mut(filled..).unwrap_or_default());
            let space = buf.get_mut(filled..).unwrap_or_default();
            if space.is_empty() {
                return Poll::Ready(Ok(filled));
            }
            if !self.data.is_empty() {
                filled += self.take_data(space)?;
                continue;
            }
            if self.ended {
                return Poll::Ready(Ok(filled));
            }
            match self.poll_data(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending if filled == 0 => return Poll::Pending,
                // An error stays with the stream, or here, so the next read meets it.
                Poll::Ready(Err(error)) if filled == 0 => return Poll::Ready(Err(error)),
                Poll::Pending | Poll::Ready(Err(_)) => return Poll::Ready(Ok(filled)),
            }
        }
    }

    fn take_text(&mut self, space: &mut [u8]) -> usize {
        let rest = self.text.get(self.read..).unwrap_or_default();
        let count = rest.len().min(space.len());
        copy(rest, space, count);
        self.read += count;
        if self.read == self.text.len() {
            self.text.clear();
            self.read = 0;
        }
        count
    }

    /// Moves data into `space`, as a chunk where that is the coding.
    fn take_data(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.coding != Coding::Chunked {
            let count = self.data.len().min(space.len());
            copy(&self.data, space, count);
            self.consumed(count)?;
            return Ok(count);
        }
        if space.len() < LEAST_SPACE {
            let count = self.data.len().min(LEAST_SPACE);
            self.text.extend_from_slice(&size_line(count));
            self.text.extend_from_slice(self.data.get(..count).unwrap_or_default());
            self.text.extend_from_slice(b"\r\n");
            self.consumed(count)?;
            return Ok(0);
        }
        let count = self.data.len().min(space.len() - AROUND_CHUNK);
        let line = size_line(count);
        let (begin, rest) = space.split_at_mut(line.len().min(space.len()));
        copy(&line, begin, line.len());
        copy(&self.data, rest, count);
        copy(b"\r\n", rest.get_mut(count..).unwrap_or_default(), 2);
        self.consumed(count)?;
        Ok(line.len() + count + 2)
    }

    /// Data has been read, so the client may send as much again.
    fn consumed(&mut self, count: usize) -> io::Result<()> {
        self.data.advance(count);
        self.body.flow_control().release_capacity(count).map_err(io::Error::other)
    }

    /// Waits until there is data, text, or the end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(malformed) = self.malformed {
            return Poll::Ready(Err(invalid(malformed)));
        }
        match ready!(self.body.poll_data(cx)) {
            Some(Ok(data)) => {
                self.data = data;
                return Poll::Ready(Ok(()));
            }
            Some(Err(error)) => return Poll::Ready(Err(super::io_error(error))),
            None => {}
        }
        if self.coding == Coding::Chunked {
            let trailers = ready!(self.body.poll_trailers(cx)).map_err(super::io_error)?;
            let mut end = b"0\r\n".to_vec();
            if let Err(malformed) = write_trailers(&mut end, &trailers.unwrap_or_default()) {
                self.malformed = Some(malformed);
                return Poll::Ready(Err(invalid(malformed)));
            }
            self.text.extend_from_slice(&end);
        }
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

fn invalid(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}

fn copy(from: &[u8], to: &mut [u8], count: usize) {
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
}

/// The line that begins a chunk.
fn size_line(size: usize) -> SmallVec<[u8; AROUND_CHUNK]> {
    let mut line = SmallVec::new();
    crate::http::write_chunk_size(size, &mut line);
    line
}
