//! What becomes of the connections of an instance that drains.

/// How many connections have come to which end since the instance began to drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainTally {
    /// Went to the successor.
    pub moved: u64,
    /// Came to an end by themselves.
    pub finished: u64,
    /// Were closed because the time to drain was over, or by SIGINT.
    pub cut: u64,
}

/// Counts while the instance drains.
#[derive(Debug, Default)]
pub(super) struct Counting {
    /// How many connections had ended when it began.
    before: Option<u64>,
    moved: u64,
    cut: u64,
    /// How many had finished when every connection was closed, though they may not have ended yet.
    finished: Option<u64>,
}

impl Counting {
    /// Begins, unless it has begun; `ended` connections had ended by now.
    pub(super) fn begin(&mut self, ended: u64) {
        if self.before.is_none() {
            *self = Self { before: Some(ended), ..Self::default() };
        }
    }

    /// The instance serves again.
    pub(super) fn end(&mut self) {
        self.before = None;
    }

    /// A connection has gone to the successor.
    pub(super) fn count_moved(&mut self) {
        self.moved = self.moved.saturating_add(1);
    }

    /// So many connections are being closed.
    pub(super) fn count_cut(&mut self, count: usize) {
        self.cut = self.cut.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// All that are left are being closed; so many had finished. Those that do not move after all are cut, however often
    /// they were counted.
    pub(super) fn cut_the_rest(&mut self, finished: u64) {
        self.finished.get_or_insert(finished);
    }

    /// The counts, where `begun` connections have begun altogether and there are still so many `left`.
    ///
    /// A connection that is moved or cut ends a moment after it is counted; until then, as many that have finished are
    /// left out.
    pub(super) fn tally(&self, begun: u64, left: u64) -> DrainTally {
        let Some(before) = self.before else { return DrainTally::default() };
        if let Some(finished) = self.finished {
            let cut = begun.saturating_sub(before).saturating_sub(self.moved).saturating_sub(finished);
            return DrainTally { moved: self.moved, finished, cut };
        }
        let ended = begun.saturating_sub(left).saturating_sub(before);
        let finished = ended.saturating_sub(self.moved).saturating_sub(self.cut);
        DrainTally { moved: self.moved, finished, cut: self.cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_comes_to_one_end() {
        let mut counting = Counting::default();
        assert_eq!(counting.tally(10, 4), DrainTally::default());
        counting.begin(6);
        counting.begin(9);
        (0..3).for_each(|_| counting.count_moved());
        // Ten of which six had ended; one more comes out of a queue; three move, one finishes, one is there.
        assert_eq!(counting.tally(11, 1), DrainTally { moved: 3, finished: 1, cut: 0 });
        counting.count_cut(1);
        // It is being closed, and is told so once more before it has ended.
        counting.cut_the_rest(1);
        counting.count_cut(1);
        counting.cut_the_rest(0);
        assert_eq!(counting.tally(11, 1), DrainTally { moved: 3, finished: 1, cut: 1 });
        assert_eq!(counting.tally(11, 0), DrainTally { moved: 3, finished: 1, cut: 1 });
        // It was on its way, and the successor has it.
        counting.count_moved();
        assert_eq!(counting.tally(11, 0), DrainTally { moved: 4, finished: 1, cut: 0 });
        counting.end();
        counting.begin(11);
        assert_eq!(counting.tally(12, 1), DrainTally::default());
    }
}
