//! Counts what a peer sends by the kind of its frames, so that one that only wants to keep River busy is noticed.

use std::time::{Duration, Instant};

use ::h2::Reason;

/// How long is counted together.
const SPAN: Duration = Duration::from_secs(10);

/// Bytes sent that make up for one frame without use: who takes them may ask how far they have got.
const WORTH: usize = 1024;

/// Frames that a DATA sent makes up for: the windows of its stream and the connection may be widened for each.
const ANSWERS: u32 = 2;

/// The length of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// RST_STREAM, and the length of the error code in it (RFC 9113 §6.4).
const RST_STREAM: u8 = 3;
const CODE: usize = 4;

/// What a peer has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It opens streams and resets them, or makes River do it.
    Resets,
    /// It sends frames that are of no use to any stream.
    Control,
}

/// Counts the frames of a connection as they pass, in both directions.
#[derive(Debug)]
pub(super) struct Meter {
    incoming: Heads,
    outgoing: Heads,
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
    /// The peer's first frame begins after `skip` bytes.
    pub(super) fn new(skip: usize, max_resets: u32, max_control: u32) -> Self {
        Self {
            incoming: Heads::after(skip),
            outgoing: Heads::after(0),
            max_resets,
            max_control,
            counted: Counts::default(),
            since: None,
        }
    }

    /// Passes on what was received.
    pub(super) fn received(&mut self, mut bytes: &[u8]) {
        while let Some(Head { kind, flags, length, .. }) = self.incoming.next(&mut bytes) {
            let ends = flags & 1 != 0;
            let counter = match kind {
                // HEADERS, and DATA with anything in it. Of many that are small the `h2` crate takes care.
                1 => &mut self.counted.useful,
                0 if length > 0 || ends => &mut self.counted.useful,
                RST_STREAM => &mut self.counted.resets,
                _ => &mut self.counted.control,
            };
            *counter = counter.saturating_add(1);
        }
    }

    /// Passes on what is written for the peer.
    pub(super) fn written(&mut self, mut bytes: &[u8]) {
        while let Some(Head { kind, code, .. }) = self.outgoing.next(&mut bytes) {
            match (kind, code.map(Reason::from)) {
                // None of these is the peer's doing.
                (RST_STREAM, Some(Reason::NO_ERROR | Reason::INTERNAL_ERROR | Reason::CANCEL)) => {}
                // Its HEADERS were of no use then.
                (RST_STREAM, Some(Reason::REFUSED_STREAM)) => {
                    self.counted.useful = self.counted.useful.saturating_sub(1);
                    self.counted.control = self.counted.control.saturating_add(1);
                }
                (RST_STREAM, _) => self.counted.resets = self.counted.resets.saturating_add(1),
                (0, _) => self.counted.useful = self.counted.useful.saturating_add(ANSWERS),
                _ => {}
            }
        }
    }

    /// So much was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        let worth = u32::try_from(bytes / WORTH).unwrap_or(u32::MAX);
        self.counted.useful = self.counted.useful.saturating_add(worth);
    }

    /// What there is too much of in the present count.
    pub(super) fn over(&self) -> Option<Excess> {
        let Counts { resets, control, useful } = self.counted;
        if resets > self.max_resets {
            Some(Excess::Resets)
        } else if control.saturating_sub(useful) > self.max_control {
            Some(Excess::Control)
        } else {
            None
        }
    }

    /// The same; begins another count when it is time.
    pub(super) fn excess(&mut self, now: Instant) -> Option<Excess> {
        let excess = self.over();
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN) {
            self.since = Some(now);
            self.counted = Counts::default();
        }
        excess
    }
}

/// What is known of a frame from its first bytes.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: u8,
    flags: u8,
    length: usize,
    /// The error code of a RST_STREAM.
    code: Option<u32>,
}

/// Reads the heads of frames as they pass in one direction.
#[derive(Debug)]
struct Heads {
    /// Bytes until the next frame's head.
    skip: usize,
    head: [u8; HEAD + CODE],
    /// How much of the head has come.
    have: usize,
}

impl Heads {
    /// The first frame begins after `skip` bytes.
    fn after(skip: usize) -> Self {
        Self { skip, head: [0; HEAD + CODE], have: 0 }
    }

    /// The next head that is complete with `bytes`, which is left with what follows it.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            *bytes = bytes.get(skipped..).unwrap_or_default();
            if bytes.is_empty() {
                return None;
            }
            let wanted = if self.have < HEAD { HEAD } else { HEAD + CODE };
            let (begin, rest) = bytes.split_at((wanted - self.have).min(bytes.len()));
            if let Some(to) = self.head.get_mut(self.have..self.have + begin.len()) {
                to.copy_from_slice(begin);
            }
            self.have += begin.len();
            *bytes = rest;
            if self.have < wanted {
                return None;
            }
            let [a, b, c, kind, flags, .., d, e, f, g] = self.head;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let has_code = kind == RST_STREAM && length == CODE;
            if has_code && wanted == HEAD {
                continue;
            }
            self.have = 0;
            self.skip = if has_code { 0 } else { length };
            return Some(Head {
                kind,
                flags,
                length,
                code: has_code.then(|| u32::from_be_bytes([d, e, f, g])),
            });
        }
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
            assert_eq!((resets, control, useful), (4, 12, 4), "in pieces of {piece}");
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

    #[test]
    fn of_what_is_written_the_resets_count_that_the_peer_brings_about() {
        let reset = |code: u32| [&[0, 0, 4, 3, 0, 0, 0, 0, 1][..], &code.to_be_bytes()].concat();
        // NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, CANCEL, and between them DATA.
        let mut bytes: Vec<u8> = [0, 1, 2, 3, 5, 8].into_iter().flat_map(reset).collect();
        bytes.extend(frame(200, 0, 0));
        bytes.extend((0..3).flat_map(|_| reset(7)));
        for piece in [1, 2, 9, 12, 13, 14, bytes.len()] {
            let mut meter = Meter::new(0, 10, 10);
            (0..3).for_each(|_| meter.received(&frame(4, 1, 5)));
            bytes.chunks(piece).for_each(|piece| meter.written(piece));
            let Counts { resets, control, useful } = meter.counted;
            assert_eq!((resets, control, useful), (3, 3, 2), "in pieces of {piece}");
        }
    }
}
