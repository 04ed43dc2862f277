//! The head of a request, in two pieces: the same comes of it as at once. The first byte says where it is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use river::http::{HeadLimits, RequestHead, Unparsed, parse_request};

const LIMITS: HeadLimits = HeadLimits { max_bytes: 2048, max_fields: 32 };

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let (mut whole, mut pieces) = (RequestHead::default(), RequestHead::default());
    let outcome = parse_request(bytes, &LIMITS, &mut whole);
    if let Ok(length) = outcome {
        assert!(
            length <= bytes.len() && length <= LIMITS.max_bytes && whole.fields.len() <= LIMITS.max_fields
        );
        assert!(bytes[..length].ends_with(b"\r\n\r\n"));
        // What is sent on is made of these.
        let _ = (whole.authority().of(bytes), whole.origin_target(bytes), whole.host.of(bytes));
    }
    let part = bytes.get(..usize::from(cut)).unwrap_or(bytes);
    let mut came = parse_request(part, &LIMITS, &mut pieces);
    if came == Err(Unparsed::NeedMore) {
        came = parse_request(bytes, &LIMITS, &mut pieces);
    }
    // What is no head may be found out later when it comes in pieces, and for another of several reasons.
    match (came, outcome) {
        (Err(_), Err(Unparsed::Reject(_))) => {}
        _ => assert_eq!(came, outcome),
    }
});
