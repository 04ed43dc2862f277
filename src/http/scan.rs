//! Takes start lines and field lines apart, in one pass over their bytes.
//!
//! Every line ends in CRLF, nothing is folded, and no byte is looked at that need not be: values go eight bytes at a time.

use super::bytes;
use super::fields::{self, Field, Known, Seen};
use super::request::Version;
use super::span::Span;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The method is no token.
    Method,
    /// The request target is empty or holds a control, a blank too many, or DEL.
    Target,
    /// The version is not one of HTTP/1.
    Version,
    /// The status is not three digits, or no space follows them.
    Status,
    /// A field's name is no token, or no colon follows it at once.
    Name,
    /// A field's value, or a reason phrase, holds a control.
    Value,
    /// A line ends in LF alone, or CR is not followed by LF.
    LineEnd,
    /// There are more fields than allowed.
    TooMany,
}

/// What came of a look at the begin of a head: `None` where the bytes end before the line or section does.
pub(super) type Scanned<T> = Result<Option<T>, Fault>;

/// A request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) version: Version,
    /// Where the next line begins.
    pub(super) end: usize,
}

/// A status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StatusLine {
    pub(super) version: Version,
    /// Three digits, whatever they say.
    pub(super) status: u16,
    pub(super) reason: Span,
    /// Where the next line begins.
    pub(super) end: usize,
}

/// Takes the request line apart that begins at `start` of `buf` (RFC 9112 §3).
pub(super) fn request_line(buf: &[u8], start: usize) -> Scanned<RequestLine> {
    let Some(blank) = find(buf, start, |byte| !bytes::is_token_byte(byte)) else { return Ok(None) };
    if blank == start || buf.get(blank) != Some(&b' ') {
        return Err(Fault::Method);
    }
    let begin = blank + 1;
    let Some(after) = find(buf, begin, |byte| byte <= b' ' || byte == DEL) else { return Ok(None) };
    if after == begin || buf.get(after) != Some(&b' ') {
        return Err(Fault::Target);
    }
    let Some((version, at)) = version(buf, after + 1)? else { return Ok(None) };
    let Some(end) = line_end(buf, at, Fault::Version)? else { return Ok(None) };
    Ok(Some(RequestLine { method: span(start, blank), target: span(begin, after), version, end }))
}

/// Takes the status line apart that `buf` begins with (RFC 9112 §4). The space before an empty reason phrase may be
/// missing, as many servers send it.
pub(super) fn status_line(buf: &[u8]) -> Scanned<StatusLine> {
    let Some((version, at)) = version(buf, 0)? else { return Ok(None) };
    let code = match buf.get(at..).unwrap_or_default() {
        [b' ', code @ ..] => code,
        [] => return Ok(None),
        _ => return Err(Fault::Version),
    };
    let mut status = 0;
    for nth in 0..3 {
        match code.get(nth) {
            Some(digit @ b'0'..=b'9') => status = status * 10 + u16::from(digit - b'0'),
            Some(_) => return Err(Fault::Status),
            None => return Ok(None),
        }
    }
    let begin = match code.get(3) {
        Some(b' ') => at + 5,
        Some(b'\r' | b'\n') => at + 4,
        Some(_) => return Err(Fault::Status),
        None => return Ok(None),
    };
    let Some(stop) = text_end(buf, begin) else { return Ok(None) };
    let Some(end) = line_end(buf, stop, Fault::Value)? else { return Ok(None) };
    Ok(Some(StatusLine { version, status, reason: span(begin, stop), end }))
}

/// Takes the field lines apart that begin at `start` of `buf`, up to the empty line that ends them, and puts them into
/// `found` instead of what that held; at most `max`. Returns where the empty line ends, and which fields there are.
pub(super) fn field_lines(
    buf: &[u8],
    start: usize,
    max: usize,
    found: &mut Vec<Field>,
) -> Scanned<(usize, Seen)> {
    found.clear();
    let mut seen = Seen::default();
    let mut at = start;
    loop {
        match buf.get(at..).unwrap_or_default() {
            [b'\r', b'\n', ..] => return Ok(Some((at + 2, seen))),
            [] | [b'\r'] => return Ok(None),
            [b'\r' | b'\n', ..] => return Err(Fault::LineEnd),
            _ if found.len() >= max => return Err(Fault::TooMany),
            _ => {}
        }
        let (name, known) = match name(buf, at)? {
            Some(found) => found,
            None => return Ok(None),
        };
        let colon = at + name.len();
        let Some(begin) = find(buf, colon + 1, |byte| !bytes::is_blank(byte)) else { return Ok(None) };
        let Some(stop) = text_end(buf, begin) else { return Ok(None) };
        let Some(end) = line_end(buf, stop, Fault::Value)? else { return Ok(None) };
        seen.note(known);
        let value = span(begin, trimmed(buf, begin, stop));
        found.push(Field { name: span(at, colon), value, known, drop: fields::drops(name, known) });
        at = end;
    }
}

const DEL: u8 = 0x7f;

