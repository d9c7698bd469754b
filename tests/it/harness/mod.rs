//! What the tests stand on, a file per role. Everything waits with a bound and synchronises by channels.

mod alone;
mod backend;
mod binary;
mod client;
mod far;
mod framing;
mod gate;
mod held;
mod https;
mod load;
mod names;
mod programs;
mod server;
mod tls;
mod told;
mod usage;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::never;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use alone::is_alone;
pub use backend::{Connection, Deaf, Fake, Raw, Received, cramped_listener, refusing};
pub use binary::{Binary, Ended, own_address, threads_named};
pub use client::{Client, Reply, get, reply_to};
pub use far::{Backend, Far, ways};
pub use framing::Framing;
pub use gate::Gate;
pub use held::{Held, Holding, fill, many};
pub use https::{
    LOCALHOST, by_https, certificates, client_as, client_by, client_of, client_with, connection, is_over_tls, over_tls,
    wrapped, written,
};
pub use load::{Course, Load};
pub use names::Names;
pub use programs::{ended, has, output, text};
pub use server::{HURRIED, Proxy, entries, patiently};
pub use tls::{Authority, Hello, Identity, Manner, Secured, TlsBackend};
pub use told::Told;
pub use usage::{Usage, kib_of, threads_max};

/// Longer than anything takes on a busy machine: a test that waits so long has failed.
pub const SOON: Duration = Duration::from_secs(20);
/// Shorter than any linger or timeout under test, and long enough for a thread to be scheduled.
pub const BRIEFLY: Duration = Duration::from_millis(100);

/// Waits until it holds, for what no channel tells.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "it takes too long until {what}");
        // What is waited for needs the core, too.
        let _ = never::<()>().recv_timeout(Duration::from_millis(1));
    }
}

/// Tries every row on a thread of its own, for rows that mostly wait. One that fails has the others end first.
pub fn beside_each_other<R: Send>(rows: impl IntoIterator<Item = R>, try_row: impl Fn(R) + Sync) {
    let try_row = &try_row;
    thread::scope(|scope| {
        for row in rows {
            scope.spawn(move || try_row(row));
        }
    });
}

/// How many descriptors this process may have: the limit is raised as far as it goes.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let limit = if raised.is_ok() { limit.maximum } else { limit.current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Says which test is skipped, and why, to whoever runs it: what a macro prints libtest keeps to itself unless the test fails.
pub fn tell_skipped(why: &str) {
    let this = thread::current();
    let _ = writeln!(io::stderr(), "skipped: {}: {why}", this.name().unwrap_or_default());
}

/// Bytes that differ from their neighbours, so that a lost or repeated piece is seen.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at + at / 251) % 251).expect("below 251")).collect()
}
