//! The chunked reader: the same whole and in pieces, and what a plain reading says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| red_tentacle::fuzzing::chunks(bytes));
