//! Classes of bytes, and the list syntax that fields share.

const TOKEN: u8 = 1;
const HOST: u8 = 2;
const TARGET: u8 = 4;
const HEX: u8 = 8;

/// One lookup per byte: the classes that it belongs to.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        let mut class = 0;
        if byte.is_ascii_alphanumeric() {
            class |= TOKEN | HOST;
        }
        if byte.is_ascii_hexdigit() {
            class |= HEX;
        }
        if matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        ) {
            class |= TOKEN;
        }
        // RFC 3986 §3.2.2: unreserved and sub-delims; the percent sign is looked at apart. The comma is left out: no host
        // has one, and a server that joins fields of one name would take the part before it for the host.
        if matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
        ) {
            class |= HOST;
        }
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'%') {
            class |= TARGET;
        }
        table[byte as usize] = class;
        byte += 1;
    }
    table
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    class(byte) & TOKEN != 0
}

/// Whether `text` is a token: not empty, of token bytes only.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `text` has only bytes of a registered name or an IPv4 address, percent-encoding included.
pub(super) fn is_host_text(text: &[u8]) -> bool {
    is_uri_text(text, HOST)
}

/// Whether `text` has only bytes that are let through in a request target, and every `%` begins a triplet.
pub(super) fn is_target_text(text: &[u8]) -> bool {
    is_uri_text(text, TARGET)
}

fn is_uri_text(text: &[u8], wanted: u8) -> bool {
    // No branch per byte in the common case, which has nothing percent-encoded.
    let common = text.iter().fold(0xff, |all, &byte| all & class(byte));
    common & wanted != 0 || has_only_triplets(text, wanted)
}

#[cold]
fn has_only_triplets(text: &[u8], wanted: u8) -> bool {
    let mut rest = text;
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, after @ ..] if class(*high) & class(*low) & HEX != 0 => rest = after,
            [byte, after @ ..] if class(*byte) & wanted != 0 => rest = after,
            _ => return false,
        }
    }
}

#[inline]
fn class(byte: u8) -> u8 {
    CLASS[usize::from(byte)]
}

/// Whether `byte` is optional white space (RFC 9110 §5.6.3).
#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// `text` without blanks at either end.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

/// The elements of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1.2).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}
