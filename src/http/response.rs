//! The head of a response.

use std::mem::MaybeUninit;

use super::connection;
use super::fields::{self, Field, Known, Seen};
use super::framing::{self, Framing, Misstated, Stated};
use super::partial::Partial;
use super::reject::{HeadLimits, Reject, Unparsed};
use super::request::{MAX_FIELDS, Method, Version};
use super::span::Span;

/// A response's head, as spans into the buffer that it was parsed from.
///
/// It is made once per connection and reused: its list of fields keeps its capacity. It means something only after
/// [`parse_response`] returned `Ok`.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Bytes from the buffer's begin to the end of the head.
    pub len: usize,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase; it may be empty and may hold bytes from 0x80 on.
    pub reason: Span,
    /// The server's protocol version.
    pub version: Version,
    /// The fields in the order received.
    pub fields: Vec<Field>,
    /// Whether the connection may be used again after this response (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// Whether the server changes protocols: 101 in HTTP/1.1, with `Connection: upgrade` and an `Upgrade` field that
    /// does not name `h2c`. A 101 without it is a fault of the server.
    pub upgrade: bool,
    /// The body that follows.
    pub framing: Framing,
    partial: Partial,
}

impl ResponseHead {
    /// Forgets what was parsed or half seen, and keeps the capacity.
    ///
    /// Needed only when an incomplete head is given up and the next call is about other bytes.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

/// Parses the head of a response to a `request` at the begin of `buf` and returns its length.
///
/// While the answer is `NeedMore`, call again with the same bytes and more. Every rejection has status 502. The body
/// is delimited after RFC 9112 §6.3, with nothing repaired: contradictory framing is refused. A space may be missing
/// after the status code when no reason follows, as many servers send it.
///
/// A 1xx with `Transfer-Encoding` is refused, since it is not clear where the next response begins. A 204 that
/// announces a body in either way is taken to have none, and its connection is not used again. A `Content-Length` of
/// either is to be dropped.
#[inline]
pub fn parse_response(
    buf: &[u8],
    limits: &HeadLimits,
    request: &Method,
    head: &mut ResponseHead,
) -> Result<usize, Unparsed> {
    if !head.partial.is_worth_parsing(buf, limits.max_bytes) {
        return Err(Unparsed::NeedMore);
    }
    let outcome = parse(buf, limits, *request, head);
    head.partial.note(&outcome, buf.len());
    outcome
}

fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    request: Method,
    head: &mut ResponseHead,
) -> Result<usize, Unparsed> {
    // Spans hold 32 bits.
    let max = limits.max_bytes.min(u32::MAX as usize);
    let buf = buf.get(..max).unwrap_or(buf);
    if let [b'\r' | b'\n', ..] = buf {
        return Err(Reject::bad_gateway("empty line before the response").into());
    }

    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let slots = slots.get_mut(..limits.max_fields.min(MAX_FIELDS)).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let len = match parser.parse_response_with_uninit_headers(&mut response, buf, slots) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if buf.len() >= max => {
            return Err(Reject::bad_gateway("response head too large").into());
        }
        Ok(httparse::Status::Partial) => return Err(Unparsed::NeedMore),
        Err(error) => return Err(refusal(error).into()),
    };

    head.len = len;
    head.status = response.code.unwrap_or_default();
    head.version = if response.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let Some(seen) = fields::collect(buf, len, response.headers, &mut head.fields) else {
        return Err(Reject::bad_gateway("line does not end in cr lf").into());
    };
    head.reason = reason(len, &head.fields);
    interpret(buf, request, head, seen)?;
    Ok(len)
}

/// The phrase lies after `HTTP/1.1 200 ` and before the end of the line. `httparse` hands out none with obs-text.
fn reason(len: usize, fields: &[Field]) -> Span {
    const BEGIN: u32 = 13;
    let next_line = fields.first().map_or(len.saturating_sub(2), |field| field.name.start());
    let end = next_line.saturating_sub(2) as u32;
    Span::new(BEGIN, end.max(BEGIN))
}

#[inline]
fn interpret(buf: &[u8], request: Method, head: &mut ResponseHead, seen: Seen) -> Result<(), Reject> {
    if !matches!(head.status, 100..=599) {
        return Err(Reject::bad_gateway("status out of range"));
    }
    let old = head.version == Version::Http10;
    let stated = match framing::read(buf, &head.fields, seen, old) {
        Ok(stated) => stated,
        Err(Misstated::Invalid(why)) => return Err(Reject::bad_gateway(why)),
        Err(Misstated::UnknownCoding) => return Err(Reject::bad_gateway("unknown transfer coding")),
    };
    let options = connection::read(buf, &mut head.fields, seen).map_err(Reject::bad_gateway)?;
    head.keep_alive = !options.close && (!old || options.keep_alive);
    head.upgrade =
        head.status == 101 && options.upgrade && !old && connection::names_protocols(buf, &head.fields);

    let is_interim = head.status < 200;
    if is_interim || head.status == 204 {
        if is_interim && stated == Stated::Chunked {
            return Err(Reject::bad_gateway("transfer-encoding in an interim response"));
        }
        // A server that announces a body may send it, and it must not be taken for the next response.
        if !is_interim && !matches!(stated, Stated::Nothing | Stated::Length(0)) {
            head.keep_alive = false;
        }
        let lengths = head.fields.iter_mut().filter(|field| field.known == Known::ContentLength);
        lengths.for_each(|field| field.drop = true);
    }
    head.framing = match stated {
        _ if is_interim || head.status == 204 || head.status == 304 || request == Method::Head => {
            Framing::None
        }
        Stated::Chunked => Framing::Chunked,
        Stated::Length(length) => Framing::Length(length),
        Stated::Nothing => {
            head.keep_alive = false;
            Framing::UntilClose
        }
    };
    Ok(())
}

#[cold]
fn refusal(error: httparse::Error) -> Reject {
    Reject::bad_gateway(match error {
        httparse::Error::HeaderName => "invalid field name",
        httparse::Error::HeaderValue => "invalid field value",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "invalid or unknown http version",
        httparse::Error::Token | httparse::Error::Status => "invalid status line",
        httparse::Error::NewLine => "invalid line end",
    })
}
