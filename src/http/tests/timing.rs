//! That hostile input costs no more time than its length explains.

use std::time::Instant;

use crate::http::{HeadLimits, RequestHead, Unparsed, parse_request};

/// A head of 1 MiB that arrives byte by byte would be 512 GiB of parsing, were each look to begin at the start.
#[test]
fn a_head_that_trickles_in_costs_linear_time() {
    let limits = HeadLimits { max_bytes: 1 << 20, max_fields: 100 };
    let text = [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &[b'y'; 1 << 20]].concat();
    let mut head = RequestHead::default();
    let started = Instant::now();
    for len in 0..limits.max_bytes {
        assert_eq!(parse_request(&text[..len], &limits, &mut head), Err(Unparsed::NeedMore));
    }
    assert!(parse_request(&text[..limits.max_bytes], &limits, &mut head).is_err());
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}
