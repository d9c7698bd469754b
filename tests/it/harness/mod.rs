//! What the tests stand on, a file per role. Everything waits with a bound and synchronises by channels.

mod backend;
mod binary;
mod client;
mod gate;
mod server;

use std::time::Duration;

pub use backend::{Connection, Fake, Raw, refusing};
pub use binary::Binary;
pub use client::{Client, Reply, get};
pub use gate::Gate;
pub use server::Proxy;

/// Longer than anything takes on a busy machine: a test that waits so long has failed.
pub const SOON: Duration = Duration::from_secs(20);
/// Shorter than any linger or timeout under test, and long enough for a thread to be scheduled.
pub const BRIEFLY: Duration = Duration::from_millis(100);
