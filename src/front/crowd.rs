//! All clients of a front, and who goes when it is full: those that have been silent for longest between two requests, as
//! with other servers (RFC 9112 §9.5). Knows nothing of what a client is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::client::Client;

/// A client that asks one request after another is silent for shorter than this in between: else those that are busy would
/// lose their connections to each other.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Of so many clients one goes at a time, but no more than 32: a look at all of them costs about as much as to let 32 in.
const CLIENTS_FOR_EACH: usize = 128;
const GONE_MAX: usize = 32;
/// After a look in vain nobody looks for so long: whoever knocks in vain must not keep the poller's thread busy.
const PAUSE: Duration = Duration::from_millis(50);

/// The clients that are there.
#[derive(Default)]
pub(super) struct Crowd(Mutex<Members>);

#[derive(Default)]
struct Members {
    next_number: u64,
    clients: HashMap<u64, Weak<Client>>,
    /// When nobody was found who could go.
    looked_in_vain: Option<Instant>,
}

impl Crowd {
    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.members().clients.len()
    }

    /// One more, which is made with its number.
    pub(super) fn enter(&self, make: impl FnOnce(u64) -> Client) -> Arc<Client> {
        let number = {
            let mut members = self.members();
            members.next_number += 1;
            members.next_number
        };
        let client = Arc::new(make(number));
        self.members().clients.insert(number, Arc::downgrade(&client));
        client
    }

    pub(super) fn leave(&self, number: u64) {
        self.members().clients.remove(&number);
    }

    /// Closes some that have been silent for longest, but no one that has spoken just now: whether there were any.
    pub(super) fn make_room(&self, now: Instant) -> bool {
        // Out of the lock before the last of them is dropped, which would want it.
        let clients: Vec<Arc<Client>> = {
            let members = self.members();
            if members.looked_in_vain.is_some_and(|then| now.saturating_duration_since(then) < PAUSE) {
                return false;
            }
            members.clients.values().filter_map(Weak::upgrade).collect()
        };
        let mut silent: Vec<_> = clients.iter().filter_map(|client| Some((client.silent_since()?, client))).collect();
        silent.retain(|(since, _)| now.saturating_duration_since(*since) >= SILENCE_MIN);
        silent.sort_unstable_by_key(|(since, _)| *since);
        let most = (clients.len() / CLIENTS_FOR_EACH).clamp(1, GONE_MAX);
        let has_room = silent.into_iter().filter(|(_, client)| client.give_way()).take(most).count() > 0;
        self.members().looked_in_vain = (!has_room).then_some(now);
        has_room
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
