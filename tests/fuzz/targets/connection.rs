//! A whole connection: the same requests however its bytes arrive, and those that were meant.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| red_tentacle::fuzzing::connection(bytes));
