//! The list of backends, replaceable at any time. A race takes a snapshot and keeps to it. Knows nothing of what asks for it or
//! replaces it.

use crate::runtime::sync::{Arc, Mutex, RwLock};
use std::fmt;

use std::time::{Instant, SystemTime};

use crate::message::Address;
use crate::metrics::BackendStats;
use crate::upstream::breaker::Breaker;
use crate::upstream::look::Look;
use crate::upstream::pool::Pool;
use crate::upstream::shared::Upstream;

/// One backend: its address, and the connections to it.
#[derive(Debug)]
pub struct Backend {
    pool: Arc<Pool>,
    breaker: Breaker,
    look: Look,
    stats: Arc<BackendStats>,
}

impl Backend {
    /// The backend's address.
    pub fn address(&self) -> &Address {
        self.pool.address()
    }

    /// The connections to it.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The circuit breaker: the losers that it has left unanswered.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// The long look that one of its losers may have.
    pub fn look(&self) -> &Look {
        &self.look
    }

    /// The counts of what its legs have done.
    pub fn stats(&self) -> &Arc<BackendStats> {
        &self.stats
    }
}

/// The list of backends.
pub struct Backends {
    upstream: Arc<Upstream>,
    list: RwLock<Vec<Arc<Backend>>>,
    changed: Mutex<SystemTime>,
}

impl Backends {
    /// Makes the first list. The addresses are distinct, which parsing them has ensured.
    pub fn new(addresses: Vec<Address>, upstream: Arc<Upstream>) -> Backends {
        let backends = Backends { upstream, list: RwLock::default(), changed: Mutex::new(SystemTime::UNIX_EPOCH) };
        backends.replace(addresses);
        backends
    }

    /// The list as it is now.
    pub fn snapshot(&self) -> Vec<Arc<Backend>> {
        self.list.read().clone()
    }

    /// When the list was last replaced.
    pub fn changed(&self) -> SystemTime {
        *self.changed.lock()
    }

    /// The count of backends now.
    pub fn count(&self) -> usize {
        self.list.read().len()
    }

    /// The counts of connections that have been opened to backends, also to those that are gone, and of uses of an open one for
    /// another request.
    pub fn connection_counts(&self) -> (u64, u64) {
        self.upstream.connection_counts()
    }

    /// Replaces the whole list at once. A backend whose address stays keeps its connections.
    pub fn replace(&self, addresses: Vec<Address>) {
        let (old, now) = (self.snapshot(), SystemTime::now());
        let list = addresses
            .into_iter()
            .map(|address| match old.iter().find(|backend| *backend.address() == address) {
                Some(backend) => backend.clone(),
                None => Arc::new(Backend {
                    pool: Pool::new(address, self.upstream.clone()),
                    breaker: Breaker::default(),
                    look: Look::new(Instant::now()),
                    stats: Arc::new(BackendStats::new(now)),
                }),
            })
            .collect();
        *self.list.write() = list;
        *self.changed.lock() = now;
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.snapshot().iter().map(|backend| backend.address().to_string())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse_addresses;
    use crate::runtime::poller::Poller;
    use crate::upstream::{ConnectOptions, SystemLookup};

    #[test]
    fn a_snapshot_stays_and_an_unchanged_backend_keeps_its_connections() {
        let parse = |list| parse_addresses(list).expect("addresses");
        let (poller, _waiter) = Poller::new().expect("a poller");
        let upstream =
            Upstream::new(ConnectOptions::default(), Arc::new(SystemLookup), poller).expect("no certificates");
        let backends = Backends::new(parse("http://a,http://b"), upstream);
        let before = backends.snapshot();
        backends.replace(parse("http://c,http://a"));
        let after = backends.snapshot();
        let addresses = |list: &[Arc<Backend>]| list.iter().map(|b| b.address().to_string()).collect::<Vec<_>>();
        assert_eq!(addresses(&before), ["http://a", "http://b"]);
        assert_eq!(addresses(&after), ["http://c", "http://a"]);
        assert!(Arc::ptr_eq(&before[0], &after[1]));
    }
}
