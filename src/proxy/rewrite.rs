//! Writes the head that goes on from the head that came in: hop-by-hop fields out, River's own in.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::lines::Lines;
use crate::http::{Field, Framing, Known, Method, RequestHead, ResponseHead, Target, Version};
use crate::tls::ClientAuth;

/// What River adds to a request on its way to the server.
pub(super) struct RequestContext<'a> {
    /// What is said of the client.
    pub(super) forwarded: &'a Forwarded,
    /// The pseudonym for `Via`, where one is wanted.
    pub(super) via: Option<&'a [u8]>,
    /// The request came in HTTP/2.
    pub(super) http2: bool,
    /// The host, for a request that came without one (HTTP/1.0).
    pub(super) host: &'a str,
}

/// How a response's body goes to the client, and what becomes of the connection.
pub(super) struct ResponseContext<'a> {
    pub(super) via: Option<&'a [u8]>,
    /// How the body is framed on its way to the client.
    pub(super) framing: Framing,
    /// The connection stays open for another request.
    pub(super) keep_alive: bool,
    /// The client spoke HTTP/1.0, where staying open has to be said.
    pub(super) client_version: Version,
}

/// What is said of a client to the server with each of its requests, and what is not the client's to say.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    lines: Vec<u8>,
    client_auth: Option<Arc<ClientAuth>>,
}

impl Forwarded {
    /// `client` is its address; none where it came over a Unix socket. `secure` is whether it speaks TLS.
    pub(super) fn of(client: Option<IpAddr>, secure: bool) -> Self {
        let mut lines = Vec::new();
        if let Some(client) = client {
            // A client of a dual-stack socket is named by the address it has in its own family.
            field(&mut lines, b"X-Forwarded-For", client.to_canonical().to_string().as_bytes());
        }
        field(&mut lines, b"X-Forwarded-Proto", if secure { b"https" } else { b"http" });
        Self { lines, client_auth: None }
    }

    /// Adds what is said of the client's certificate, and keeps the client from saying it.
    pub(super) fn add_client(&mut self, auth: &Arc<ClientAuth>, lines: &[u8]) {
        self.lines.extend_from_slice(lines);
        self.client_auth = Some(Arc::clone(auth));
    }

    /// What was asked of the client's certificate, if anything was.
    pub(super) fn client_auth(&self) -> Option<Arc<ClientAuth>> {
        self.client_auth.clone()
    }

    fn hides(&self, name: &[u8]) -> bool {
        self.client_auth.as_ref().is_some_and(|auth| auth.hides(name))
    }
}

/// Whether a request has come through here so often that it goes round in circles.
///
/// Neighbours may share a pseudonym, so having been here once is no sign of it.
pub(super) fn is_loop(buf: &[u8], head: &RequestHead, pseudonym: &[u8]) -> bool {
    let values = head.fields.iter().filter(|sent| sent.known == Known::Via).map(|sent| sent.value.of(buf));
    let elements = values.flat_map(|value| value.split(|&byte| byte == b','));
    let passed = elements.filter(|element| {
        let mut words = element.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(pseudonym))
    });
    passed.count() > MOST_PASSES
}

/// More often than this, a request does not pass on its way to a server.
const MOST_PASSES: usize = 8;

/// How often a request may still be forwarded, where its method has a say in that (RFC 9110 §7.6.2). What is no number
/// says nothing.
pub(super) fn forwards_left(buf: &[u8], head: &RequestHead) -> Option<u64> {
    if !matches!(head.method, Method::Trace | Method::Options) {
        return None;
    }
    let fields = head.fields.iter().filter(|sent| sent.known == Known::MaxForwards);
    fields.filter_map(|sent| decimal(sent.value.of(buf))).min()
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Whether a request is one of gRPC, whose clients want to be told of failures in its own way.
pub(super) fn is_grpc(buf: &[u8], head: &RequestHead) -> bool {
    let mut types = head.fields.iter().filter(|sent| sent.known == Known::ContentType);
    types.next().and_then(|sent| sent.value.of(buf).split_at_checked(GRPC.len())).is_some_and(
        |(begin, rest)| begin.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';')),
    )
}

const GRPC: &[u8] = b"application/grpc";

