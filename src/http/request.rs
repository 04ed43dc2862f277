//! The head of a request.

use super::bytes;
use super::connection;
use super::fields::{Field, Known, Seen, values};
use super::framing::{self, Framing, Misstated, Stated};
use super::partial::Partial;
use super::reject::{HeadLimits, Reject, Unparsed};
use super::scan::{self, Fault};
use super::span::Span;
use super::target::{self, Target};

/// Field lines in one head, whatever the limits say.
pub(super) const MAX_FIELDS: usize = 1000;

/// Bytes of a method; a longer one is none that any server implements (RFC 9112 §3.1).
const MAX_METHOD: usize = 32;

/// The protocol version of a message. Any other is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// A request's method. Methods are case-sensitive: `get` is `Other`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    #[default]
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
    /// TRACE.
    Trace,
    /// PATCH.
    Patch,
    /// CONNECT; never of a parsed request.
    Connect,
    /// Any other token of at most 32 bytes.
    Other,
}

impl Method {
    /// The method that `token` names.
    #[inline]
    pub fn of(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether sending it twice is meant to do the same as sending it once (RFC 9110 §9.2.2).
    #[inline]
    pub const fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace | Self::Put | Self::Delete)
    }
}

/// A request's head, as spans into the buffer that it was parsed from.
///
/// It is made once per connection and reused: its list of fields keeps its capacity. It means something only after
/// [`parse_request`] returned `Ok`.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// Bytes from the buffer's begin to the end of the head.
    pub len: usize,
    /// The method.
    pub method: Method,
    /// The method as received.
    pub method_span: Span,
    /// The request target as received.
    pub target: Span,
    /// The target's form.
    pub form: Target,
    /// The client's protocol version.
    pub version: Version,
    /// The fields in the order received.
    pub fields: Vec<Field>,
    /// The body that follows; never `UntilClose`.
    pub framing: Framing,
    /// Whether the client wants another response on this connection (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body; only HTTP/1.1.
    pub expect_continue: bool,
    /// Whether the client offers to change protocols: HTTP/1.1, `Connection: upgrade`, and an `Upgrade` field that
    /// does not name `h2c`. Where it is false, an `Upgrade` field is to be ignored; it is marked to be dropped anyway.
    pub upgrade: bool,
    /// Whether `TE` lists `trailers`. The field itself is marked to be dropped.
    pub te_trailers: bool,
    /// The value of `Host`; empty only without one in HTTP/1.0.
    pub host: Span,
    partial: Partial,
}

impl RequestHead {
    /// Forgets what was parsed or half seen, and keeps the capacity.
    ///
    /// Needed only when an incomplete head is given up and the next call is about other bytes.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Host and port that the request is for: those of the target if it has any, else the value of `Host`
    /// (RFC 9112 §3.2.2). This is what the forwarded `Host` must say.
    #[inline]
    pub fn authority(&self) -> Span {
        match self.form {
            Target::Absolute { authority, .. } => authority,
            Target::Origin | Target::Asterisk => self.host,
        }
    }

    /// The target in the form that a server is sent, in two parts to be written one after the other
    /// (RFC 9112 §3.2.1, §3.2.4). The first is mostly empty.
    #[inline]
    pub fn origin_target<'a>(&self, buf: &'a [u8]) -> (&'static [u8], &'a [u8]) {
        match self.form {
            Target::Origin | Target::Asterisk => (b"", self.target.of(buf)),
            Target::Absolute { path, .. } => match path.of(buf) {
                [] if self.method == Method::Options => (b"*", b""),
                path @ ([] | [b'?', ..]) => (b"/", path),
                path => (b"", path),
            },
        }
    }
}

/// Parses the head of a request at the begin of `buf` and returns its length.
///
/// One empty line before it is passed over (RFC 9112 §2.2). While the answer is `NeedMore`, call again with the same
/// bytes and more; a head never needs more than `limits.max_bytes`. Rejected is, with the status given:
/// - 400: what RFC 9112 does not allow, repairs it lets a server make included: a line that does not end in CRLF,
///   line folding, framing fields that are repeated or contradict each other, `Host` missing (HTTP/1.1), repeated, or
///   not a host and port. An empty `Host` is refused too, since an `http` URI without a host is invalid
///   (RFC 9110 §4.2.1);
/// - 414: `max_bytes` without an end of the request line; 431: a head that is larger, or has too many fields;
/// - 417: an expectation other than `100-continue`;
/// - 501: CONNECT (not 405, whose `Allow` only the origin could fill), a method of more than 32 bytes, an unknown
///   transfer coding;
/// - 505: a version other than 1.0 and 1.1, the preface of HTTP/2 included.
#[inline]
pub fn parse_request(buf: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Result<usize, Unparsed> {
    if !head.partial.is_worth_parsing(buf, limits.max_bytes) {
        return Err(Unparsed::NeedMore);
    }
    let outcome = parse(buf, limits, head);
    head.partial.note(&outcome, buf.len());
    outcome
}

fn parse(buf: &[u8], limits: &HeadLimits, head: &mut RequestHead) -> Result<usize, Unparsed> {
    // Spans hold 32 bits.
    let max = limits.max_bytes.min(u32::MAX as usize);
    let buf = buf.get(..max).unwrap_or(buf);
    let text = match buf {
        [b'\r', b'\n', text @ ..] => text,
        _ => buf,
    };
    match text {
        // It may become the one that is passed over.
        b"\r" if text.len() == buf.len() => return Err(incomplete(text, buf.len() >= max)),
        [b'\r' | b'\n', ..] => return Err(Reject::bad_request("empty line before the request").into()),
        _ => {}
    }

    let start = buf.len() - text.len();
    let line = match scan::request_line(buf, start) {
        Ok(Some(line)) => line,
        Ok(None) => return Err(incomplete(text, buf.len() >= max)),
        Err(fault) => return Err(refusal(fault, text).into()),
    };
    let (len, seen) =
        match scan::field_lines(buf, line.end, limits.max_fields.min(MAX_FIELDS), &mut head.fields) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(incomplete(text, buf.len() >= max)),
            Err(fault) => return Err(refusal(fault, text).into()),
        };

    head.len = len;
    head.method = Method::of(line.method.of(buf));
    head.method_span = line.method;
    head.target = line.target;
    head.version = line.version;
    interpret(buf, head, seen)?;
    Ok(len)
}

