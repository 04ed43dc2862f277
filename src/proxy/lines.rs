//! Copies field lines that go on unchanged, neighbours together.

use crate::http::Field;

/// Copies field lines from a head to the one that is being written.
///
/// A line in its plainest form, `name: value`, is copied as it stands, and together with its neighbours: most of a head
/// goes in one or two pieces. Any other white space around a value is written anew.
pub(super) struct Lines<'a> {
    out: &'a mut Vec<u8>,
    buf: &'a [u8],
    /// The lines that are to be copied next.
    start: usize,
    end: usize,
}

impl<'a> Lines<'a> {
    /// `buf` is what the fields were parsed from. What is kept is complete in `out` after [`finish`](Self::finish).
    pub(super) fn new(out: &'a mut Vec<u8>, buf: &'a [u8]) -> Self {
        Self { out, buf, start: 0, end: 0 }
    }

    /// Keeps a field. Fields are kept in the order in which they came.
    #[inline]
    pub(super) fn keep(&mut self, field: &Field) {
        let (name, value) = (field.name.range(), field.value.range());
        let plain = value.start == name.end + 2
            && self.buf.get(value.end..value.end + 2) == Some(b"\r\n")
            && self.buf.get(name.end..value.start) == Some(b": ");
        if !plain {
            self.copy();
            super::rewrite::field(self.out, field.name.of(self.buf), field.value.of(self.buf));
        } else if name.start == self.end {
            self.end = value.end + 2;
        } else {
            self.copy();
            (self.start, self.end) = (name.start, value.end + 2);
        }
    }

    /// Copies what is left.
    pub(super) fn finish(mut self) {
        self.copy();
    }

    fn copy(&mut self) {
        self.out.extend_from_slice(self.buf.get(self.start..self.end).unwrap_or_default());
        (self.start, self.end) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, RequestHead, parse_request};

    fn kept(text: &str, keep: impl Fn(&[u8]) -> bool) -> String {
        let mut head = RequestHead::default();
        let limits = HeadLimits { max_bytes: 1000, max_fields: 100 };
        parse_request(text.as_bytes(), &limits, &mut head).unwrap();
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, text.as_bytes());
        head.fields
            .iter()
            .filter(|field| keep(field.name.of(text.as_bytes())))
            .for_each(|field| lines.keep(field));
        lines.finish();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_lines_go_as_they_are_and_others_are_made_plain() {
        let text = "GET / HTTP/1.1\r\nhost: a\r\nOne: 1\r\nTwo:2\r\nThree:   3 \r\nFour: 4\r\nFive:\r\nSix: \r\n\r\n";
        let all = "host: a\r\nOne: 1\r\nTwo: 2\r\nThree: 3\r\nFour: 4\r\nFive: \r\nSix: \r\n";
        assert_eq!(kept(text, |_| true), all);
    }

    #[test]
    fn what_is_left_out_between_others_is_left_out() {
        let text = "GET / HTTP/1.1\r\nhost: a\r\nOne: 1\r\nTwo: 2\r\nThree: 3\r\n\r\n";
        assert_eq!(kept(text, |name| name != b"One"), "host: a\r\nTwo: 2\r\nThree: 3\r\n");
        assert_eq!(kept(text, |name| name != b"host" && name != b"Three"), "One: 1\r\nTwo: 2\r\n");
        assert_eq!(kept(text, |_| false), "");
    }
}
