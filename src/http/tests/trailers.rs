//! Trailer fields.

use crate::http::trailer_fields;

#[test]
fn forbidden_and_malformed_ones_are_left_out() {
    let section = b"X-Sum: 1 \r\nContent-Length: 5\r\nHOST: a\r\nTransfer-encoding: chunked\r\nEmpty:\r\n\
        Set-Cookie: b\r\nConnection: c\r\nX-Forwarded-For: d\r\nX_Real-Ip: d\r\nno colon\r\n: e\r\na b: f\r\nbare: g\nLast:\th:i\r\n";
    let fields: Vec<_> = trailer_fields(section).collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"X-Sum", b"1"), (b"Empty", b""), (b"Last", b"h:i")];
    assert_eq!(fields, expected);
    assert_eq!(trailer_fields(b"").count(), 0);
}
