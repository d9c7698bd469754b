//! What the tests stand on, a file per role. Everything waits with a bound and synchronises by channels.

mod backend;
mod binary;
mod client;
mod gate;
mod server;

use std::thread;
use std::time::{Duration, Instant};

pub use backend::{Connection, Fake, Raw, Received, Unanswering, refusing};
pub use binary::Binary;
pub use client::{Client, Reply, get};
pub use gate::Gate;
pub use server::{Proxy, addresses, patiently};

/// Longer than anything takes on a busy machine: a test that waits so long has failed.
pub const SOON: Duration = Duration::from_secs(20);
/// Shorter than any linger or timeout under test, and long enough for a thread to be scheduled.
pub const BRIEFLY: Duration = Duration::from_millis(100);

/// Waits for what can be seen but doesn't tell.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// Bytes that differ from their neighbours, so that a lost or repeated piece is seen.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at + at / 251) % 251).expect("below 251")).collect()
}
