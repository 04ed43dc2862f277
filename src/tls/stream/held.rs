//! A write that is pending, and how it is told from another one.

use std::io::IoSlice;

/// How many bytes tell one write from another.
const MARK: usize = 8;

/// A write whose records are made, and which nobody has been told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// How many bytes of plaintext its records hold that nobody was told of.
    pub(super) count: usize,
    /// What these begin with, to tell the write from another one. Not known any more once a part was told of.
    first: Option<[u8; MARK]>,
    /// What they end with.
    last: [u8; MARK],
}

impl Held {
    /// The write of the first `count` bytes of `bufs`.
    pub(super) fn new(bufs: &[IoSlice<'_>], count: usize) -> Self {
        Self { count, first: Some(mark(bufs, 0, count)), last: mark(bufs, count.saturating_sub(MARK), count) }
    }

    /// The write goes on with the bytes that this one is made of, or with the first of them: with as many of them as there
    /// are in both.
    pub(super) fn is_of(&self, bufs: &[IoSlice<'_>]) -> bool {
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        let begins =
            all < MARK.min(self.count) || self.first.is_none_or(|first| first == mark(bufs, 0, self.count));
        begins && (all < self.count || self.last == mark(bufs, self.count.saturating_sub(MARK), self.count))
    }

    /// What is left once `count` bytes were told of.
    pub(super) fn without(self, count: usize) -> Option<Self> {
        let left = self.count.checked_sub(count).filter(|left| *left > 0)?;
        let mut last = [0; MARK];
        let known = self.last.get(..self.count.min(MARK)).unwrap_or_default();
        for (to, byte) in last.iter_mut().zip(known.iter().skip(known.len().saturating_sub(left))) {
            *to = *byte;
        }
        Some(Self { count: left, first: None, last })
    }
}

/// The bytes of `bufs` from one place on, up to another at most.
fn mark(bufs: &[IoSlice<'_>], from: usize, to: usize) -> [u8; MARK] {
    let mut found = [0; MARK];
    let mut before = from;
    let mut places = found.iter_mut().take(to.saturating_sub(from));
    for buf in bufs {
        let skipped = before.min(buf.len());
        before -= skipped;
        for (byte, place) in buf.get(skipped..).unwrap_or_default().iter().zip(&mut places) {
            *place = *byte;
        }
    }
    found
}
