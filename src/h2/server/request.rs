//! A request's header block, written as a head in HTTP/1.1.
//!
//! What RFC 9113 §8 forbids and the `h2` crate lets pass is refused here. What is written goes through the parser of
//! HTTP/1.1 as well, which has the last word: a field's syntax, a target, a host that it refuses does not get further.

use std::fmt;

use ::h2::ext::Protocol;
use ::http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName};
use ::http::{Method, request::Parts};

use crate::http::check_trailers;

/// How a request's body is written behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// There is none.
    Nothing,
    /// Byte for byte; the head tells its length.
    Identity,
    /// In chunks.
    Chunked,
}

/// A header block that is no request; RFC 9113 §8.1.1 has the stream reset with PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub(super) &'static str);

/// What was written, as far as the stream has to remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) coding: Coding,
    /// It asks for a WebSocket (RFC 8441).
    pub(super) websocket: bool,
}

/// The field that a WebSocket's client proves the server's understanding with, which HTTP/2 does without.
const SEC_WEBSOCKET_KEY: &str = "sec-websocket-key";

/// Appends the head of a request in HTTP/1.1.
///
/// `ends` is whether the header block is all of the request. `key` makes the `Sec-WebSocket-Key` of a request for a
/// WebSocket, which becomes the GET that HTTP/1.1 asks with (RFC 8441 §5). A CONNECT of any other kind stays one, for the
/// parser to refuse.
///
/// # Errors
///
/// The request is malformed. What was written by then is of no use.
pub(super) fn write(
    out: &mut Vec<u8>,
    parts: &Parts,
    ends: bool,
    key: impl FnOnce(&mut Vec<u8>),
) -> Result<Written, Malformed> {
    let authority = authority(parts)?;
    if parts.method == Method::CONNECT {
        let websocket =
            parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket");
        if !websocket {
            out.extend_from_slice(b"CONNECT ");
            out.extend_from_slice(authority.unwrap_or_default());
            out.extend_from_slice(b" HTTP/1.1\r\n");
            field(out, b"host", authority.unwrap_or_default());
            out.extend_from_slice(b"\r\n");
            return Ok(Written { coding: Coding::Nothing, websocket: false });
        }
        start(out, b"GET", target(parts)?, authority);
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
        out.extend_from_slice(SEC_WEBSOCKET_KEY.as_bytes());
        out.extend_from_slice(b": ");
        key(out);
        out.extend_from_slice(b"\r\n");
        let omitted = |name: &HeaderName| name == CONTENT_LENGTH || name.as_str() == SEC_WEBSOCKET_KEY;
        fields(out, &parts.headers, omitted)?;
        out.extend_from_slice(b"\r\n");
        // What comes behind the head is the tunnel's.
        return Ok(Written { coding: Coding::Identity, websocket: true });
    }
    start(out, parts.method.as_str().as_bytes(), target(parts)?, authority);
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Malformed("repeated content-length"));
    }
    fields(out, &parts.headers, |_| false)?;
    let coding = match length {
        _ if ends => Coding::Nothing,
        Some(_) => Coding::Identity,
        None => Coding::Chunked,
    };
    if coding == Coding::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    // RFC 9110 §8.6: where content is expected, its want is to be said. In HTTP/2 the end of the stream says it.
    let anticipates = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if ends && length.is_none() && anticipates {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Written { coding, websocket: false })
}

/// Appends a trailer section, with the empty line that ends it.
///
/// # Errors
///
/// The fields are malformed, or would be in HTTP/1.1: the `http` crate takes names that are no tokens. Fields of the
/// connection and pseudo-fields the `h2` crate has refused or dropped.
pub(super) fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) -> Result<(), Malformed> {
    let begin = out.len();
    for (name, value) in trailers {
        field(out, name.as_str().as_bytes(), valid(value.as_bytes())?);
    }
    out.extend_from_slice(b"\r\n");
    check_trailers(out.get(begin..).unwrap_or_default()).map_err(|reject| Malformed(reject.why))
}

fn start(out: &mut Vec<u8>, method: &[u8], target: &[u8], authority: Option<&[u8]>) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        field(out, b"host", authority);
    }
}

/// `:path` (RFC 9113 §8.3.1). A form that HTTP/1.1 would read as a URI of its own, with another host, is refused.
fn target(parts: &Parts) -> Result<&[u8], Malformed> {
    if parts.uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Malformed("scheme is neither http nor https"));
    }
    let path = parts.uri.path_and_query().ok_or(Malformed("missing path"))?.as_str().as_bytes();
    match path {
        [b'/', ..] => {}
        b"*" if parts.method == Method::OPTIONS => {}
        _ => return Err(Malformed("path does not begin with a slash")),
    }
    if path.iter().all(u8::is_ascii_graphic) {
        Ok(path)
    } else {
        Err(Malformed("invalid character in the path"))
    }
}

/// `:authority`, or the value of `Host` where there is none. Where both are there they have to be the same
/// (RFC 9113 §8.3.1).
fn authority(parts: &Parts) -> Result<Option<&[u8]>, Malformed> {
    let named = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next().map(|host| valid(host.as_bytes())).transpose()?;
    if hosts.next().is_some() {
        return Err(Malformed("repeated host"));
    }
    match (named, host) {
        (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => {
            Err(Malformed("host differs from authority"))
        }
        (named, host) => Ok(named.or(host)),
    }
}

fn fields(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    omitted: impl Fn(&HeaderName) -> bool,
) -> Result<(), Malformed> {
    let mut cookies = false;
    for (name, value) in headers {
        if name == HOST || omitted(name) {
            continue;
        }
        let value = valid(value.as_bytes())?;
        if name != COOKIE {
            field(out, name.as_str().as_bytes(), value);
        } else if !cookies {
            cookies = true;
            cookie(out, headers)?;
        }
    }
    Ok(())
}

/// Joins the crumbs of a cookie (RFC 9113 §8.2.3).
fn cookie(out: &mut Vec<u8>, headers: &HeaderMap) -> Result<(), Malformed> {
    out.extend_from_slice(b"cookie: ");
    for (at, crumb) in headers.get_all(COOKIE).iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(valid(crumb.as_bytes())?);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// A field's value without what RFC 9113 §8.2.1 forbids.
fn valid(value: &[u8]) -> Result<&[u8], Malformed> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    if value.first().is_some_and(is_blank) || value.last().is_some_and(is_blank) {
        return Err(Malformed("field value begins or ends with white space"));
    }
    // The `h2` crate makes no value with one of these. Here is where it would do harm.
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(Malformed("invalid character in a field value"));
    }
    Ok(value)
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
