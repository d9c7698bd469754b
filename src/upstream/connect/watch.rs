//! The addresses of a name each of which is a backend of its own: looked up again and again, on threads of their own, whether
//! requests come or not. Knows nothing of what becomes of an address.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::runtime::few::sorted_few;
use crate::runtime::poller::{Event, EventHandler, Poller, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};
use crate::upstream::connect::lookup::{Found, Lookups};

/// The most addresses of one name that are backends: each of them costs every request a leg.
pub(crate) const EACH_MAX: usize = 16;
/// The shortest time between two lookups: a shorter `--dns-ttl` would have the name looked up without end.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
/// The longest time between two lookups while no address is known, and the shortest between those for legs whose address couldn't
/// be reached.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The addresses of one name. Lookups end with it.
pub(crate) struct NameWatch {
    host: String,
    port: u16,
    lookups: Lookups,
    ttl: Duration,
    registration: Registration,
    state: Mutex<State>,
    on_news: OnNews,
}

/// Told on a lookup's thread what a lookup has found, if that is new.
pub(crate) type OnNews = Box<dyn Fn(News) + Send + Sync>;

#[derive(Default)]
struct State {
    /// In their order, and no more than [`EACH_MAX`] of them.
    found: Vec<SocketAddr>,
    /// How many there are in all.
    count: usize,
    is_running: bool,
    is_failing: bool,
    /// When a leg last had the name looked up.
    doubted: Option<Instant>,
    /// Dropped with the end of the first lookup.
    first: Option<Sender<()>>,
}

/// What a lookup has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Other addresses than the one before.
    Addresses,
    /// None, and why; the lookup before was a good one. The addresses stay.
    Failed(String),
    /// The addresses that stay, after lookups that have failed.
    Again,
}

/// Begins a lookup whenever one is due.
struct Clock(Weak<NameWatch>);

impl EventHandler for Clock {
    fn on_event(self: Arc<Self>, event: Event) {
        match (event, self.0.upgrade()) {
            (Event::Expired, Some(watch)) => watch.begin_lookup(),
            (Event::Ready { .. } | Event::Expired | Event::Drain | Event::Cut, _) => {}
        }
    }
}

impl NameWatch {
    /// Looks the name up, and again whenever `ttl` is over. `first` is dropped once the first lookup has ended and its news been
    /// told.
    pub(crate) fn start(
        (host, port): (&str, u16),
        lookups: Lookups,
        ttl: Duration,
        poller: &Poller,
        first: Option<Sender<()>>,
        on_news: OnNews,
    ) -> Arc<NameWatch> {
        let registration = poller.reserve();
        let state = Mutex::new(State { first, ..State::default() });
        let watch = Arc::new(NameWatch { host: host.to_owned(), port, lookups, ttl, registration, state, on_news });
        watch.registration.start(Arc::new(Clock(Arc::downgrade(&watch))));
        watch.begin_lookup();
        watch
    }

    /// The addresses that are known, at most [`EACH_MAX`], and how many there are in all.
    pub(crate) fn addresses(&self) -> (Vec<SocketAddr>, usize) {
        let state = self.state.lock();
        (state.found.clone(), state.count)
    }

    /// Whether the last lookup has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.state.lock().is_failing
    }

    /// Has the name looked up soon: one of its addresses couldn't be reached. Doesn't block.
    pub(crate) fn doubt(self: &Arc<NameWatch>, now: Instant) {
        let mut state = self.state.lock();
        if state.doubted.is_none_or(|at| now >= at + RETRY_INTERVAL) {
            state.doubted = Some(now);
            drop(state);
            self.begin_lookup();
        }
    }

    /// Begins a lookup, unless one runs. Doesn't block.
    fn begin_lookup(self: &Arc<NameWatch>) {
        if std::mem::replace(&mut self.state.lock().is_running, true) {
            return;
        }
        let watch = self.clone();
        let begun = self.lookups.begin(move |lookup| watch.learn(lookup.find(&watch.host, watch.port)));
        if let Err(reason) = begun {
            log::debug!("cannot look up {}: {reason}", self.host);
            self.state.lock().is_running = false;
            self.registration.set_deadline(Some(Instant::now() + RETRY_INTERVAL));
        }
    }

    /// Takes in the end of a lookup, and has the next one come.
    fn learn(&self, found: Found) {
        let mut state = self.state.lock();
        let news = state.learn(found);
        state.is_running = false;
        let interval = if state.found.is_empty() { self.ttl.min(RETRY_INTERVAL) } else { self.ttl };
        let first = state.first.take();
        drop(state);
        self.registration.set_deadline(Some(Instant::now() + interval.max(INTERVAL_MIN)));
        if let Some(news) = news {
            (self.on_news)(news);
        }
        drop(first);
    }
}

