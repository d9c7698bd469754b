//! HTTP/1.1 towards backends, on ureq: one leg's call, from reaching the backend to the end of its answer.
//! Knows nothing of clients, nor of the rules of the race: whoever calls says what is sent and may hang up.

mod alarm;
mod answer;
mod ask;
mod body;
mod byte_stream;
mod call;
mod chunked;
mod connecting;
mod dial;
mod draining;
mod failure;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod leg;
mod line;
mod lines;
mod looking;
mod lookup;
mod outbound;
mod permit;
mod reading;
mod request;
mod resolve;
mod response;
mod sending;
mod slot;
mod switched;
mod tls;
mod tls_failure;
mod transport;
mod upload;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ureq::config::Config;

use crate::poller::Poller;
pub use answer::Answer;
pub use ask::ask;
pub use body::{AnswerBody, Prospect};
pub use draining::Draining;
pub use leg::{Step, Waiting};
pub use lines::Lines;
use lookup::Lookups;
pub use lookup::{Lookup, SystemLookup};
pub use permit::FilePlace;
pub use request::Outgoing;
pub use slot::{Events, Waiter};
pub use switched::Switched;
pub use tls::BadCertificate;
use tls::Tls;
pub use upload::{Upload, UploadStop, Uploaded};

/// The longest head of an answer, in bytes.
const ANSWER_HEAD_BYTES_MAX: usize = 24 * 1024;

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
    config: Config,
    reach: Reach,
    tls: Tls,
    lookups: Lookups,
    poller: Poller,
    /// And files that each take the place of one.
    lines: AtomicUsize,
    opened: AtomicU64,
    reused: AtomicU64,
}

impl Upstream {
    /// Reaches backends like this, with names looked up by `lookup`; legs wait in the poller.
    pub fn new(reach: Reach, lookup: Arc<dyn Lookup>, poller: Poller) -> Result<Arc<Upstream>, BadCertificate> {
        let tls = Tls::new(&reach.own_roots)?;
        let config = call::config();
        let (opened, reused) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Upstream {
            config,
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
    pub fn line_counts(&self) -> (u64, u64) {
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
