//! Fixed answers that are whole HTTP responses.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::config::diagnostics::{Place, Report};
use crate::config::draft;
use crate::config::node::Spanned;
use crate::http::Known;
use crate::proxy::Respond;

/// Fields that describe the connection or the framing (RFC 9110 §7.6.1, RFC 9112 §6), and the date: River writes them
/// itself.
const OWN: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields of requests and of proxies, which say something untrue in a server's own answer.
const FOREIGN: [&str; 4] = ["host", "proxy-authenticate", "proxy-authorization", "via"];

pub(super) fn plan(draft: &draft::Respond, report: &mut Report<'_>) -> Respond {
    let number = draft.status.as_ref().and_then(|status| u16::try_from(status.value).ok());
    let status = number.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut first: HashMap<HeaderName, &Place> = HashMap::new();
    for (name, value) in &draft.headers {
        let Some((header, value)) = header(name, value, report) else { continue };
        match first.entry(header.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(&name.at);
                headers.push((header, value));
            }
            // The same text twice has been reported where the map was read.
            Entry::Occupied(first) if first.get().path == name.at.path => {}
            Entry::Occupied(first) => {
                report.error(&name.at, "the field is given twice").related(first.get(), "the same field");
            }
        }
    }
    let body = draft.body.as_ref().map(|body| body.value.clone().into_bytes()).unwrap_or_default();
    if let (Some(at), Some(given)) = (&draft.body, &draft.status)
        && !body.is_empty()
        && matches!(status.as_u16(), 204 | 205 | 304)
    {
        report
            .error(&at.at, format!("a response with status {} has no body", status.as_u16()))
            .related(&given.at, "the status");
    }
    Respond { status, headers, body }
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The name of a field that River is to write into requests.
pub(super) fn request_field(name: &Spanned<String>, report: &mut Report<'_>) -> Option<HeaderName> {
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    let Some(header) = header.filter(|_| name.bytes().all(is_token_byte)) else {
        report
            .error(&name.at, format!("{:?} is no name of a header field", name.value))
            .help("a name has letters, digits and any of !#$%&'*+-.^_`|~");
        return None;
    };
    // A field that River knows has its meaning already, in the eyes of servers that take `_` for `-` too.
    if Known::of(header.as_str().replace('_', "-").as_bytes()) != Known::Other {
        report
            .error(&name.at, format!("{header} has a meaning of its own"))
            .help("choose a name that nobody else uses, such as \"X-Client-Subject\"");
        return None;
    }
    Some(header)
}

fn header(
    name: &Spanned<String>,
    value: &Spanned<String>,
    report: &mut Report<'_>,
) -> Option<(HeaderName, HeaderValue)> {
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    let Some(header) = header.filter(|_| name.bytes().all(is_token_byte)) else {
        report
            .error(&name.at, format!("{:?} is no name of a header field", name.value))
            .help("a name has letters, digits and any of !#$%&'*+-.^_`|~");
        return None;
    };
    if OWN.contains(&header.as_str()) {
        report
            .error(&name.at, format!("{header} is written by River itself"))
            .note("fields about the connection and the framing of a message cannot be set, nor can its date");
        return None;
    }
    if FOREIGN.contains(&header.as_str()) {
        report.error(&name.at, format!("{header} is no field of a server's own answer"));
        return None;
    }
    // RFC 9110 §5.5: visible characters, with spaces and tabs within.
    let good = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    let padded = value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']);
    let parsed = HeaderValue::from_bytes(value.as_bytes()).ok();
    match parsed.filter(|_| value.bytes().all(good) && !padded) {
        Some(parsed) => Some((header, parsed)),
        None => {
            report
                .error(&value.at, format!("the value of {header} has characters that a header cannot carry"))
                .note("a value has no control characters and no space at its ends");
            None
        }
    }
}
