//! All clients of a frontend, and which of them is evicted when the table is full: one that makes least use of its place or, where
//! places are few and requests short, the oldest. Knows nothing of what a client is asked for.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::downstream::eviction::{Activity, eviction_order};
use crate::downstream::limits::{Eviction, Limits};
use crate::downstream::timeouts::Timeouts;
use crate::runtime::sync::{Arc, Mutex, Weak};

/// How long the order that a scan found is good for.
const SCAN_LASTS: Duration = Duration::from_secs(1);
/// Time between two scans, for each client: a scan takes a fifth of a microsecond for each, and so a twenty-fifth of the
/// thread, whatever knocks.
const SCAN_PAUSE_PER_CLIENT: Duration = Duration::from_micros(5);
/// Time after an eviction that found no client, and after a scan in vain.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// This number of evicted clients is always read for a moment more, however few places there are.
const CLOSING_MIN: usize = 8;

/// The shortest time between two words of it that no client can be evicted: it may last, and each new client would find it.
const FULL_INTERVAL: Duration = Duration::from_secs(10);

/// What can be evicted: a client, or the stream that is carried to it.
pub(crate) trait Evictable: Send + Sync {
    /// What the client uses its place for; `None` while a thread works for it.
    fn activity(&self) -> Option<Activity>;

    /// Ends it, and the client's connection with it, if `may_evict` allows it by the client's activity. Returns whether it did.
    fn try_evict(self: Arc<Self>, may_evict: &dyn Fn(&Activity) -> bool) -> bool;
}

/// The open client connections of a frontend.
pub(crate) struct ConnectionTable {
    connections_max: usize,
    eviction: Eviction,
    timeouts: Timeouts,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// By their numbers, and so in the order in which they were accepted.
    clients: BTreeMap<u64, Weak<dyn Evictable>>,
    next_number: u64,
    /// Those of them that were evicted and are read for a moment more. They take no place.
    closing: HashSet<u64>,
    /// The clients to evict next, as the last scan found them.
    eviction_order: VecDeque<Weak<dyn Evictable>>,
    scanned_at: Option<Instant>,
    /// The earliest time of the next scan.
    next_scan: Option<Instant>,
    /// Whether the last scan found none that can be evicted.
    is_scan_vain: bool,
    /// When that was last told.
    told_full: Option<Instant>,
}

impl ConnectionTable {
    pub(crate) fn new(connections_max: usize, limits: &Limits) -> ConnectionTable {
        let (eviction, timeouts) = (limits.eviction, limits.timeouts);
        ConnectionTable { connections_max, eviction, timeouts, members: Mutex::default() }
    }

    /// The number of places taken.
    pub(crate) fn count(&self) -> usize {
        let members = self.members.lock();
        members.clients.len() - members.closing.len()
    }

    /// The number of all places.
    pub(crate) fn places(&self) -> usize {
        self.connections_max
    }

    /// Whether it is to be told that a new client waits: if the last scan found none to evict for it, but not again soon. Nor where the
    /// oldest goes, which is but busy for a moment.
    pub(crate) fn try_tell_full(&self, now: Instant) -> bool {
        let mut members = self.members.lock();
        let is_soon = members.told_full.is_some_and(|at| now.saturating_duration_since(at) < FULL_INTERVAL);
        let is_told = members.is_scan_vain && !is_soon;
        if is_told {
            members.told_full = Some(now);
        }
        is_told
    }

    /// Whether it was told just now that a new client waits: it is told again soon while that lasts.
    pub(crate) fn was_told_full(&self, now: Instant) -> bool {
        let told = self.members.lock().told_full;
        told.is_some_and(|at| now.saturating_duration_since(at) < 2 * FULL_INTERVAL)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() >= self.connections_max
    }

