//! A datagram at the upgrade socket: it is a message or it is not, and what was read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use river::handoff::{Message, MessageError};

fuzz_target!(|datagram: &[u8]| {
    let Ok(message) = Message::decode(datagram) else { return };
    match message.encode() {
        Ok(frame) => assert_eq!(Message::decode(&frame).expect("what was written can be read"), message),
        // Characters that were there as they are may be escaped now, which is longer.
        Err(error) => assert!(matches!(error, MessageError::TooLong(_)), "{message:?}: {error}"),
    }
});
