//! The `Connection` field, and what depends on it.

use super::bytes;
use super::fields::{Field, Known, Seen, values};

/// More names of fields than any honest client lists; it bounds the work of looking each of them up.
const MAX_NAMED: usize = 32;

/// What a head's `Connection` fields say (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// This message is the last in its direction.
    pub(super) close: bool,
    /// An HTTP/1.0 peer asks for the connection to persist.
    pub(super) keep_alive: bool,
    /// There is an `Upgrade` field and it is meant for this connection.
    pub(super) upgrade: bool,
}

/// Reads the `Connection` fields and marks what they name to be dropped.
///
/// An option that is no token names no field and is passed over.
#[inline]
pub(super) fn read(buf: &[u8], fields: &mut [Field], seen: Seen) -> Result<Options, &'static str> {
    if !seen.has(Known::Connection) {
        return Ok(Options::default());
    }
    read_all(buf, fields, seen)
}

fn read_all(buf: &[u8], fields: &mut [Field], seen: Seen) -> Result<Options, &'static str> {
    let mut options = Options::default();
    let mut named = 0;
    for at in 0..fields.len() {
        let Some(value) =
            fields.get(at).filter(|field| field.known == Known::Connection).map(|field| field.value)
        else {
            continue;
        };
        // Mostly it is one of these, and no list.
        match value.of(buf) {
            b"keep-alive" => {
                options.keep_alive = true;
                continue;
            }
            b"close" => {
                options.close = true;
                continue;
            }
            _ => {}
        }
        for option in bytes::list(value.of(buf)) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = seen.has(Known::Upgrade);
            } else {
                named += 1;
                if named > MAX_NAMED {
                    return Err("too many connection options");
                }
                drop_named(buf, fields, option);
            }
        }
    }
    Ok(options)
}

/// Conditions and ranges, which decide what a response means, beside the fields of [`Known::is_end_to_end`].
const END_TO_END: &[&str] = &[
    "content-range",
    "etag",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "range",
    "vary",
];

fn drop_named(buf: &[u8], fields: &mut [Field], name: &[u8]) {
    if END_TO_END.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes())) {
        return;
    }
    for field in fields {
        field.drop |= field.name.of(buf).eq_ignore_ascii_case(name) && !field.known.is_end_to_end();
    }
}

/// Whether the `Upgrade` fields name at least one protocol, and none that River must not let through.
///
/// `h2c` is not: a server that took it up would be spoken to past the proxy's eyes, in requests that it never sees.
pub(super) fn names_protocols(buf: &[u8], fields: &[Field]) -> bool {
    let mut protocols = 0;
    for protocol in values(fields, Known::Upgrade, buf).flat_map(bytes::list) {
        if protocol.eq_ignore_ascii_case(b"h2c") {
            return false;
        }
        protocols += 1;
    }
    protocols > 0
}
