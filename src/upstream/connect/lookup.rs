//! Lookups of names: each on a thread of its own, up to a bound. Knows nothing of how long an answer counts.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::message::{BACKENDS_MAX, Reason};

/// The stack of a lookup's thread: getaddrinfo needs no more, and two megabytes per lookup would fail on small hosts.
const LOOKUP_STACK_BYTES: usize = 256 * 1024;
/// The most lookups at once: one for each backend of the longest list, and as many that still hang for a list that was
/// replaced.
pub(crate) const LOOKUPS_MAX: usize = 2 * BACKENDS_MAX;

/// Looks names up; blocks as long as it takes.
pub trait Lookup: Send + Sync {
    /// All addresses of a name, with the port.
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The addresses of a name, of which there is one at least, or why there are none.
pub(crate) type Found = Result<Vec<SocketAddr>, String>;

impl dyn Lookup + '_ {
    /// Looks a name up, whatever becomes of that.
    pub(crate) fn find(&self, host: &str, port: u16) -> Found {
        let lookup = AssertUnwindSafe(|| self.lookup(host, port));
        let found = catch_unwind(lookup).unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")));
        let found = found.map_err(|error| error.to_string())?;
        if found.is_empty() { Err("it has no addresses".to_owned()) } else { Ok(found) }
    }
}

/// The system's own way: `/etc/hosts`, then DNS, as it is configured.
#[derive(Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// Looks names up on threads, up to a bound that all clones share.
#[derive(Clone)]
pub(crate) struct Lookups {
    by: Arc<dyn Lookup>,
    running: Arc<AtomicUsize>,
}

/// One lookup that runs.
struct Running(Arc<AtomicUsize>);

impl Lookups {
    pub(crate) fn by(lookup: Arc<dyn Lookup>) -> Lookups {
        Lookups { by: lookup, running: Arc::default() }
    }

    /// Starts a thread for a lookup; an error says why it can't.
    pub(crate) fn begin(&self, work: impl FnOnce(&dyn Lookup) + Send + 'static) -> Result<(), String> {
        let (running, lookup) = (Running(self.running.clone()), self.by.clone());
        if self.running.fetch_add(1, Ordering::Relaxed) >= LOOKUPS_MAX {
            return Err(format!("{LOOKUPS_MAX} other lookups hang"));
        }
        let thread = thread::Builder::new().name("lookup".into()).stack_size(LOOKUP_STACK_BYTES);
        let spawned = thread.spawn(move || {
            let _running = running;
            work(&*lookup);
        });
        spawned.map(drop).map_err(|error| format!("no thread for the lookup: {error}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells that a name can't be looked up any more, whose addresses are known, and that it can again. Without any each leg tells it.
pub(crate) fn tell_change((host, port): (&str, u16), was_failing: bool, found: &Found) {
    match found {
        Err(why) if !was_failing => {
            log::warn!("{host}:{port} can't be looked up ({}): its old addresses stay", Reason(why));
        }
        Ok(_) if was_failing => log::info!("{host}:{port} can be looked up again"),
        _ => {}
    }
}

#[cfg(test)]
impl Lookups {
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_finds_addresses_or_says_why_it_does_not() {
        struct Fixed(fn() -> io::Result<Vec<SocketAddr>>);

        impl Lookup for Fixed {
            fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                (self.0)()
            }
        }

        let why = |why: &str| Err(why.to_owned());
        let rows: [(fn() -> io::Result<Vec<SocketAddr>>, Found); 4] = [
            (|| Ok(vec![([10, 0, 0, 4], 80).into()]), Ok(vec![([10, 0, 0, 4], 80).into()])),
            (|| Ok(Vec::new()), why("it has no addresses")),
            (|| Err(io::Error::other("no such name")), why("no such name")),
            // Without the hook's noise.
            (|| std::panic::resume_unwind(Box::new("meant")), why("the lookup panicked")),
        ];
        for (answer, expected) in rows {
            let lookup: &dyn Lookup = &Fixed(answer);
            assert_eq!(lookup.find("a", 80), expected);
        }
    }
}
