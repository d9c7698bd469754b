//! From an accepted request to the bytes that a backend gets.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| red_tentacle::fuzzing::to_backend(bytes));