/// The name of the field whose line begins at `at`, up to the colon.
#[inline]
fn name(buf: &[u8], at: usize) -> Scanned<(&[u8], Known)> {
    let text = buf.get(at..).unwrap_or_default();
    let Some(length) = name_end(text) else {
        // The bytes so far may already be no begin of a name.
        return if text.iter().all(|&byte| bytes::is_token_byte(byte)) { Ok(None) } else { Err(Fault::Name) };
    };
    let (name, rest) = text.split_at(length);
    if rest.first() != Some(&b':') {
        return Err(Fault::Name);
    }
    // What is known is a token, for it has no control.
    let known = Known::of(name);
    if known == Known::Other && !bytes::is_token(name) {
        return Err(Fault::Name);
    }
    Ok(Some((name, known)))
}

/// The first colon, blank or control.
#[inline]
fn name_end(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    let found = words.iter().enumerate().find_map(|(nth, word)| {
        let ends = marked(u64::from_le_bytes(*word), b'!', b':');
        (ends != 0).then(|| nth * 8 + (ends.trailing_zeros() / 8) as usize)
    });
    found.or_else(|| {
        let short = rest.iter().position(|&byte| byte < b'!' || byte == b':');
        short.map(|count| words.len() * 8 + count)
    })
}

/// `HTTP/1.0` or `HTTP/1.1` at `at`, and where it ends.
fn version(buf: &[u8], at: usize) -> Scanned<(Version, usize)> {
    let rest = buf.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(b"HTTP/1.1") => Ok(Some((Version::Http11, at + 8))),
        Some(b"HTTP/1.0") => Ok(Some((Version::Http10, at + 8))),
        None if b"HTTP/1.".starts_with(rest) => Ok(None),
        _ => Err(Fault::Version),
    }
}

/// Where the line goes on after the CRLF at `at`; anything but a line's end is `otherwise`.
fn line_end(buf: &[u8], at: usize, otherwise: Fault) -> Scanned<usize> {
    match buf.get(at..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(Some(at + 2)),
        [] | [b'\r'] => Ok(None),
        [b'\r' | b'\n', ..] => Err(Fault::LineEnd),
        _ => Err(otherwise),
    }
}

/// The first byte from `at` on that is as wanted.
#[inline]
fn find(buf: &[u8], at: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    buf.get(at..)?.iter().position(|&byte| wanted(byte)).map(|count| at + count)
}

/// The first byte from `at` on that may not stand in a field's value: a control other than the tab, or DEL
/// (RFC 9110 §5.5).
#[inline]
fn text_end(buf: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        let (words, rest) = buf.get(at..)?.as_chunks::<8>();
        let found = words.iter().enumerate().find_map(|(nth, word)| {
            let controls = marked(u64::from_le_bytes(*word), b' ', DEL);
            (controls != 0).then(|| nth * 8 + (controls.trailing_zeros() / 8) as usize)
        });
        let found = found.or_else(|| {
            let short = rest.iter().position(|&byte| byte < b' ' || byte == DEL);
            short.map(|count| words.len() * 8 + count)
        })?;
        at += found;
        if buf.get(at) != Some(&b'\t') {
            return Some(at);
        }
        at += 1;
    }
}

/// The high bit of every byte below `least`, at most 0x80, or equal to `other`. Bytes above the lowest that is marked may
/// be marked wrongly.
#[inline]
const fn marked(word: u64, least: u8, other: u8) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let low = word.wrapping_sub(ONES * least as u64) & !word;
    let unlike = word ^ (ONES * other as u64);
    let equal = unlike.wrapping_sub(ONES) & !unlike;
    (low | equal) & (ONES * 0x80)
}

/// Where the text from `begin` to `end` ends without the blanks behind it.
#[inline]
fn trimmed(buf: &[u8], begin: usize, end: usize) -> usize {
    let text = buf.get(begin..end).unwrap_or_default();
    match text.last() {
        Some(&last) if bytes::is_blank(last) => begin + bytes::trim(text).len(),
        _ => end,
    }
}

/// Heads are shorter than 4 GiB, so offsets fit.
#[inline]
const fn span(start: usize, end: usize) -> Span {
    Span::new(start as u32, end as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_is_found_wherever_it_stands() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'~'; length];
                    text[at] = byte;
                    let control = (byte < b' ' && byte != b'\t') || byte == DEL;
                    assert_eq!(text_end(&text, 0), control.then_some(at), "{byte:#x} at {at} of {length}");
                    let mut later = text.clone();
                    later.extend([b'\n', 0xff, 0x7f]);
                    assert_eq!(text_end(&later, 0), Some(if control { at } else { length }));
                }
            }
        }
    }

    #[test]
    fn bytes_beside_a_control_are_no_controls() {
        for before in 0..=u8::MAX {
            if (before < b' ' && before != b'\t') || before == DEL {
                continue;
            }
            let text = [before, before, b'\r', 0x80, 0xff, b' ', b'~', b'\t', before];
            assert_eq!(text_end(&text, 0), Some(2), "{before:#x}");
        }
    }
}
