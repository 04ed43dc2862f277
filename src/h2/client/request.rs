//! The head of a request in HTTP/1.1 as one in HTTP/2 (RFC 9113 §8.3.1).

use std::fmt;

use bytes::Bytes;
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use crate::http::{Field, Framing, Known, Method, RequestHead, Target};

/// Why a request that is fine in HTTP/1.1 has no form in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The method is none.
    Method,
    /// The target cannot be a `:path`; one longer than 64 KiB cannot.
    Path,
    /// The host cannot be an `:authority`.
    Authority,
    /// A field's name or value, or how many there are.
    Field,
    /// It asks for a WebSocket, which the server does not let be made over HTTP/2.
    WebSocket,
}

/// What goes to the server as the head of a request that was parsed from `buf`.
///
/// What concerns the connection that it came on is left out (RFC 9113 §8.2.2), but for `te: trailers`. The authority
/// takes the place of `Host`. What a head says of its body's end, other than its length, is said by frames.
///
/// # Errors
///
/// [`Unsendable`] where HTTP/2 has no form for it.
pub fn request(buf: &[u8], head: &RequestHead, scheme: &Scheme) -> Result<Request<()>, Unsendable> {
    // One copy, of which all values are parts.
    let text = Bytes::copy_from_slice(buf.get(..head.len).unwrap_or(buf));
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme.clone());
    let authority = text.slice(within(head.authority().range(), &text));
    parts.authority = Some(Authority::from_maybe_shared(authority).map_err(|_| Unsendable::Authority)?);
    parts.path_and_query = Some(path(head, &text)?);
    let mut request = Request::new(());
    *request.method_mut() =
        http::Method::from_bytes(head.method_span.of(&text)).map_err(|_| Unsendable::Method)?;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Unsendable::Path)?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields(head, &text)?;
    Ok(request)
}

/// What goes to the server for a request that asks for a WebSocket: an extended CONNECT (RFC 8441 §4), which takes no key.
///
/// # Errors
///
/// [`Unsendable`] where HTTP/2 has no form for it.
pub fn websocket(buf: &[u8], head: &RequestHead, scheme: &Scheme) -> Result<Request<()>, Unsendable> {
    let mut request = request(buf, head, scheme)?;
    *request.method_mut() = http::Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request.headers_mut().remove(SEC_WEBSOCKET_KEY);
    Ok(request)
}

/// The key of a request that asks for a WebSocket (RFC 6455 §4.1); `None` for any other.
pub fn websocket_key<'a>(buf: &'a [u8], head: &RequestHead) -> Option<&'a [u8]> {
    let names = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(b"websocket");
    let mut protocols = head.fields.iter().filter(|field| field.known == Known::Upgrade);
    let asks = head.upgrade
        && head.method == Method::Get
        && head.framing == Framing::None
        && protocols.any(|field| field.value.of(buf).split(|&byte| byte == b',').any(names));
    let key = |field: &&Field| field.name.of(buf).eq_ignore_ascii_case(SEC_WEBSOCKET_KEY.as_bytes());
    head.fields.iter().filter(|_| asks).find(key).map(|field| field.value.of(buf))
}

const SEC_WEBSOCKET_KEY: &str = "sec-websocket-key";

fn path(head: &RequestHead, text: &Bytes) -> Result<PathAndQuery, Unsendable> {
    let (root, target) = head.origin_target(text);
    let path = match (root, head.form) {
        (b"", Target::Origin | Target::Asterisk) => {
            PathAndQuery::from_maybe_shared(text.slice(within(head.target.range(), text)))
        }
        _ => PathAndQuery::from_maybe_shared(Bytes::from([root, target].concat())),
    };
    path.map_err(|_| Unsendable::Path)
}

fn fields(head: &RequestHead, text: &Bytes) -> Result<HeaderMap, Unsendable> {
    let mut fields = HeaderMap::try_with_capacity(head.fields.len()).map_err(|_| Unsendable::Field)?;
    for sent in &head.fields {
        if sent.drop || matches!(sent.known, Known::Host | Known::TransferEncoding) {
            continue;
        }
        let name = HeaderName::from_bytes(sent.name.of(text)).map_err(|_| Unsendable::Field)?;
        let value = HeaderValue::from_maybe_shared(text.slice(within(sent.value.range(), text)));
        let value = value.map_err(|_| Unsendable::Field)?;
        fields.try_append(name, value).map_err(|_| Unsendable::Field)?;
    }
    if head.te_trailers {
        let trailers = HeaderValue::from_static("trailers");
        fields.try_insert(http::header::TE, trailers).map_err(|_| Unsendable::Field)?;
    }
    Ok(fields)
}

/// The range, if `text` has all of it: a span is of the buffer that it was found in, which `text` is a copy of.
fn within(range: std::ops::Range<usize>, text: &Bytes) -> std::ops::Range<usize> {
    if range.end <= text.len() && range.start <= range.end { range } else { 0..0 }
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "its method has no form in HTTP/2",
            Self::Path => "its target has no form in HTTP/2",
            Self::Authority => "its host has no form in HTTP/2",
            Self::Field => "its fields have no form in HTTP/2",
            Self::WebSocket => "the server has not offered WebSockets over HTTP/2 (RFC 8441)",
        })
    }
}

impl std::error::Error for Unsendable {}
