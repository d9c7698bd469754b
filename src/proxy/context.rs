//! The things that all races of a proxy share: the configuration, the list of backends, and what carries out the rest of a race.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use crate::config::Config;
use crate::message::Networks;
use crate::message::headers::ViaId;
use crate::metrics::{FirstSuccess, RaceStats, RecentRaces, ReplyStats};
use crate::race::{Reaper, Starter};
use crate::runtime::timer::Timer;
use crate::upstream::Backends;

/// Runs work on a thread for it. Doesn't block.
pub type Executor = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// The threads beside the poller's.
pub struct Threads {
    /// For work that may wait for the disk.
    pub disk: Executor,
    /// For work that takes long.
    pub long: Executor,
}

/// An exchange whose line may not have been written.
pub(super) trait Untold: Send + Sync {
    /// Writes the line as it is now, unless that has been done.
    fn tell_now(&self);
}

/// A race whose failures wait for better answers, but not for ever.
pub(super) trait Bounded: Send + Sync {
    /// Passes on the failure that is kept, since no better answer has come in time.
    fn stop_waiting(self: Arc<Self>, now: Instant);
}

/// The things that all races share.
pub(super) struct Context {
    pub(super) config: Arc<Config>,
    /// The proxies before this one, which are believed where a request came from.
    pub(super) trusted_proxies: Networks,
    pub(super) backends: Arc<Backends>,
    pub(super) threads: Threads,
    pub(super) reaper: Arc<Reaper>,
    pub(super) starter: Arc<Starter>,
    /// By when hedges by percentile start.
    pub(super) first_success: FirstSuccess,
    /// Has the lines of exchanges written whose legs take their time.
    pub(super) late_lines: Arc<Timer<dyn Untold>>,
    /// Ends the wait of failures for better answers.
    pub(super) patience: Arc<Timer<dyn Bounded>>,
    /// The bytes of bodies that are being judged.
    pub(super) judged_bytes: Arc<AtomicUsize>,
    /// Whether it was told that an encoded body can't be judged.
    pub(super) has_told_encoded: AtomicBool,
    /// This process in `Via` and `CDN-Loop`.
    pub(super) via: ViaId,
    pub(super) stats: Arc<RaceStats>,
    pub(super) replies: Arc<ReplyStats>,
    pub(super) recent: Arc<RecentRaces>,
}