/// What the start line and the fields mean, once each is well-formed.
#[inline]
fn interpret(buf: &[u8], head: &mut RequestHead, seen: Seen) -> Result<(), Reject> {
    if head.method == Method::Connect {
        return Err(Reject::new(501, "connect is not supported"));
    }
    if head.method_span.len() > MAX_METHOD {
        return Err(Reject::new(501, "method too long"));
    }
    head.form = target::parse(buf, head.target, head.method).map_err(Reject::bad_request)?;
    head.host = host(buf, head, seen).map_err(Reject::bad_request)?;

    let old = head.version == Version::Http10;
    head.framing = match framing::read(buf, &head.fields, seen, old) {
        Ok(Stated::Nothing) => Framing::None,
        Ok(Stated::Length(length)) => Framing::Length(length),
        Ok(Stated::Chunked) => Framing::Chunked,
        Err(Misstated::Invalid(why)) => return Err(Reject::bad_request(why)),
        Err(Misstated::UnknownCoding) => return Err(Reject::new(501, "unknown transfer coding")),
    };

    let options = connection::read(buf, &mut head.fields, seen).map_err(Reject::bad_request)?;
    head.keep_alive = !options.close && (!old || options.keep_alive);
    head.upgrade = options.upgrade && !old && connection::names_protocols(buf, &head.fields);
    head.expect_continue = seen.has(Known::Expect) && expects_continue(buf, &mut head.fields, old)?;
    head.te_trailers = seen.has(Known::Te)
        && values(&head.fields, Known::Te, buf)
            .flat_map(bytes::list)
            .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    Ok(())
}

fn host(buf: &[u8], head: &RequestHead, seen: Seen) -> Result<Span, &'static str> {
    if seen.repeats(Known::Host) {
        return Err("repeated host");
    }
    match head.fields.iter().find(|field| field.known == Known::Host) {
        Some(field) if target::is_authority(field.value.of(buf)) => Ok(field.value),
        Some(_) => Err("invalid host"),
        None if head.version == Version::Http10 => Ok(Span::EMPTY),
        None => Err("missing host"),
    }
}

/// An HTTP/1.0 client's expectation must be ignored (RFC 9110 §10.1.1), and so not be passed on as if by another.
#[cold]
fn expects_continue(buf: &[u8], fields: &mut [Field], old: bool) -> Result<bool, Reject> {
    if old {
        fields.iter_mut().filter(|field| field.known == Known::Expect).for_each(|field| field.drop = true);
        return Ok(false);
    }
    let mut expected = false;
    for expectation in values(fields, Known::Expect, buf).flat_map(bytes::list) {
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Reject::new(417, "unknown expectation"));
        }
        expected = true;
    }
    Ok(expected)
}

/// What to say of a valid begin; `full` when there cannot be more.
#[cold]
fn incomplete(text: &[u8], full: bool) -> Unparsed {
    let method = text.iter().take(MAX_METHOD + 1).take_while(|&&byte| bytes::is_token_byte(byte)).count();
    if method > MAX_METHOD {
        return Reject::new(501, "method too long").into();
    }
    if !full {
        return Unparsed::NeedMore;
    }
    if text.contains(&b'\n') {
        Reject::new(431, "request head too large").into()
    } else {
        Reject::new(414, "request line too long").into()
    }
}

#[cold]
fn refusal(fault: Fault, text: &[u8]) -> Reject {
    match fault {
        Fault::Method => Reject::bad_request("invalid method"),
        Fault::Target => Reject::bad_request("invalid character in the request target"),
        Fault::Version if is_other_version(text) => Reject::new(505, "unknown http version"),
        Fault::Version | Fault::Status => Reject::bad_request("invalid http version"),
        Fault::Name => Reject::bad_request("invalid field name"),
        Fault::Value => Reject::bad_request("invalid field value"),
        Fault::LineEnd => Reject::bad_request("line does not end in cr lf"),
        Fault::TooMany => Reject::new(431, "too many fields"),
    }
}

/// Whether the third word of the request line is a version, or as far as it has arrived the begin of one.
fn is_other_version(text: &[u8]) -> bool {
    let line_end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let line = text.get(..line_end.unwrap_or(text.len())).unwrap_or_default();
    let version = line.splitn(3, |&byte| byte == b' ').nth(2).unwrap_or_default();
    let is_like = |(at, byte): (usize, &u8)| match at {
        5 | 7 => byte.is_ascii_digit(),
        _ => b"HTTP/1.1".get(at) == Some(byte),
    };
    (version.len() == 8 || line_end.is_none()) && version.iter().enumerate().all(is_like)
}
