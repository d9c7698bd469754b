//! The part of upstream that threads share, as the program has it.

#[path = "../../../src/upstream/breaker.rs"]
pub mod breaker;

#[path = "../../../src/upstream/bench.rs"]
pub mod bench;

#[path = "../../../src/upstream/look.rs"]
pub mod look;

#[path = "../../../src/upstream/conn/mod.rs"]
pub mod conn;
