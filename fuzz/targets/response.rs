//! The head of a response, in two pieces: the same comes of it as at once. The first bytes say where it is cut and what
//! it answers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use river::http::{HeadLimits, Method, ResponseHead, Unparsed, parse_response};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 2048, max_fields: 32 };

fuzz_target!(|input: &[u8]| {
    let &[cut, which, ref bytes @ ..] = input else { return };
    let method = Method::of([b"GET".as_slice(), b"HEAD", b"OPTIONS", b"BREW"][usize::from(which & 3)]);
    let (mut whole, mut pieces) = (ResponseHead::default(), ResponseHead::default());
    let outcome = parse_response(bytes, &LIMITS, &method, &mut whole);
    match outcome {
        Ok(length) => {
            assert!(length <= bytes.len() && length <= LIMITS.max_bytes);
            assert!(whole.fields.len() <= LIMITS.max_fields && bytes[..length].ends_with(b"\r\n\r\n"));
            let _ = whole.reason.of(bytes);
        }
        Err(Unparsed::Reject(reject)) => assert_eq!(reject.status, 502),
        Err(Unparsed::NeedMore) => {}
    }
    let part = bytes.get(..usize::from(cut)).unwrap_or(bytes);
    let mut came = parse_response(part, &LIMITS, &method, &mut pieces);
    if came == Err(Unparsed::NeedMore) {
        came = parse_response(bytes, &LIMITS, &method, &mut pieces);
    }
    // What is no head may be found out later when it comes in pieces, and for another of several reasons.
    match (came, outcome) {
        (Err(_), Err(Unparsed::Reject(_))) => {}
        _ => assert_eq!(came, outcome),
    }
});
