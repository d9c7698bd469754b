//! From a backend's bytes to an answer: the same the short way and by ureq, at once and in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| red_tentacle::fuzzing::from_backend(bytes));
