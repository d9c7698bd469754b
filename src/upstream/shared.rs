//! What all backends have in common: how they are reached, and how many connections there may be. Knows nothing of any one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::call::Caller;
use super::lookup::{Lookup, Lookups};
use super::tls::{BadCertificate, Tls};
use crate::runtime::poller::Poller;

/// How backends are reached.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Bounds reaching a backend (name, TCP, TLS) and, again, the wait for its head.
    pub timeout: Duration,
    /// Bounds each silence while bytes move; no shorter than `timeout`.
    pub idle_timeout: Duration,
    /// The most idle lines kept for each backend.
    pub idle_lines_max: usize,
    /// How long a name's addresses count.
    pub dns_ttl: Duration,
    /// The most lines to all backends together, and files of bodies that losers still send: what the limit of descriptors
    /// leaves.
    pub lines_max: usize,
    /// Root certificates beside the usual ones, in DER.
    pub own_roots: Vec<Vec<u8>>,
}

/// What all backends have in common.
pub struct Upstream {
    pub(super) caller: Caller,
    pub(super) reach: Reach,
    pub(super) tls: Tls,
    pub(super) lookups: Lookups,
    pub(super) poller: Poller,
    /// And files that each take the place of one.
    pub(super) lines: AtomicUsize,
    pub(super) opened: AtomicU64,
    pub(super) reused: AtomicU64,
}

impl Upstream {
    /// Reaches backends like this, with names looked up by `lookup`; legs wait in the poller.
    pub fn new(reach: Reach, lookup: Arc<dyn Lookup>, poller: Poller) -> Result<Arc<Upstream>, BadCertificate> {
        let tls = Tls::new(&reach.own_roots)?;
        let (opened, reused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Upstream {
            caller: Caller::new(),
            reach,
            tls,
            lookups: Lookups::by(lookup),
            poller,
            lines: AtomicUsize::new(0),
            opened,
            reused,
        }))
    }

    /// How many lines have been opened, and how often an open one was used again.
    pub fn connection_counts(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed))
    }
}

impl Default for Reach {
    fn default() -> Reach {
        Reach {
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            idle_lines_max: 64,
            dns_ttl: Duration::from_secs(30),
            lines_max: 512,
            own_roots: Vec::new(),
        }
    }
}
