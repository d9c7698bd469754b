//! The common part of all backends: the way to connect to them, and the bound of connections. Knows nothing of any one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::runtime::poller::Poller;
use crate::upstream::client::call::Caller;
use crate::upstream::connect::lookup::{Lookup, Lookups};
use crate::upstream::connect::tls::{BadCertificate, Tls};

/// The most idle connections of a backend once half of all connections are taken: the rest is for legs.
const IDLE_CONNECTIONS_FEW: usize = 64;

/// Options of connecting to backends.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Bounds connecting to a backend (name, TCP, TLS) and, again, the wait for the head of its answer.
    pub timeout: Duration,
    /// Bounds each silence while bytes move; no shorter than `timeout`.
    pub idle_timeout: Duration,
    /// The most idle connections kept for each backend.
    pub idle_connections_max: usize,
    /// The time for which a name's addresses count.
    pub dns_ttl: Duration,
    /// The most connections to all backends together, and files of bodies that losers still send: what the limit of descriptors
    /// leaves.
    pub connections_max: usize,
    /// Root certificates beside the usual ones, in DER.
    pub own_roots: Vec<Vec<u8>>,
}

/// The common part of all backends.
pub struct Upstream {
    pub(crate) caller: Caller,
    pub(crate) options: ConnectOptions,
    pub(crate) tls: Tls,
    pub(crate) lookups: Lookups,
    pub(crate) poller: Poller,
    /// The count of connections, and of files that each count as one.
    pub(crate) connections: AtomicUsize,
    pub(crate) opened: AtomicU64,
    pub(crate) reused: AtomicU64,
}

impl Upstream {
    /// Connects to backends by these options, with names looked up by `lookup`; legs wait in the poller.
    pub fn new(
        options: ConnectOptions,
        lookup: Arc<dyn Lookup>,
        poller: Poller,
    ) -> Result<Arc<Upstream>, BadCertificate> {
        let tls = Tls::new(&options.own_roots)?;
        let (opened, reused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Upstream {
            caller: Caller::new(),
            options,
            tls,
            lookups: Lookups::by(lookup),
            poller,
            connections: AtomicUsize::new(0),
            opened,
            reused,
        }))
    }

    /// The most idle connections that a backend may keep now: few, once connections get scarce.
    pub(crate) fn idle_connections_max(&self) -> usize {
        let ConnectOptions { idle_connections_max, connections_max, .. } = self.options;
        let are_scarce = self.connections.load(Ordering::Relaxed) > connections_max / 2;
        if are_scarce { idle_connections_max.min(IDLE_CONNECTIONS_FEW) } else { idle_connections_max }
    }

    /// The counts of connections that have been opened, and of uses of an open one for another request.
    pub fn connection_counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed))
    }
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            idle_connections_max: 512,
            dns_ttl: Duration::from_secs(30),
            connections_max: 512,
            own_roots: Vec::new(),
        }
    }
}
