//! A stretch of somebody's buffer.

use std::ops::Range;

/// A range of bytes in a buffer that the holder does not own; 8 bytes, so that a head's fields stay small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The empty span at the buffer's begin.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// The span from `start` up to, not including, `end`.
    pub const fn new(start: u32, end: u32) -> Self {
        Self { start, end }
    }

    /// Where `part` lies in `buf`, of which it is a slice. Heads are shorter than 4 GiB, so offsets fit.
    pub(super) fn locate(part: &[u8], buf: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(buf.as_ptr().addr());
        debug_assert!(start <= buf.len(), "not a slice of the buffer");
        Self { start: start as u32, end: start.wrapping_add(part.len()) as u32 }
    }

    /// The bytes in `buf`; empty when the span reaches beyond it.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.range()).unwrap_or_default()
    }

    /// How many bytes it covers.
    #[inline]
    pub const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it covers no byte.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The same as a range of indices.
    #[inline]
    pub const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}
