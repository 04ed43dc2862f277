//! The head and the trailers of a response in HTTP/2 as they are in HTTP/1.1.

use http::{HeaderMap, StatusCode, header};

/// How the body of a response goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// Byte for byte; its head says how long it is.
    Identity,
    /// In chunks, with trailers behind them.
    Chunked,
}

/// Appends the head of a response, final or interim, and says how its body is to follow.
///
/// `bodyless` is whether the request lets it have no body; `ended` whether the stream has ended with the head. A body of
/// unknown length goes in chunks, and so does one whose trailers are announced.
pub fn response(
    out: &mut Vec<u8>,
    status: StatusCode,
    fields: &HeaderMap,
    bodyless: bool,
    ended: bool,
) -> Body {
    let interim = status.is_informational();
    let forbidden = interim || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let sized = fields.contains_key(header::CONTENT_LENGTH);
    let body = match () {
        () if forbidden || bodyless || ended => Body::None,
        () if sized && !fields.contains_key(header::TRAILER) => Body::Identity,
        () => Body::Chunked,
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        if is_of_connection(name) || (*name == header::CONTENT_LENGTH && body == Body::Chunked) {
            continue;
        }
        field(out, name.as_str(), value.as_bytes());
    }
    match body {
        Body::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Body::None if !forbidden && !bodyless && !sized => out.extend_from_slice(b"Content-Length: 0\r\n"),
        Body::None | Body::Identity => {}
    }
    out.extend_from_slice(b"\r\n");
    body
}

/// Appends the head of a response that has made a WebSocket: 101 in HTTP/1.1, with the server's proof in its name.
pub(super) fn switching(out: &mut Vec<u8>, fields: &HeaderMap, proof: &str) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in fields {
        if !is_of_connection(name) && *name != header::CONTENT_LENGTH && *name != header::SEC_WEBSOCKET_ACCEPT
        {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    field(out, "Connection", b"upgrade");
    field(out, "Upgrade", b"websocket");
    field(out, "Sec-WebSocket-Accept", proof.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a body in chunks, behind the data of the last one.
pub fn trailers(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if !is_of_connection(name) {
            field(out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a field is about a connection in HTTP/1.1, where nothing that came in HTTP/2 has a say (RFC 9113 §8.2.2).
/// `h2` refuses most of them.
fn is_of_connection(name: &header::HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == header::TE
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
}
