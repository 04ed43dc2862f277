//! When the settings of a server are known.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

/// A byte stream on which the first frame that arrives is watched for: it holds the server's settings (RFC 9113 §3.4).
pub(super) struct FirstFrame<S> {
    stream: S,
    /// How many bytes have arrived of it; no further than its end.
    arrived: u32,
    /// How long it is, with its head; as far as that has arrived.
    length: u32,
}

/// Bytes of a frame's head, which begins with the length of what follows it in three (RFC 9113 §4.1).
const FRAME_HEAD: u32 = 9;

impl<S> FirstFrame<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, arrived: 0, length: 0 }
    }

    /// Whether all of it has arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.arrived >= FRAME_HEAD && self.arrived - FRAME_HEAD >= self.length
    }

    fn received(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while let Some((&byte, rest)) = bytes.split_first()
            && self.arrived < 3
        {
            self.length = (self.length << 8) | u32::from(byte);
            self.arrived += 1;
            bytes = rest;
        }
        if !self.is_whole() {
            let more = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.arrived = self.arrived.saturating_add(more).min(FRAME_HEAD + self.length);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstFrame<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.received(buf.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstFrame<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_with_its_last_byte_however_it_arrives() {
        let mut frame = vec![0, 1, 2, 4, 0, 0, 0, 0, 0];
        frame.resize(9 + 258, 7);
        for size in [1, 2, 3, 8, 9, 10, 266, 267] {
            let mut first = FirstFrame::new(());
            let (last, before) = frame.split_last().unwrap();
            before.chunks(size).for_each(|part| {
                first.received(part);
                assert!(!first.is_whole(), "{size}");
            });
            first.received(&[*last, 0, 0, 0, 8]);
            assert!(first.is_whole(), "{size}");
            first.received(&[0; 100]);
            assert!(first.is_whole(), "{size}");
        }
    }

    #[test]
    fn settings_that_say_nothing_are_a_head_alone() {
        let mut first = FirstFrame::new(());
        first.received(&[0, 0, 0, 4, 0, 0, 0, 0]);
        assert!(!first.is_whole());
        first.received(&[0]);
        assert!(first.is_whole());
    }
}
