//! When a head that arrives in pieces is worth another look.

use super::reject::Unparsed;

/// What is known of the begin of a head that was incomplete when last looked at.
///
/// Parsing from the start at every read would cost time quadratic in the head's length when it arrives byte by byte.
/// So after a first full look, another is taken only when what is new may hold the end of the head, or when there
/// is twice as much as at the last full look (garbage is found out early, and the sum of all looks stays linear).
#[derive(Clone, Debug, Default)]
pub(super) struct Partial {
    /// Length of the buffer at the last full look.
    looked_at: usize,
    /// Length of the buffer that was searched for the head's end.
    searched: usize,
}

impl Partial {
    /// Whether to parse `buf`, which begins with what was handed in before. `max` bytes decide in any case.
    #[inline]
    pub(super) fn is_worth_parsing(&mut self, buf: &[u8], max: usize) -> bool {
        self.searched == 0 || self.is_grown_enough(buf, max)
    }

    fn is_grown_enough(&mut self, buf: &[u8], max: usize) -> bool {
        if buf.len() < self.searched || buf.len() >= max || buf.len() >= self.looked_at.saturating_mul(2) {
            return true;
        }
        // A bare LF is refused by the parser, but it is an end here: the sooner it is looked at the better.
        let fresh = buf.get(self.searched.saturating_sub(2)..).unwrap_or_default();
        let may_end = fresh.windows(2).any(|pair| pair == b"\n\n" || pair == b"\n\r");
        self.searched = buf.len();
        may_end
    }

    /// Takes note of what a full look at `len` bytes came to.
    #[inline]
    pub(super) fn note<T>(&mut self, outcome: &Result<T, Unparsed>, len: usize) {
        let seen = if matches!(outcome, Err(Unparsed::NeedMore)) { len } else { 0 };
        *self = Self { looked_at: seen, searched: seen };
    }
}
