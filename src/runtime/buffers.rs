//! Buffers that are used again.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// The length of a new buffer, in bytes: most heads, and many whole exchanges, fit into one.
pub const SMALL_BUFFER: usize = 8 * 1024;

/// The length of a buffer for a body that streams, in bytes.
pub const LARGE_BUFFER: usize = 64 * 1024;

/// How many small ones a worker keeps for later: 2 MiB.
const SMALL_KEPT: usize = 256;

/// How many large ones a worker keeps for later: 2 MiB.
const LARGE_KEPT: usize = 32;

/// The buffers that one worker has at hand.
#[derive(Clone, Default)]
pub struct Buffers {
    shelves: Rc<Shelves>,
}

#[derive(Default)]
struct Shelves {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer of [`SMALL_BUFFER`] bytes. It comes back when it is dropped.
    pub fn take(&self) -> Buffer {
        self.wrap(self.shelves.take(SMALL_BUFFER))
    }

    /// An empty buffer of [`LARGE_BUFFER`] bytes. It comes back when it is dropped.
    pub fn take_large(&self) -> Buffer {
        self.wrap(self.shelves.take(LARGE_BUFFER))
    }

    /// A buffer without memory, until it is [supplied](Buffer::supply) or [widened](Buffer::widen).
    pub fn empty(&self) -> Buffer {
        self.wrap(Vec::new())
    }

    /// How many small and large buffers wait to be used.
    pub fn kept(&self) -> (usize, usize) {
        (self.shelves.small.borrow().len(), self.shelves.large.borrow().len())
    }

    fn wrap(&self, bytes: Vec<u8>) -> Buffer {
        Buffer { bytes, start: 0, end: 0, shelves: Rc::clone(&self.shelves) }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (small, large) = self.kept();
        f.debug_struct("Buffers").field("small", &small).field("large", &large).finish()
    }
}

impl Shelves {
    /// A vector of `length` initialised bytes, zeroed only if it is new.
    fn take(&self, length: usize) -> Vec<u8> {
        let kept = match length {
            SMALL_BUFFER => self.small.borrow_mut().pop(),
            LARGE_BUFFER => self.large.borrow_mut().pop(),
            _ => None,
        };
        kept.unwrap_or_else(|| vec![0; length])
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let (shelf, most) = match bytes.len() {
            SMALL_BUFFER => (&self.small, SMALL_KEPT),
            LARGE_BUFFER => (&self.large, LARGE_KEPT),
            _ => return,
        };
        let mut shelf = shelf.borrow_mut();
        if shelf.len() < most {
            shelf.push(bytes);
        }
    }
}

/// Bytes on their way: read into the end of it, taken from the start of it.
///
/// All of it is initialised once and then reused, so that nothing is zeroed before a read. What an earlier
/// user left in it is never visible through [`unread`](Self::unread), only as the content of
/// [`space_mut`](Self::space_mut), which is to be overwritten.
pub struct Buffer {
    bytes: Vec<u8>,
    /// Where the unread bytes start. Not after `end`.
    start: usize,
    /// Where they end. Not after the length of `bytes`.
    end: usize,
    shelves: Rc<Shelves>,
}

impl Buffer {
    /// Takes `count` bytes off the start; all of them, if there are fewer.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "{count} of {} bytes consumed", self.len());
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    /// Throws away what is unread.
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Gives the memory back for others to use. What is unread is thrown away, and there is no space until
    /// [`supply`](Self::supply).
    pub fn shed(&mut self) {
        self.clear();
        self.shelves.give_back(std::mem::take(&mut self.bytes));
    }

    /// Makes it a buffer of [`SMALL_BUFFER`] bytes again, if it has none.
    pub fn supply(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = self.shelves.take(SMALL_BUFFER);
        }
    }

    /// Makes it a buffer of [`LARGE_BUFFER`] bytes, if it is smaller, with the same bytes unread.
    pub fn widen(&mut self) {
        if self.bytes.len() < LARGE_BUFFER {
            let wide = self.shelves.take(LARGE_BUFFER);
            self.replace(wide);
        }
    }

    /// Where to read into. Empty only if the buffer is full; see [`grow`](Self::grow).
    ///
    /// The unread bytes are moved to the front if there is no space behind them, or if there is little and
    /// moving them costs less than it gains. So their place in memory may change, and offsets are to be
    /// counted from the start of [`unread`](Self::unread).
    pub fn space_mut(&mut self) -> &mut [u8] {
        let behind = self.bytes.len() - self.end;
        let scarce = behind < self.bytes.len() / 4 && self.len() <= self.start;
        if self.start > 0 && (behind == 0 || scarce) {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that `count` bytes have been written to the start of [`space_mut`](Self::space_mut).
    pub fn filled(&mut self, count: usize) {
        debug_assert!(count <= self.bytes.len() - self.end, "{count} bytes do not fit");
        self.end = self.end.saturating_add(count).min(self.bytes.len());
    }

    /// Appends as much of `bytes` as there is space for, and returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let space = self.space_mut();
        let count = space.len().min(bytes.len());
        if let (Some(to), Some(from)) = (space.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.filled(count);
        count
    }

    /// Doubles the buffer, to `max` bytes at most; false, and nothing changes, if it has that many already.
    pub fn grow(&mut self, max: usize) -> bool {
        let length = self.bytes.len().saturating_mul(2).min(max);
        if length <= self.bytes.len() {
            return false;
        }
        let bytes = self.shelves.take(length);
        self.replace(bytes);
        true
    }

    /// Moves what is unread into `bytes`, which are more, and keeps those.
    fn replace(&mut self, mut bytes: Vec<u8>) {
        let count = self.len();
        if let Some(to) = bytes.get_mut(..count) {
            to.copy_from_slice(self.unread());
        }
        self.shelves.give_back(std::mem::replace(&mut self.bytes, bytes));
        self.start = 0;
        self.end = count;
    }

    /// The bytes that have been read into the buffer and not been consumed.
    pub fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Like [`unread`](Self::unread), for what is decrypted where it lies.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes are unread.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte is unread.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether no byte more fits without [`grow`](Self::grow).
    pub fn is_full(&self) -> bool {
        self.len() == self.bytes.len()
    }

    /// How many unread bytes it can hold as it is.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.shelves.give_back(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("unread", &self.len()).field("capacity", &self.capacity()).finish()
    }
}
