//! Request targets and hosts (RFC 9112 §3.2, RFC 3986 §3.2).

use std::net::Ipv6Addr;
use std::str;

use super::bytes;
use super::request::Method;
use super::span::Span;

/// The form of a request's target. The authority-form belongs to CONNECT, which is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://authority/path?query`, or `https`.
    Absolute {
        /// Host and port; it replaces the `Host` field (RFC 9112 §3.2.2).
        authority: Span,
        /// Path and query: from the first `/` or `?` on, or empty.
        path: Span,
    },
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// Finds the form of the target at `span` in `buf`.
///
/// Let through unencoded are, besides the characters of RFC 3986, those that clients do send in queries: `|`, `[`,
/// `]`, `{`, `}`, `^` and the backtick. Refused are controls, blanks, bytes from 0x7f on, `"`, `<`, `>`, `\`,
/// fragments, and a `%` that two hexadecimal digits do not follow. Of an absolute form, schemes other than `http` and
/// `https`, an empty host, and userinfo.
pub(super) fn parse(buf: &[u8], span: Span, method: Method) -> Result<Target, &'static str> {
    let text = span.of(buf);
    if !bytes::is_target_text(text) {
        return Err("invalid character in the request target");
    }
    match text {
        [b'/', ..] => Ok(Target::Origin),
        b"*" if method == Method::Options => Ok(Target::Asterisk),
        _ => absolute(buf, text),
    }
}

fn absolute(buf: &[u8], text: &[u8]) -> Result<Target, &'static str> {
    const INVALID: &str = "invalid request target";
    let colon = text.iter().position(|&byte| byte == b':').ok_or(INVALID)?;
    let (scheme, rest) = text.split_at(colon);
    let rest = rest.strip_prefix(b"://").ok_or(INVALID)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err("invalid scheme in the request target");
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !is_authority(authority) {
        return Err("invalid authority in the request target");
    }
    Ok(Target::Absolute { authority: Span::locate(authority, buf), path: Span::locate(path, buf) })
}

/// Whether `text` is `uri-host [ ":" port ]` with a host that is not empty and a port, if any, below 65,536.
///
/// Userinfo is not part of it, since `@` is no character of a host. Of the IP literals only IPv6 addresses are
/// taken, without a zone.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let port = match text {
        [b'[', literal @ ..] => {
            let Some(end) = literal.iter().position(|&byte| byte == b']') else { return false };
            let (address, port) = literal.split_at(end);
            if !str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
                return false;
            }
            port.get(1..).unwrap_or_default()
        }
        _ => {
            let end = text.iter().position(|&byte| byte == b':').unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            if host.is_empty() || !bytes::is_host_text(host) {
                return false;
            }
            port
        }
    };
    match port {
        [] => true,
        [b':', digits @ ..] => is_port(digits),
        _ => false,
    }
}

/// The standard lets a port be empty (RFC 3986 §3.2.3).
fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= 0xffff
}
