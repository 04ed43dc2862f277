//! The `river` program.

#![forbid(unsafe_code)]

fn main() {}