/// Appends the head of the request that goes to the server; returns the length of its first line without the CRLF.
///
/// The target goes on as it was written, in origin form (RFC 9112 §3.2.1). `X-Forwarded-For`, `-Proto` and `-Host` that
/// a client sends are replaced, and the other fields of their kind left out: River trusts nobody's word for them.
pub(super) fn request(
    out: &mut Vec<u8>,
    buf: &[u8],
    head: &RequestHead,
    context: &RequestContext<'_>,
) -> usize {
    out.extend_from_slice(head.method_span.of(buf));
    out.push(b' ');
    let (root, target) = head.origin_target(buf);
    out.extend_from_slice(root);
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let line = out.len() - 2;
    let named = head.authority().of(buf);
    let host = if named.is_empty() { context.host.as_bytes() } else { named };
    // A target's authority beats `Host` (RFC 9112 §3.2.2).
    let as_sent = !named.is_empty() && !matches!(head.form, Target::Absolute { .. });
    if !as_sent {
        field(out, b"Host", host);
    }
    let forwards = forwards_left(buf, head);
    if let Some(left) = forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        number(out, left.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    let mut lines = Lines::new(out, buf);
    for sent in head.fields.iter().filter(|sent| !sent.drop) {
        match sent.known {
            Known::Host if !as_sent => {}
            Known::MaxForwards if forwards.is_some() => {}
            Known::TransferEncoding
            | Known::Expect
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XRealIp
            | Known::Forwarded => {}
            Known::Via if context.via.is_some() => {}
            Known::Other if context.forwarded.hides(sent.name.of(buf)) => {}
            // The one length that there is goes on as it is: framing was read from it.
            _ => lines.keep(sent),
        }
    }
    lines.finish();
    if let Some(pseudonym) = context.via {
        let received = if context.http2 { b"2.0 " } else { number_of(head.version) };
        via(out, buf, &head.fields, received, pseudonym);
    }
    out.extend_from_slice(&context.forwarded.lines);
    if !head.authority().is_empty() {
        out.extend_from_slice(b"X-Forwarded-Host: ");
        out.extend_from_slice(host);
        out.extend_from_slice(b"\r\n");
    }
    if head.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    // River passes trailers on to whoever it can send chunks to.
    if head.te_trailers && head.version == Version::Http11 {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
    if head.upgrade {
        upgrade(out, buf, &head.fields);
    }
    out.extend_from_slice(b"\r\n");
    line
}

/// Appends the head of the response that goes to the client.
pub(super) fn response(out: &mut Vec<u8>, buf: &[u8], head: &ResponseHead, context: &ResponseContext<'_>) {
    status_line(out, head.status, head.reason.of(buf));
    let switching = head.status == 101;
    let interim = head.status < 200;
    let mut dated = interim;
    let mut lines = Lines::new(out, buf);
    for sent in kept(head, context) {
        dated |= sent.known == Known::Date;
        lines.keep(sent);
    }
    lines.finish();
    if !dated {
        date(out);
    }
    if let Some(pseudonym) = context.via {
        via(out, buf, &head.fields, number_of(head.version), pseudonym);
    }
    if context.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    // A server that insists on another protocol has to say which (RFC 9110 §15.5.22).
    if switching || (head.status == 426 && head.fields.iter().any(|sent| sent.known == Known::Upgrade)) {
        upgrade(out, buf, &head.fields);
    }
    if !interim {
        connection(out, context.keep_alive, context.client_version);
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields of a response that go on to the client as they are.
#[inline]
pub(super) fn kept<'a>(
    head: &'a ResponseHead,
    context: &ResponseContext<'_>,
) -> impl Iterator<Item = &'a Field> {
    // The one length that there is goes on as it is, with the body that it tells of. What HEAD would have got, and what
    // 304 stands for, is the server's to say (RFC 9110 §8.6).
    let length = match context.framing {
        Framing::Length(_) => true,
        Framing::None => head.status >= 200 && head.status != 204,
        Framing::Chunked | Framing::UntilClose => false,
    };
    let via = context.via.is_none();
    head.fields.iter().filter(move |sent| match sent.known {
        _ if sent.drop => false,
        Known::ContentLength => length,
        Known::TransferEncoding => false,
        Known::Via => via,
        _ => true,
    })
}

/// Appends the status line of a response.
pub(super) fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends what the client must know of the connection's future; in HTTP/1.1 staying open goes without saying.
pub(super) fn connection(out: &mut Vec<u8>, keep_alive: bool, client_version: Version) {
    match (keep_alive, client_version) {
        (true, Version::Http11) => {}
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
    }
}

/// Appends `Date` (RFC 9110 §6.6.1).
pub(super) fn date(out: &mut Vec<u8>) {
    field(out, b"Date", httpdate::fmt_http_date(SystemTime::now()).as_bytes());
}

/// Appends `Content-Length`.
pub(super) fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends one field line.
pub(super) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends `Connection: upgrade` and the protocols that were named.
fn upgrade(out: &mut Vec<u8>, buf: &[u8], fields: &[Field]) {
    out.extend_from_slice(b"Connection: upgrade\r\n");
    for sent in fields.iter().filter(|sent| sent.known == Known::Upgrade) {
        field(out, b"Upgrade", sent.value.of(buf));
    }
}

pub(super) fn number_of(version: Version) -> &'static [u8; 4] {
    match version {
        Version::Http10 => b"1.0 ",
        Version::Http11 => b"1.1 ",
    }
}

/// Appends one `Via` that holds what came and River's own (RFC 9110 §7.6.3). `received` is the version's number.
fn via(out: &mut Vec<u8>, buf: &[u8], fields: &[Field], received: &[u8], pseudonym: &[u8]) {
    out.extend_from_slice(b"Via: ");
    via_value(out, buf, fields, received, pseudonym);
    out.extend_from_slice(b"\r\n");
}

/// Appends the value of that field.
pub(super) fn via_value(out: &mut Vec<u8>, buf: &[u8], fields: &[Field], received: &[u8], pseudonym: &[u8]) {
    for sent in fields.iter().filter(|sent| sent.known == Known::Via && !sent.drop) {
        out.extend_from_slice(sent.value.of(buf));
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(received);
    out.extend_from_slice(pseudonym);
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in [0, 1, 9, 10, 200, 65535, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn clients_are_named_by_their_address_in_its_own_family() {
        for (address, named) in
            [("127.0.0.1", "127.0.0.1"), ("2001:db8::5", "2001:db8::5"), ("::ffff:10.1.2.3", "10.1.2.3")]
        {
            let said = Forwarded::of(Some(address.parse().unwrap()), false).lines;
            let said = String::from_utf8(said).unwrap();
            assert!(said.starts_with(&format!("X-Forwarded-For: {named}\r\n")), "{said}");
        }
        assert_eq!(Forwarded::of(None, false).lines, b"X-Forwarded-Proto: http\r\n");
        assert_eq!(Forwarded::of(None, true).lines, b"X-Forwarded-Proto: https\r\n");
    }
}