    /// Adds a client, which is made with its number.
    pub(crate) fn insert<C: Evictable + 'static>(&self, make: impl FnOnce(u64) -> C) -> Arc<C> {
        let number = {
            let mut members = self.members.lock();
            members.next_number += 1;
            members.next_number
        };
        let client = Arc::new(make(number));
        let weak: Weak<C> = Arc::downgrade(&client);
        self.members.lock().clients.insert(number, weak);
        client
    }

    pub(crate) fn remove(&self, number: u64) {
        let mut members = self.members.lock();
        members.clients.remove(&number);
        members.closing.remove(&number);
    }

    /// Lets an evicted client be read for a moment more without a place, and returns whether it may be. A sixteenth of all may,
    /// since each still has its descriptor; a few always.
    pub(crate) fn try_start_closing(&self, number: u64) -> bool {
        let mut members = self.members.lock();
        let has_room = members.closing.len() < (self.connections_max / 16).max(CLOSING_MIN);
        has_room && members.closing.insert(number)
    }

    /// Evicts one client. The error is the time from which on it is worth trying again.
    pub(crate) fn evict_one(&self, now: Instant) -> Result<(), Instant> {
        match self.eviction {
            Eviction::Oldest => self.evict_oldest().ok_or(now + RETRY_PAUSE),
            Eviction::Slowest => match self.evict_next(now) {
                Some(()) => Ok(()),
                None => {
                    self.scan(now)?;
                    self.evict_next(now).ok_or(now + RETRY_PAUSE)
                }
            },
        }
    }

    fn evict_oldest(&self) -> Option<()> {
        let mut number = 0;
        loop {
            let client;
            (number, client) = self.next_after(number)?;
            if client.is_some_and(|client| client.try_evict(&|_| true)) {
                return Some(());
            }
        }
    }

    fn next_after(&self, number: u64) -> Option<(u64, Option<Arc<dyn Evictable>>)> {
        let members = self.members.lock();
        let mut younger = members.clients.range(number + 1..);
        let (number, client) = younger.find(|(number, _)| !members.closing.contains(number))?;
        Some((*number, client.upgrade()))
    }

    /// Evicts the next of those that the last scan found, unless it has become better meanwhile.
    fn evict_next(&self, now: Instant) -> Option<()> {
        loop {
            let client = self.members.lock().pop_next(now)?;
            if client
                .upgrade()
                .is_some_and(|client| client.try_evict(&|activity| activity.is_evictable(&self.timeouts, now)))
            {
                return Some(());
            }
        }
    }

    /// Scans all clients for some that could be evicted. The error is the time of the next scan, if it is too early for one.
    fn scan(&self, now: Instant) -> Result<(), Instant> {
        // Out of the lock before the last of them is dropped, which would want it.
        let clients: Vec<Arc<dyn Evictable>> = {
            let mut members = self.members.lock();
            if let Some(next_scan) = members.next_scan.filter(|next_scan| now < *next_scan) {
                return Err(next_scan);
            }
            let client_count = u32::try_from(members.clients.len()).unwrap_or(u32::MAX);
            members.next_scan = Some(now + SCAN_PAUSE_PER_CLIENT * client_count);
            // Those that are closing take no place that they could give up.
            let staying = members.clients.iter().filter(|(number, _)| !members.closing.contains(number));
            staying.filter_map(|(_, client)| client.upgrade()).collect()
        };
        let activities = clients.iter().filter_map(|client| Some((client.activity()?, client))).collect();
        let eviction_order = eviction_order(activities, self.connections_max, &self.timeouts, now);
        let mut members = self.members.lock();
        members.is_scan_vain = eviction_order.is_empty();
        if members.is_scan_vain {
            members.next_scan = members.next_scan.map(|next_scan| next_scan + RETRY_PAUSE);
        }
        members.scanned_at = Some(now);
        members.eviction_order = eviction_order.into_iter().map(Arc::downgrade).collect();
        Ok(())
    }
}

impl Members {
    fn pop_next(&mut self, now: Instant) -> Option<Weak<dyn Evictable>> {
        if self.scanned_at.is_none_or(|scanned_at| now.saturating_duration_since(scanned_at) > SCAN_LASTS) {
            self.eviction_order.clear();
        }
        self.eviction_order.pop_front()
    }
}
