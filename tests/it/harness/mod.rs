//! What the tests stand on, a file per role. Everything waits with a bound and synchronises by channels.

mod backend;
mod binary;
mod client;
mod gate;
mod load;
mod server;
mod usage;

use std::thread;
use std::time::{Duration, Instant};

pub use backend::{Connection, DropsSyns, Fake, Raw, Received, refusing};
pub use binary::{Binary, Ended, own_address, threads_named};
pub use client::{Client, Reply, get};
pub use gate::Gate;
pub use load::{Course, Load};
pub use server::Proxy;
pub use usage::{Usage, kib_of};

/// Longer than anything takes on a busy machine: a test that waits so long has failed.
pub const SOON: Duration = Duration::from_secs(20);
/// Shorter than any linger or timeout under test, and long enough for a thread to be scheduled.
pub const BRIEFLY: Duration = Duration::from_millis(100);

/// Waits until it holds, for what nobody tells.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "it takes too long until {what}");
        thread::yield_now();
    }
}
