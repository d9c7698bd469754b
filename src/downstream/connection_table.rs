//! All clients of a front, and who goes when it is full: with clients, one that makes least of its place; where there are few
//! places and short requests, the oldest. Knows nothing of what a client is asked for.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::downstream::eviction::{Activity, eviction_order};
use crate::downstream::limits::{Eviction, Limits};
use crate::downstream::timeouts::Timeouts;
use crate::runtime::sync::{Arc, Mutex, MutexGuard, Weak};

/// What was found at a look is done after this.
const LOOK_LASTS: Duration = Duration::from_secs(1);
/// Time between two looks, for each client: a look takes a fifth of a microsecond for each, and so a twenty-fifth of the
/// thread, whatever knocks.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(5);
/// Time after a look in vain.
const PAUSE: Duration = Duration::from_millis(50);
/// So many clients are always read for a moment more when they have been told to go.
const CLOSING_MIN: usize = 8;

/// What gives its place up if it has to: a client, or what is carried to it.
pub(crate) trait Evictable: Send + Sync {
    /// What the client makes of its place, unless something is done for it just now.
    fn activity(&self) -> Option<Activity>;

    /// Ends, and the connection with it, if `goes` says so of what the client makes of its place: whether it did.
    fn try_evict(self: Arc<Self>, goes: &dyn Fn(&Activity) -> bool) -> bool;
}

/// The clients that are there.
pub(crate) struct ConnectionTable {
    places: usize,
    eviction: Eviction,
    timeouts: Timeouts,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// By their numbers, and so in the order in which they came.
    clients: BTreeMap<u64, Weak<dyn Evictable>>,
    next_number: u64,
    /// Those of them that have been told to go and are read for a moment more. They hold no place.
    closing: HashSet<u64>,
    /// Who goes next, as the last look found.
    eviction_order: VecDeque<Weak<dyn Evictable>>,
    looked: Option<Instant>,
    /// When all may be looked at again.
    next_look: Option<Instant>,
}

impl ConnectionTable {
    pub(crate) fn new(places: usize, limits: &Limits) -> ConnectionTable {
        ConnectionTable { places, eviction: limits.eviction, timeouts: limits.timeouts, members: Mutex::default() }
    }

    /// How many places are taken.
    pub(crate) fn count(&self) -> usize {
        let members = self.members();
        members.clients.len() - members.closing.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() >= self.places
    }

    /// One more, which is made with its number.
    pub(crate) fn insert<C: Evictable + 'static>(&self, make: impl FnOnce(u64) -> C) -> Arc<C> {
        let number = {
            let mut members = self.members();
            members.next_number += 1;
            members.next_number
        };
        let client = Arc::new(make(number));
        let weak: Weak<C> = Arc::downgrade(&client);
        self.members().clients.insert(number, weak);
        client
    }

    pub(crate) fn remove(&self, number: u64) {
        let mut members = self.members();
        members.clients.remove(&number);
        members.closing.remove(&number);
    }

    /// A client has been told to go: whether it may be read for a moment more without a place. A sixteenth of all may, since
    /// each still has its descriptor; a few always.
    pub(crate) fn try_start_closing(&self, number: u64) -> bool {
        let mut members = self.members();
        let has_room = members.closing.len() < (self.places / 16).max(CLOSING_MIN);
        has_room && members.closing.insert(number)
    }

    /// Has one client give its place up, or says when it is worth trying again.
    pub(crate) fn evict_one(&self, now: Instant) -> Result<(), Instant> {
        match self.eviction {
            Eviction::Oldest => self.evict_oldest().ok_or(now + PAUSE),
            Eviction::Slowest => match self.evict_next(now) {
                Some(()) => Ok(()),
                None => {
                    self.look(now)?;
                    self.evict_next(now).ok_or(now + PAUSE)
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
        let members = self.members();
        let mut younger = members.clients.range(number + 1..);
        let (number, client) = younger.find(|(number, _)| !members.closing.contains(number))?;
        Some((*number, client.upgrade()))
    }

    /// Dismisses the next of those that the last look found, unless it has become better meanwhile.
    fn evict_next(&self, now: Instant) -> Option<()> {
        loop {
            let client = self.members().pop_next(now)?;
            if client
                .upgrade()
                .is_some_and(|client| client.try_evict(&|activity| activity.is_evictable(&self.timeouts, now)))
            {
                return Some(());
            }
        }
    }

    /// Looks at all clients for some that could go, if it isn't too early for that.
    fn look(&self, now: Instant) -> Result<(), Instant> {
        // Out of the lock before the last of them is dropped, which would want it.
        let clients: Vec<Arc<dyn Evictable>> = {
            let mut members = self.members();
            if let Some(next_look) = members.next_look.filter(|next_look| now < *next_look) {
                return Err(next_look);
            }
            members.next_look = Some(now + PAUSE_FOR_EACH * u32::try_from(members.clients.len()).unwrap_or(u32::MAX));
            // Those that are leaving hold no place that they could give up.
            let staying = members.clients.iter().filter(|(number, _)| !members.closing.contains(number));
            staying.filter_map(|(_, client)| client.upgrade()).collect()
        };
        let activities = clients.iter().filter_map(|client| Some((client.activity()?, client))).collect();
        let eviction_order = eviction_order(activities, self.places, &self.timeouts, now);
        let mut members = self.members();
        if eviction_order.is_empty() {
            members.next_look = members.next_look.map(|next_look| next_look + PAUSE);
        }
        members.looked = Some(now);
        members.eviction_order = eviction_order.into_iter().map(Arc::downgrade).collect();
        Ok(())
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock()
    }
}

impl Members {
    fn pop_next(&mut self, now: Instant) -> Option<Weak<dyn Evictable>> {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) > LOOK_LASTS) {
            self.eviction_order.clear();
        }
        self.eviction_order.pop_front()
    }
}
