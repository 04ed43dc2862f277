//! What a server says of its connection as a whole, read from its frames as they pass.
//!
//! The `h2` crate does not tell when the settings have come and what the last stream of a GOAWAY is, and it keeps interim
//! responses without a bound.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ::h2::Reason;
use futures_io::{AsyncRead, AsyncWrite};
use smallvec::SmallVec;

/// A byte stream whose incoming frames are watched.
pub(super) struct Watched<S> {
    stream: S,
    seen: Rc<Seen>,
    heads: Heads,
}

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What the server began with.
    first: Cell<Option<First>>,
    /// Its settings have arrived.
    settings: Cell<bool>,
    go_away: RefCell<Option<GoAway>>,
    /// Heads that have come on the streams that are followed and have not been taken.
    untaken: RefCell<HashMap<u32, u32>>,
    flooded: Cell<bool>,
}

/// What a server began with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A frame of SETTINGS, as it has to (RFC 9113 §3.4).
    Settings,
    /// A response in HTTP/1.
    Http1,
    /// An alert of TLS.
    Tls,
    /// Anything else.
    Other,
}

/// A GOAWAY (RFC 9113 §6.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoAway {
    /// Its error code.
    pub reason: Reason,
    /// The last stream that the server has looked at, or will.
    pub last: u32,
    /// The begin of what it says beside that.
    pub said: Vec<u8>,
}

/// The heads of one stream are counted, as long as this is there.
#[derive(Debug)]
pub(super) struct Followed {
    seen: Rc<Seen>,
    stream: u32,
}

/// How many heads of one stream may wait to be taken; a server that sends one each second to a client that takes none stays
/// below until `timeouts.send` is over.
const MOST_UNTAKEN: u32 = 100;

/// How much is kept of what a GOAWAY says, in bytes.
const SAID: usize = 64;

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// Bytes of what every GOAWAY has (RFC 9113 §6.8).
const GO_AWAY: usize = 8;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GO_AWAY_KIND: u8 = 7;

/// The bit of a stream's number that says nothing.
const RESERVED: u32 = 1 << 31;

impl<S> Watched<S> {
    pub(super) fn new(stream: S, seen: Rc<Seen>) -> Self {
        Self { stream, seen, heads: Heads::default() }
    }
}

impl Seen {
    /// Whether the settings have arrived as a whole.
    pub(super) fn has_settings(&self) -> bool {
        self.settings.get()
    }

    /// What the server began with; none if it has not, or not enough to tell.
    pub(super) fn first(&self) -> Option<First> {
        self.first.get()
    }

    /// The last GOAWAY.
    pub(super) fn go_away(&self) -> Option<GoAway> {
        self.go_away.borrow().clone()
    }

    /// Whether there was a GOAWAY.
    pub(super) fn is_told_off(&self) -> bool {
        self.go_away.borrow().is_some()
    }

    /// Whether more heads wait on a stream than may.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    /// Counts the heads of a stream from now on.
    pub(super) fn follow(self: &Rc<Self>, stream: u32) -> Followed {
        self.untaken.borrow_mut().insert(stream, 0);
        Followed { seen: Rc::clone(self), stream }
    }

    fn frame(&self, kind: u8, stream: u32) {
        if kind == HEADERS
            && let Some(untaken) = self.untaken.borrow_mut().get_mut(&stream)
        {
            *untaken += 1;
            self.flooded.set(self.flooded.get() || *untaken > MOST_UNTAKEN);
        }
    }
}

