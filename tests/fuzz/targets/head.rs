//! The head parser: the same whole and in pieces, and what a plain reading of the lines says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| red_tentacle::fuzzing::head(bytes));
