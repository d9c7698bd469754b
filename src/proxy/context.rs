//! The things that all races of a proxy share: the configuration, the list of backends, and what carries out the rest of a race.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::patience::Patience;
use crate::access_log::LateLines;
use crate::config::Config;
use crate::message::Networks;
use crate::message::headers::ViaId;
use crate::metrics::{FirstSuccess, RaceStats, RecentRaces, ReplyStats};
use crate::race::{Reaper, Starter};
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
    pub(super) late_lines: Arc<LateLines>,
    /// Bounds the wait of failures for better answers, if that is bounded.
    pub(super) patience: Option<Arc<Patience>>,
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
