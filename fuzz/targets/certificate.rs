//! What is read in a certificate, which a client may have sent: no bytes may panic, and what goes into a field of a
//! request is printable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use river::tls::Facts;

fuzz_target!(|der: &[u8]| {
    if let Ok(facts) = Facts::read(der) {
        assert!(facts.subject.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{facts:?}");
    }
});
