//! Counts what a peer sends by the kind of its frames, so that one that only wants to keep River busy is noticed.

use std::time::{Duration, Instant};

/// How long is counted together.
const SPAN: Duration = Duration::from_secs(10);

/// Bytes sent that make up for one frame without use: who takes them may ask how far they have got.
const WORTH: usize = 1024;

/// The length of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// What a peer has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It opens streams and resets them.
    Resets,
    /// It sends frames that are of no use to any stream.
    Control,
}

/// Reads the heads of frames as they pass.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes until the next frame's head.
    skip: usize,
    head: [u8; HEAD],
    /// How much of the head has come.
    have: usize,
    max_resets: u32,
    max_control: u32,
    counted: Counts,
    /// When the present count began.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    resets: u32,
    control: u32,
    useful: u32,
}

impl Meter {
    /// The first frame begins after `skip` bytes.
    pub(super) fn new(skip: usize, max_resets: u32, max_control: u32) -> Self {
        Self {
            skip,
            head: [0; HEAD],
            have: 0,
            max_resets,
            max_control,
            counted: Counts::default(),
            since: None,
        }
    }

    /// Passes on what was received.
    pub(super) fn received(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return;
            }
            let count = (HEAD - self.have).min(bytes.len());
            let (begin, rest) = bytes.split_at(count);
            if let Some(to) = self.head.get_mut(self.have..self.have + count) {
                to.copy_from_slice(begin);
            }
            self.have += count;
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.skip = length;
        let ends = flags & 1 != 0;
        let counter = match kind {
            // HEADERS, and DATA with anything in it. Of many that are small the `h2` crate takes care.
            1 => &mut self.counted.useful,
            0 if length > 0 || ends => &mut self.counted.useful,
            3 => &mut self.counted.resets,
            // Who receives much sends many WINDOW_UPDATEs.
            8 => return,
            _ => &mut self.counted.control,
        };
        *counter = counter.saturating_add(1);
    }

    /// So much was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        let worth = u32::try_from(bytes / WORTH).unwrap_or(u32::MAX);
        self.counted.useful = self.counted.useful.saturating_add(worth);
    }

    /// Whether it is too much by now.
    pub(super) fn excess(&mut self, now: Instant) -> Option<Excess> {
        let Counts { resets, control, useful } = self.counted;
        let excess = if resets > self.max_resets {
            Some(Excess::Resets)
        } else if control.saturating_sub(useful) > self.max_control {
            Some(Excess::Control)
        } else {
            None
        };
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN) {
            self.since = Some(now);
            self.counted = Counts::default();
        }
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u8, kind: u8, flags: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + usize::from(length), 0xff);
        frame
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let mut bytes = b"preface".to_vec();
        for (kind, count) in [(1, 3), (3, 4), (6, 5), (8, 6)] {
            (0..count).for_each(|_| bytes.extend(frame(8, kind, 0)));
        }
        bytes.extend(frame(0, 0, 0));
        bytes.extend(frame(0, 0, 1));
        for piece in [1, 2, 8, 9, 10, bytes.len()] {
            let mut meter = Meter::new(7, 10, 10);
            bytes.chunks(piece).for_each(|piece| meter.received(piece));
            let Counts { resets, control, useful } = meter.counted;
            assert_eq!((resets, control, useful), (4, 6, 4), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_too_much_is_counted_over_ten_seconds_and_made_up_for_by_use() {
        let begin = Instant::now();
        let mut meter = Meter::new(0, 2, 2);
        let mut ask = |frames: &[u8], after| {
            frames.iter().for_each(|kind| meter.received(&frame(4, *kind, 0)));
            meter.excess(begin + Duration::from_secs(after))
        };
        assert_eq!(ask(&[], 0), None);
        assert_eq!(ask(&[3, 3], 1), None);
        assert_eq!(ask(&[6, 6, 6, 1], 2), None);
        assert_eq!(ask(&[], 10), None);
        assert_eq!(ask(&[3, 3, 6, 6], 11), None);
        assert_eq!(ask(&[6], 12), Some(Excess::Control));
        assert_eq!(ask(&[3], 12), Some(Excess::Resets));
        let mut meter = Meter::new(0, 2, 2);
        meter.sent(4 * WORTH);
        (0..6).for_each(|_| meter.received(&frame(8, 6, 0)));
        assert_eq!(meter.excess(begin), None);
    }
}