impl Followed {
    /// A head has been taken.
    pub(super) fn take(&self) {
        if let Some(untaken) = self.seen.untaken.borrow_mut().get_mut(&self.stream) {
            *untaken = untaken.saturating_sub(1);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.seen.untaken.borrow_mut().remove(&self.stream);
    }
}

/// Reads the heads of frames as they pass.
#[derive(Debug, Default)]
struct Heads {
    /// The head of the present frame, as far as it has come.
    head: SmallVec<[u8; HEAD]>,
    /// How much of what follows the head is still to come.
    left: usize,
    /// What follows the head of a GOAWAY, or the begin of it.
    kept: Vec<u8>,
}

impl Heads {
    fn received(&mut self, mut bytes: &[u8], seen: &Seen) {
        while !bytes.is_empty() {
            if self.head.len() < HEAD {
                let (begin, rest) = bytes.split_at((HEAD - self.head.len()).min(bytes.len()));
                self.head.extend_from_slice(begin);
                bytes = rest;
                if seen.first.get().is_none() {
                    seen.first.set(first(&self.head));
                }
                let [a, b, c, kind, _, d, e, f, g] = *self.head else { return };
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                seen.frame(kind, u32::from_be_bytes([d, e, f, g]) & !RESERVED);
            }
            let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= part.len();
            bytes = rest;
            let kind = self.head.get(3).copied();
            if kind == Some(GO_AWAY_KIND) {
                let room = (GO_AWAY + SAID).saturating_sub(self.kept.len());
                self.kept.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            if self.left > 0 {
                return;
            }
            match kind {
                Some(SETTINGS) => seen.settings.set(true),
                Some(GO_AWAY_KIND) => self.told_off(seen),
                _ => {}
            }
            self.head.clear();
        }
    }

    fn told_off(&mut self, seen: &Seen) {
        if let [a, b, c, d, e, f, g, h, said @ ..] = &*self.kept {
            let last = u32::from_be_bytes([*a, *b, *c, *d]) & !RESERVED;
            let reason = Reason::from(u32::from_be_bytes([*e, *f, *g, *h]));
            seen.go_away.replace(Some(GoAway { reason, last, said: said.to_vec() }));
        }
        self.kept = Vec::new();
    }
}

/// What a server has begun with, as soon as that can be told.
fn first(head: &[u8]) -> Option<First> {
    match head {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some(First::Http1),
        // An alert of some version 3 (RFC 8446 §5.1), which is shorter than the head of a frame.
        [21, 3, 0..=4, 0, 2, ..] => Some(First::Tls),
        [_, _, _, SETTINGS, _, 0, 0, 0, 0] => Some(First::Settings),
        _ if head.len() >= HEAD => Some(First::Other),
        _ => None,
    }
}

impl fmt::Display for GoAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GOAWAY ({:?}, last stream {}", self.reason, self.last)?;
        if !self.said.is_empty() {
            write!(f, ", \"{}\"", self.said.escape_ascii())?;
        }
        f.write_str(")")
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let count = ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.heads.received(buf.get(..count).unwrap_or_default(), &this.seen);
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, 0, 0x80, 0, 0, stream];
        frame.extend_from_slice(payload);
        frame
    }

    /// What is seen of bytes that arrive in pieces.
    fn seen(bytes: &[u8], piece: usize) -> Rc<Seen> {
        let seen = Rc::<Seen>::default();
        let mut heads = Heads::default();
        bytes.chunks(piece).for_each(|part| heads.received(part, &seen));
        seen
    }

    #[test]
    fn settings_are_there_with_their_last_byte_however_they_arrive() {
        for settings in [vec![], vec![7; 6], vec![7; 252]] {
            let frame = frame(SETTINGS, 0, &settings).iter().map(|byte| byte & 0x7f).collect::<Vec<_>>();
            for piece in [1, 2, 3, 8, 9, 10, 300] {
                let (_, before) = frame.split_last().unwrap();
                assert!(!seen(before, piece).has_settings(), "{piece}");
                let whole = seen(&frame, piece);
                assert!(whole.has_settings() && whole.first() == Some(First::Settings), "{piece}");
            }
        }
    }

    #[test]
    fn the_last_word_is_kept() {
        let first = [&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0][..]].concat();
        let second = [&[0, 0, 0, 39, 0, 0, 0, 11][..], &[b'x'; 80]].concat();
        let bytes = [frame(6, 0, &[0; 8]), frame(7, 0, &first), frame(0, 1, b"data"), frame(7, 0, &second)];
        for piece in [1, 7, 8, 9, 10, 17, 1000] {
            let seen = seen(&bytes.concat(), piece);
            let word = seen.go_away().unwrap();
            assert_eq!((word.reason, word.last), (Reason::ENHANCE_YOUR_CALM, 39), "{piece}");
            let text = format!("GOAWAY (ENHANCE_YOUR_CALM, last stream 39, \"{}\")", "x".repeat(SAID));
            assert_eq!(word.to_string(), text, "{piece}");
        }
        assert!(seen(&frame(7, 0, &[0; 7]), 1).go_away().is_none());
    }

    #[test]
    fn what_is_no_http_2_is_told_by_its_first_bytes() {
        let cases: [(&[u8], Option<First>); 6] = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", Some(First::Http1)),
            (b"\x15\x03\x01\x00\x02\x02\x46", Some(First::Tls)),
            (b"220 mail.example ESMTP\r\n", Some(First::Other)),
            (b"\0\0\0\x06\0\0\0\0\0", Some(First::Other)),
            (b"\0\0\0\x04", None),
            (b"", None),
        ];
        for (bytes, first) in cases {
            assert_eq!(seen(bytes, 1).first(), first, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn heads_that_nobody_takes_are_too_many_at_some_point() {
        let seen = Rc::<Seen>::default();
        let mut heads = Heads::default();
        let followed = seen.follow(3);
        for _ in 0..1000 {
            heads.received(&frame(HEADERS, 3, b"x"), &seen);
            followed.take();
            // Of one that is not followed nothing is known.
            heads.received(&frame(HEADERS, 5, b"x"), &seen);
        }
        for _ in 0..MOST_UNTAKEN {
            assert!(!seen.is_flooded());
            heads.received(&frame(HEADERS, 3, b"x"), &seen);
        }
        assert!(!seen.is_flooded());
        heads.received(&frame(HEADERS, 3, b"x"), &seen);
        assert!(seen.is_flooded());
        drop(followed);
        assert!(seen.untaken.borrow().is_empty());
    }
}
