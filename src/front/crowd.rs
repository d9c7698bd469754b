//! All clients of a front, and who goes when it is full: with clients, one that makes least of its place; where there are few
//! places and short requests, the oldest. Knows nothing of what a client is asked for.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::limits::Yielding;
use super::standing::{Standing, next_to_go};
use crate::runtime::sync::{Arc, Mutex, MutexGuard, Weak};

/// What was found at a look is done after this.
const LOOK_LASTS: Duration = Duration::from_secs(1);
/// Time between two looks, for each client: a look takes a fifth of a microsecond for each, and so a twenty-fifth of the
/// thread, whatever knocks.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(5);
/// Time after a look in vain.
const PAUSE: Duration = Duration::from_millis(50);
/// So many clients are always read for a moment more when they have been told to go.
const LEAVING_MIN: usize = 8;

/// What gives its place up if it has to: a client, or what is carried to it.
pub(super) trait GivesWay: Send + Sync {
    /// What the client makes of its place, unless something is done for it just now.
    fn standing(&self) -> Option<Standing>;

    /// Ends, and the connection with it, if `goes` says so of what the client makes of its place: whether it did.
    fn give_way(self: Arc<Self>, goes: &dyn Fn(&Standing) -> bool) -> bool;
}

/// The clients that are there.
pub(super) struct Crowd {
    places: usize,
    yielding: Yielding,
    members: Mutex<Members>,
}

#[derive(Default)]
struct Members {
    /// By their numbers, and so in the order in which they came.
    clients: BTreeMap<u64, Weak<dyn GivesWay>>,
    next_number: u64,
    /// Those of them that have been told to go and are read for a moment more. They hold no place.
    leaving: HashSet<u64>,
    /// Who goes next, as the last look found.
    next_to_go: VecDeque<Weak<dyn GivesWay>>,
    looked: Option<Instant>,
    /// When all may be looked at again.
    next_look: Option<Instant>,
}

impl Crowd {
    pub(super) fn new(places: usize, yielding: Yielding) -> Crowd {
        Crowd { places, yielding, members: Mutex::default() }
    }

    /// How many places are taken.
    pub(super) fn count(&self) -> usize {
        let members = self.members();
        members.clients.len() - members.leaving.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.count() >= self.places
    }

    /// One more, which is made with its number.
    pub(super) fn enter<C: GivesWay + 'static>(&self, make: impl FnOnce(u64) -> C) -> Arc<C> {
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

    pub(super) fn leave(&self, number: u64) {
        let mut members = self.members();
        members.clients.remove(&number);
        members.leaving.remove(&number);
    }

    /// A client has been told to go: whether it may be read for a moment more without a place. A sixteenth of all may, since
    /// each still has its descriptor; a few always.
    pub(super) fn may_part(&self, number: u64) -> bool {
        let mut members = self.members();
        let has_room = members.leaving.len() < (self.places / 16).max(LEAVING_MIN);
        has_room && members.leaving.insert(number)
    }

    /// Has one client give its place up, or says when it is worth trying again.
    pub(super) fn make_room(&self, now: Instant) -> Result<(), Instant> {
        match self.yielding {
            Yielding::Oldest => self.dismiss_oldest().ok_or(now + PAUSE),
            Yielding::Slowest => match self.dismiss_next(now) {
                Some(()) => Ok(()),
                None => {
                    self.look(now)?;
                    self.dismiss_next(now).ok_or(now + PAUSE)
                }
            },
        }
    }

    fn dismiss_oldest(&self) -> Option<()> {
        let mut number = 0;
        loop {
            let client;
            (number, client) = self.next_after(number)?;
            if client.is_some_and(|client| client.give_way(&|_| true)) {
                return Some(());
            }
        }
    }

    fn next_after(&self, number: u64) -> Option<(u64, Option<Arc<dyn GivesWay>>)> {
        let members = self.members();
        let mut younger = members.clients.range(number + 1..);
        let (number, client) = younger.find(|(number, _)| !members.leaving.contains(number))?;
        Some((*number, client.upgrade()))
    }

    /// Dismisses the next of those that the last look found, unless it has become better meanwhile.
    fn dismiss_next(&self, now: Instant) -> Option<()> {
        loop {
            let client = self.members().pop_next_to_go(now)?;
            if client.upgrade().is_some_and(|client| client.give_way(&|standing| standing.may_go(now))) {
                return Some(());
            }
        }
    }

    /// Looks at all clients for some that could go, if it isn't too early for that.
    fn look(&self, now: Instant) -> Result<(), Instant> {
        // Out of the lock before the last of them is dropped, which would want it.
        let clients: Vec<Arc<dyn GivesWay>> = {
            let mut members = self.members();
            if let Some(next_look) = members.next_look.filter(|next_look| now < *next_look) {
                return Err(next_look);
            }
            members.next_look = Some(now + PAUSE_FOR_EACH * u32::try_from(members.clients.len()).unwrap_or(u32::MAX));
            // Those that are leaving hold no place that they could give up.
            let staying = members.clients.iter().filter(|(number, _)| !members.leaving.contains(number));
            staying.filter_map(|(_, client)| client.upgrade()).collect()
        };
        let standings = clients.iter().filter_map(|client| Some((client.standing()?, client))).collect();
        let next_to_go = next_to_go(standings, self.places, now);
        let mut members = self.members();
        if next_to_go.is_empty() {
            members.next_look = members.next_look.map(|next_look| next_look + PAUSE);
        }
        members.looked = Some(now);
        members.next_to_go = next_to_go.into_iter().map(Arc::downgrade).collect();
        Ok(())
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock()
    }
}

impl Members {
    fn pop_next_to_go(&mut self, now: Instant) -> Option<Weak<dyn GivesWay>> {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) > LOOK_LASTS) {
            self.next_to_go.clear();
        }
        self.next_to_go.pop_front()
    }
}
