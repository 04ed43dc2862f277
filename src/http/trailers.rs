//! Trailer fields (RFC 9110 §6.5, RFC 9112 §7.1.2).

use super::bytes;
use super::reject::Reject;
use super::scan::{self, Fault};

/// Field lines in one trailer section.
const MAX_TRAILERS: usize = 64;

/// What no trailer may change after the fact: framing, routing, modifiers of the request, authentication, the
/// content's form, control data of the response (RFC 9110 §6.5.1), who the client is, and what concerns the
/// connection alone. In lower case.
const FORBIDDEN: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The trailers that may be forwarded, as names and values, from a `section` that [`ChunkDecoder`](super::ChunkDecoder)
/// found valid. Others are left out, as RFC 9110 §6.5.1 asks; lines that are no fields are too.
pub fn trailer_fields(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    section.split(|&byte| byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r")?;
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        (bytes::is_token(name) && is_allowed(name)).then(|| (name, bytes::trim(value)))
    })
}

/// Where `_` and `-` are the same to a server, a forbidden name is forbidden in either way.
fn is_allowed(name: &[u8]) -> bool {
    let same = |(given, forbidden): (&u8, u8)| {
        given.eq_ignore_ascii_case(&forbidden) || (*given == b'_' && forbidden == b'-')
    };
    !FORBIDDEN
        .iter()
        .any(|forbidden| forbidden.len() == name.len() && name.iter().zip(forbidden.bytes()).all(same))
}

/// Checks a whole `section`, the empty line at its end included, by the rules of a head's fields. That each line
/// ends in CRLF the caller has seen to.
///
/// # Errors
///
/// A line is no field, or there are more than 64 of them.
pub fn check_trailers(section: &[u8]) -> Result<(), Reject> {
    // Trailer sections are rare enough for a list of their own.
    match scan::field_lines(section, 0, MAX_TRAILERS, &mut Vec::new()) {
        Ok(Some((len, _))) if len == section.len() => Ok(()),
        Err(Fault::TooMany) => Err(Reject::bad_request("too many trailer fields")),
        _ => Err(Reject::bad_request("invalid trailer field")),
    }
}
