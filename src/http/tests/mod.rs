//! Tests of the whole room.

mod chunked;
mod generate;
mod properties;
mod request;
mod response;
mod timing;
mod trailers;

use super::{Field, HeadLimits, Method, Reject, RequestHead, ResponseHead, Unparsed};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 8 << 10, max_fields: 100 };

fn request(text: &[u8]) -> Result<RequestHead, Unparsed> {
    let mut head = RequestHead::default();
    super::parse_request(text, &LIMITS, &mut head).map(|len| {
        assert_eq!(len, head.len);
        head
    })
}

fn response(text: &[u8], method: Method) -> Result<ResponseHead, Unparsed> {
    let mut head = ResponseHead::default();
    super::parse_response(text, &LIMITS, &method, &mut head).map(|len| {
        assert_eq!(len, head.len);
        head
    })
}

/// The status of a rejection; 0 for `NeedMore`, 200 for a head.
fn status<T>(outcome: &Result<T, Unparsed>) -> u16 {
    match outcome {
        Ok(_) => 200,
        Err(Unparsed::NeedMore) => 0,
        Err(Unparsed::Reject(Reject { status, .. })) => *status,
    }
}

fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// The names of the fields that are forwarded.
fn kept<'a>(fields: &[Field], buf: &'a [u8]) -> Vec<&'a str> {
    let kept = fields.iter().filter(|field| !field.drop);
    kept.map(|field| std::str::from_utf8(field.name.of(buf)).unwrap()).collect()
}
