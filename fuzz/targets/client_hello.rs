//! The begin of a connection that may be a ClientHello, whole and in pieces: the same comes of it. The first byte says
//! how long the pieces are.

#![no_main]

use libfuzzer_sys::fuzz_target;
use river::proxy::{ClientHello, Hello, MAX_CLIENT_HELLO};

fuzz_target!(|input: &[u8]| {
    let Some((&length, bytes)) = input.split_first() else { return };
    let whole = ClientHello::default().feed(bytes);
    let mut reader = ClientHello::default();
    let pieces = bytes.chunks(usize::from(length).max(1)).find_map(|piece| reader.feed(piece));
    assert_eq!(pieces, whole);
    match whole {
        Some(Hello::Named(name)) => {
            assert!(!name.is_empty() && name.len() <= 255 && !name.ends_with('.'));
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte > b'~'));
        }
        Some(Hello::NotTls) => assert_ne!(bytes[0], 22),
        Some(Hello::Nameless | Hello::Malformed(_)) => assert_eq!(bytes[0], 22),
        // It cannot be waited for without end.
        None => assert!(bytes.len() <= MAX_CLIENT_HELLO),
    }
});
