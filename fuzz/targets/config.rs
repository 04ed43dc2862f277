//! A configuration file of any bytes: a plan or errors that can be printed. Names are not looked up.

#![no_main]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use river::config::{Overrides, Plan, Source};

fuzz_target!(|bytes: &[u8]| {
    let nowhere = Path::new("/nonexistent");
    let Ok(source) = Source::from_bytes("fuzzed.ron", nowhere, bytes.to_vec()) else { return };
    let resolve = |names: &[&str]| names.iter().map(|_| Err(io::Error::other("not looked up"))).collect();
    if let Err(errors) = Plan::from_source(&source, &Overrides::default(), &resolve) {
        assert!(!errors.to_string().is_empty());
    }
});
