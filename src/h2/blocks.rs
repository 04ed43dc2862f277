//! Memory for bytes on their way to a peer, which a worker's connections take in turns.

use std::cell::RefCell;

use bytes::Bytes;

/// The length of a block, in bytes: about one record of TLS, and the largest frame that every peer takes.
pub(super) const BLOCK: usize = 16 << 10;

/// Less than this is allocated as it comes: a block would hold too much room for it while it waits to be sent.
const LEAST: usize = BLOCK / 2;

/// How many a worker keeps for later: 1 MiB.
const KEPT: usize = 64;

thread_local! {
    /// A connection has blocks only while something is on its way. Those that are idle have none, and do not get what
    /// others have freed for buffers of their own that they hardly write to.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty vector of [`BLOCK`] bytes' capacity.
pub(super) fn take() -> Vec<u8> {
    let kept = SPARE.try_with(|spare| spare.borrow_mut().pop());
    kept.ok().flatten().unwrap_or_else(|| Vec::with_capacity(BLOCK))
}

/// Keeps a vector for later, if it is a block.
pub(super) fn give_back(mut block: Vec<u8>) {
    if block.capacity() != BLOCK {
        return;
    }
    block.clear();
    // On a thread that ends, nobody needs one.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < KEPT {
            spare.push(block);
        }
    });
}

/// An empty vector for so many bytes, which are [`BLOCK`] at most.
pub(super) fn room(length: usize) -> Vec<u8> {
    if (LEAST..=BLOCK).contains(&length) { take() } else { Vec::with_capacity(length) }
}

/// What was written to a vector, which goes back to the spare ones with the last of it if it is a block.
pub(super) fn freeze(written: Vec<u8>) -> Bytes {
    if written.capacity() == BLOCK { Bytes::from_owner(Block(written)) } else { written.into() }
}

struct Block(Vec<u8>);

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_with_the_last_of_what_was_written_to_it() {
        let mut block = room(LEAST);
        let place = block.as_ptr();
        block.extend_from_slice(&[1; LEAST]);
        let mut whole = freeze(block);
        let part = whole.split_to(1);
        drop(whole);
        let other = take();
        assert_ne!(other.as_ptr(), place);
        drop(part);
        let again = take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, BLOCK));
    }

    #[test]
    fn little_takes_little_and_not_all_are_kept() {
        assert!(room(100).capacity() < LEAST);
        (0..2 * KEPT).for_each(|_| give_back(Vec::with_capacity(BLOCK)));
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
        give_back(Vec::new());
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
    }
}
