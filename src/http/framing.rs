//! Where a body ends (RFC 9112 §6).

use super::bytes;
use super::fields::{Field, Known, Seen, values};

/// What delimits the body that follows a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes, at most 2^63 - 1.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// The end of the connection; only of a response.
    UntilClose,
}

/// What the framing fields of a head say, if they say one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stated {
    /// There are none.
    Nothing,
    /// One valid `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked` and nothing else.
    Chunked,
}

/// Framing fields that say nothing, or two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misstated {
    /// They are against the standard, or read differently by different parties.
    Invalid(&'static str),
    /// A transfer coding that River does not know.
    UnknownCoding,
}

/// Reads `Content-Length` and `Transfer-Encoding` of an HTTP/1.1 (or, with `old`, an HTTP/1.0) message.
///
/// Refused is what RFC 9112 §6.1 and §6.3 let a recipient repair: a repeated `Content-Length` even when all are
/// the same, and a `Content-Length` that `Transfer-Encoding` would override.
#[inline]
pub(super) fn read(buf: &[u8], fields: &[Field], seen: Seen, old: bool) -> Result<Stated, Misstated> {
    let (length, coding) = (seen.has(Known::ContentLength), seen.has(Known::TransferEncoding));
    if !length && !coding {
        return Ok(Stated::Nothing);
    }
    if length && coding {
        return Err(Misstated::Invalid("content-length together with transfer-encoding"));
    }
    if coding {
        if old {
            return Err(Misstated::Invalid("transfer-encoding in an http/1.0 message"));
        }
        return transfer_codings(buf, fields).map(|()| Stated::Chunked);
    }
    if seen.repeats(Known::ContentLength) {
        return Err(Misstated::Invalid("repeated content-length"));
    }
    values(fields, Known::ContentLength, buf)
        .next()
        .and_then(decimal)
        .map(Stated::Length)
        .ok_or(Misstated::Invalid("invalid content-length"))
}

/// Accepts the one coding `chunked`. It must be last and must not be applied twice (RFC 9112 §6.1).
fn transfer_codings(buf: &[u8], fields: &[Field]) -> Result<(), Misstated> {
    let (mut chunked, mut unknown) = (false, false);
    // Empty elements are not passed over as in other lists: what one party skips, another trips over.
    let codings =
        values(fields, Known::TransferEncoding, buf).flat_map(|value| value.split(|&byte| byte == b','));
    for coding in codings.map(bytes::trim) {
        if chunked {
            return Err(Misstated::Invalid("chunked is not the last transfer coding, or is repeated"));
        }
        chunked = coding.eq_ignore_ascii_case(b"chunked");
        let name = bytes::trim(coding.split(|&byte| byte == b';').next().unwrap_or_default());
        if !bytes::is_token(name) || (!chunked && name.eq_ignore_ascii_case(b"chunked")) {
            return Err(Misstated::Invalid("invalid transfer-encoding"));
        }
        unknown |= !chunked;
    }
    if unknown { Err(Misstated::UnknownCoding) } else { Ok(()) }
}

/// `1*DIGIT` up to 2^63 - 1: more would be negative to a peer that counts in signed numbers.
fn decimal(text: &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!text.is_empty() && value <= i64::MAX as u64).then_some(value)
}