impl Drop for NameWatch {
    fn drop(&mut self) {
        self.registration.end();
    }
}

impl State {
    /// Takes in the end of a lookup, and gives what is new by it.
    fn learn(&mut self, found: Found) -> Option<News> {
        let has_failed = std::mem::replace(&mut self.is_failing, found.is_err());
        let found = match found {
            Err(_) if has_failed => return None,
            Err(reason) => return Some(News::Failed(reason)),
            Ok(found) => found,
        };
        let mut found = sorted_few(found, |address| *address);
        found.dedup();
        self.count = found.len();
        found.truncate(EACH_MAX);
        if found == self.found {
            return has_failed.then_some(News::Again);
        }
        self.found = found;
        Some(News::Addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last_bytes: &[u8]) -> Vec<SocketAddr> {
        last_bytes.iter().map(|byte| SocketAddr::from(([10, 0, 0, *byte], 80))).collect()
    }

    #[test]
    fn addresses_stay_until_others_are_found_and_news_are_told_once() {
        let failed = |why: &str| Err(why.to_owned());
        let told = |why: &str| Some(News::Failed(why.to_owned()));
        let many: Vec<u8> = (1..=20).rev().collect();
        let (first, last): (Vec<u8>, Vec<u8>) = ((1..=16).collect(), (1..=17).chain([40]).collect());
        let rows: [(&str, Found, Option<News>, &[u8], usize); 11] = [
            ("none at first", failed("no such name"), told("no such name"), &[], 0),
            ("none again", failed("no answer"), None, &[], 0),
            ("two, in any order and twice", Ok(addresses(&[7, 4, 7])), Some(News::Addresses), &[4, 7], 2),
            ("two in another order", Ok(addresses(&[4, 7])), None, &[4, 7], 2),
            ("none any more", failed("no such name"), told("no such name"), &[4, 7], 2),
            ("none once more", failed("no such name"), None, &[4, 7], 2),
            ("both again", Ok(addresses(&[7, 4])), Some(News::Again), &[4, 7], 2),
            ("one has moved", Ok(addresses(&[8, 4])), Some(News::Addresses), &[4, 8], 2),
            ("too many", Ok(addresses(&many)), Some(News::Addresses), &first, 20),
            ("too many, and others of those beyond", Ok(addresses(&last)), None, &first, 18),
            ("one", Ok(addresses(&[9])), Some(News::Addresses), &[9], 1),
        ];
        let mut state = State::default();
        for (label, found, news, known, count) in rows {
            let is_failing = found.is_err();
            assert_eq!(state.learn(found), news, "{label}");
            let expected = (addresses(known), count, is_failing);
            assert_eq!((state.found.clone(), state.count, state.is_failing), expected, "{label}");
        }
    }

    #[test]
    fn addresses_of_both_kinds_are_ordered_by_their_bytes() {
        let texts = ["[fd00::7]:80", "10.0.0.200:80", "[fd00::10]:80", "9.255.0.1:80", "10.0.0.9:80"];
        let found = texts.iter().map(|text| text.parse().expect(text)).collect();
        let mut state = State::default();
        state.learn(Ok(found));
        let shown: Vec<String> = state.found.iter().map(|address| address.ip().to_string()).collect();
        assert_eq!(shown, ["9.255.0.1", "10.0.0.9", "10.0.0.200", "fd00::7", "fd00::10"]);
    }
}
