//! The head of a response.

use super::connection;
use super::fields::{Field, Known, Seen};
use super::framing::{self, Framing, Misstated, Stated};
use super::partial::Partial;
use super::reject::{HeadLimits, Reject, Unparsed};
use super::request::{MAX_FIELDS, Method, Version};
use super::scan::{self, Fault};
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

    let incomplete = || match buf.len() >= max {
        true => Reject::bad_gateway("response head too large").into(),
        false => Unparsed::NeedMore,
    };
    let line = scan::status_line(buf).map_err(refusal)?.ok_or_else(incomplete)?;
    let most = limits.max_fields.min(MAX_FIELDS);
    let (len, seen) =
        scan::field_lines(buf, line.end, most, &mut head.fields).map_err(refusal)?.ok_or_else(incomplete)?;

    head.len = len;
    head.status = line.status;
    head.version = line.version;
    head.reason = line.reason;
    interpret(buf, request, head, seen)?;
    Ok(len)
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
fn refusal(fault: Fault) -> Reject {
    Reject::bad_gateway(match fault {
        Fault::Name => "invalid field name",
        Fault::Value => "invalid field value",
        Fault::TooMany => "too many fields",
        Fault::Version => "invalid or unknown http version",
        Fault::Method | Fault::Target | Fault::Status => "invalid status line",
        Fault::LineEnd => "line does not end in cr lf",
    })
}
