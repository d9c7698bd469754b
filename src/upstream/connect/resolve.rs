//! The addresses of a backend's name: looked up on a thread of its own, kept for a while, refreshed in the background. Knows
//! nothing of connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::message::{Outcome, Reason};
use crate::runtime::sync::{Arc, Mutex, Weak};
use crate::upstream::connect::lookup::{Found, Lookups, tell_change};
use crate::upstream::connect::watch::NameWatch;

/// The longest that a leg waits for a fresh answer when an old one is in hand.
const STALE_WAIT_MAX: Duration = Duration::from_millis(250);
/// The time for which a failed lookup counts when there is no old answer.
const FAILURE_TTL: Duration = Duration::from_millis(250);
/// The time for which a failed lookup isn't tried again when an old answer is in hand.
const FAILURE_REST: Duration = Duration::from_secs(5);
/// The shortest time between lookups for legs whose addresses are all bad, and the longest that such a leg waits for one: a
/// name that was pointed elsewhere just now is followed at once, and one whose backend is down costs its resolver little.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The youngest age at which an answer is refreshed for requests on connections that exist: younger ones would have it looked
/// up without end if its time is next to nothing.
const REFRESH_AGE_MIN: Duration = Duration::from_millis(250);
/// The most addresses that are kept of an answer: a leg has no time to try more.
const ADDRESSES_MAX: usize = 64;

/// The addresses of one backend.
pub(crate) struct Resolver(Kind);

enum Kind {
    Literal([SocketAddr; 1]),
    /// One of a name's, which are watched for the list's sake.
    OneOf([SocketAddr; 1], Weak<NameWatch>),
    Name(Arc<Name>),
}

struct Name {
    host: String,
    port: u16,
    lookups: Lookups,
    /// The time for which an answer counts: the system doesn't tell the records' own time.
    ttl: Duration,
    state: Mutex<State>,
    /// Called on the lookup's thread when an address isn't the name's any more.
    moved: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// The address that connected last: it is tried first, also after a new lookup.
    good: Option<SocketAddr>,
    /// Since when a lookup is under way.
    lookup_since: Option<Instant>,
    /// The time of the last lookup that was begun because all addresses were bad.
    retried_at: Option<Instant>,
    /// The last lookup's failure: its reason, and when.
    failed: Option<(String, Instant)>,
    /// The legs that wait for an answer.
    waiters: Vec<Weak<dyn LookupListener>>,
    /// The count of those that were left when they were looked through last.
    waiters_left: usize,
}

/// A leg that waits for the end of a lookup.
pub(crate) trait LookupListener: Send + Sync {
    /// Wakes the leg: a lookup has ended. Doesn't block.
    fn on_lookup_end(&self);
}

struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

impl Resolver {
    /// Looks addresses up by `lookups`. Calls `moved` on the lookup's thread when a new answer lacks an address of the old one.
    pub(crate) fn new(
        host: &str,
        port: u16,
        lookups: Lookups,
        ttl: Duration,
        moved: impl Fn() + Send + Sync + 'static,
    ) -> Resolver {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Resolver(Kind::Literal([SocketAddr::new(ip, port)]));
        }
        let (host, state, moved) = (host.to_owned(), Mutex::default(), Box::new(moved));
        Resolver(Kind::Name(Arc::new(Name { host, port, lookups, ttl, state, moved })))
    }

    /// Knows this one address of a name, and has the watch look the name up when it can't be reached.
    pub(crate) fn one_of(address: SocketAddr, watch: Weak<NameWatch>) -> Resolver {
        Resolver(Kind::OneOf([address], watch))
    }

    /// The addresses, the likeliest first. If they must be waited for, there are none, and `waiter` makes the listener that
    /// hears of the lookup's end; then the leg asks again, with the time when it `asked` first. With an old answer in hand it
    /// waits no longer than `waiter` is told. Doesn't block.
    pub(crate) fn addresses(
        &self,
        asked: Instant,
        now: Instant,
        waiter: impl FnOnce(Option<Duration>) -> Arc<dyn LookupListener>,
    ) -> Result<Vec<SocketAddr>, Outcome> {
        match &self.0 {
            Kind::Literal(address) | Kind::OneOf(address, _) => Ok(address.to_vec()),
            Kind::Name(name) => name.addresses(asked, now, waiter),
        }
    }

    /// Addresses besides those that a leg has `tried` in vain, looked up anew if need be. `None` if there are none, or it isn't
    /// known soon; if they must be waited for, there are none yet, as with [`Resolver::addresses`]. Doesn't block.
    pub(crate) fn others(
        &self,
        tried: &[SocketAddr],
        asked: Instant,
        now: Instant,
        waiter: impl FnOnce(Option<Duration>) -> Arc<dyn LookupListener>,
    ) -> Option<Vec<SocketAddr>> {
        let Kind::Name(name) = &self.0 else {
            self.doubt(now);
            return None;
        };
        name.others(tried, asked, now, waiter)
    }

    /// Has the name looked up anew in the background, since no address has answered in time. Doesn't block.
    pub(crate) fn doubt(&self, now: Instant) {
        match &self.0 {
            Kind::Literal(_) => {}
            Kind::OneOf(_, watch) => watch.upgrade().iter().for_each(|watch| watch.doubt(now)),
            Kind::Name(name) => name.begin_if(now, |state| state.try_retry(now)),
        }
    }

    /// Has the name looked up in the background if the answer's time is nearly over: a connection is used again, so that
    /// nothing else asks for addresses. Doesn't block.
    pub(crate) fn refresh(&self, now: Instant) {
        if let Kind::Name(name) = &self.0 {
            name.begin_if(now, |state| state.wants_refresh(name.ttl, now));
        }
    }

    /// Whether the address is one of the backend's, as far as is known.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        let Kind::Name(name) = &self.0 else { return true };
        name.state.lock().known.as_ref().is_none_or(|known| known.addresses.contains(&address))
    }

    /// Has this address tried last from now on, until the next lookup: it leads nowhere.
    pub(crate) fn distrust(&self, bad: SocketAddr) {
        if let Kind::Name(name) = &self.0 {
            let mut state = name.state.lock();
            state.good = state.good.filter(|good| *good != bad);
            if let Some(known) = &mut state.known
                && let Some(at) = known.addresses.iter().position(|address| *address == bad)
            {
                known.addresses[at..].rotate_left(1);
            }
        }
    }

    /// Has this address tried first from now on: it has connected, and shaken hands where that comes first.
    pub(crate) fn prefer(&self, good: SocketAddr) {
        if let Kind::Name(name) = &self.0 {
            let mut state = name.state.lock();
            state.good = Some(good);
            if let Some(known) = &mut state.known {
                put_first(good, &mut known.addresses);
            }
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Name {
    fn addresses(
        self: &Arc<Name>,
        asked: Instant,
        now: Instant,
        waiter: impl FnOnce(Option<Duration>) -> Arc<dyn LookupListener>,
    ) -> Result<Vec<SocketAddr>, Outcome> {
        let mut state = self.state.lock();
        if let Some(reason) = state.recent_failure(asked, now) {
            return Err(Outcome::Dns(reason));
        }
        let must_wait = state.must_wait(self.ttl, asked, now);
        let is_begun = state.wants_lookup(self.ttl, now) && (must_wait || !state.is_answered(asked));
        if is_begun {
            state.lookup_since = Some(now);
        }
        let mut addresses = state.known_addresses();
        if must_wait {
            state.add_waiter(&waiter(addresses.take().map(|_| STALE_WAIT_MAX)));
        }
        drop(state);
        if is_begun {
            self.begin_lookup();
        }
        Ok(addresses.unwrap_or_default())
    }

    fn others(
        self: &Arc<Name>,
        tried: &[SocketAddr],
        asked: Instant,
        now: Instant,
        waiter: impl FnOnce(Option<Duration>) -> Arc<dyn LookupListener>,
    ) -> Option<Vec<SocketAddr>> {
        let mut state = self.state.lock();
        let untried = state.untried(tried);
        if !untried.is_empty() {
            return Some(untried);
        }
        if state.has_result_since(asked) {
            return None;
        }
        let is_begun = state.try_retry(now);
        if is_begun {
            state.lookup_since = Some(now);
        }
        let until = state.lookup_since? + RETRY_INTERVAL;
        if now >= until {
            return None;
        }
        state.add_waiter(&waiter(Some(until.saturating_duration_since(asked))));
        drop(state);
        if is_begun {
            self.begin_lookup();
        }
        Some(Vec::new())
    }

    /// Begins a lookup that no leg waits for, if it is wanted.
    fn begin_if(self: &Arc<Name>, now: Instant, is_wanted: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state.lock();
        if is_wanted(&mut state) {
            state.lookup_since = Some(now);
            drop(state);
            self.begin_lookup();
        }
    }

    /// Begins a lookup. At most one runs per backend, however long it hangs.
    fn begin_lookup(self: &Arc<Name>) {
        let name = self.clone();
        let begun = self.lookups.begin(move |lookup| name.learn(lookup.find(&name.host, name.port)));
        if let Err(reason) = begun {
            self.learn(Err(reason));
        }
    }

    /// Takes in the end of a lookup, and wakes the legs that wait for it. A failed one leaves the old answer in force.
    fn learn(&self, found: Found) {
        let found = found.map(interleaved);
        match &found {
            Ok(addresses) => log::debug!("looked up {}: {addresses:?}", self.host),
            Err(reason) => log::debug!("looked up {} in vain: {}", self.host, Reason(reason)),
        }
        let mut state = self.state.lock();
        if state.known.is_some() {
            tell_change((&self.host, self.port), state.failed.is_some(), &found);
        }
        let has_moved = state.learn(found, Instant::now());
        let waiters = std::mem::take(&mut state.waiters);
        state.waiters_left = 0;
        drop(state);
        if has_moved {
            (self.moved)();
        }
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.on_lookup_end());
    }
}

impl State {
    /// Takes in the end of a lookup, and gives whether an address of the old answer isn't in the new one.
    fn learn(&mut self, found: Found, now: Instant) -> bool {
        self.lookup_since = None;
        let mut addresses = match found {
            Ok(addresses) => addresses,
            Err(reason) => {
                self.failed = Some((reason, now));
                return false;
            }
        };
        if let Some(good) = self.good {
            put_first(good, &mut addresses);
        }
        addresses.truncate(ADDRESSES_MAX);
        let has_left = |old: &SocketAddr| !addresses.contains(old);
        let has_moved = self.known.as_ref().is_some_and(|known| known.addresses.iter().any(has_left));
        self.known = Some(Known { addresses, since: now });
        self.failed = None;
        has_moved
    }

    fn add_waiter(&mut self, waiter: &Arc<dyn LookupListener>) {
        // While a lookup hangs, legs come and go: all are looked through whenever there are twice as many as were left.
        if self.waiters.len() >= 2 * self.waiters_left {
            self.waiters.retain(|waiter| waiter.strong_count() > 0);
            self.waiters_left = self.waiters.len();
        }
        self.waiters.push(Arc::downgrade(waiter));
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.known.as_ref().map(|known| now.saturating_duration_since(known.since))
    }

    /// Whether nothing is known, or the answer is so old that it is looked up anew in the background, so that no leg has to
    /// wait.
    fn wants_lookup(&self, ttl: Duration, now: Instant) -> bool {
        let is_due = self.age(now).is_none_or(|age| age >= ttl * 2 / 3 && !self.is_resting(now));
        is_due && self.lookup_since.is_none()
    }

    /// Whether the answer's time is nearly over for requests on connections that exist.
    fn wants_refresh(&self, ttl: Duration, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age >= REFRESH_AGE_MIN) && self.wants_lookup(ttl, now)
    }

    /// Allows a lookup for a leg whose addresses are all bad, however young the answer is or how lately a lookup has failed.
    /// The next is allowed only after a while.
    fn try_retry(&mut self, now: Instant) -> bool {
        let is_due = self.lookup_since.is_none() && self.retried_at.is_none_or(|at| now >= at + RETRY_INTERVAL);
        if is_due {
            self.retried_at = Some(now);
        }
        is_due
    }

    fn untried(&self, tried: &[SocketAddr]) -> Vec<SocketAddr> {
        let known = self.known.iter().flat_map(|known| &known.addresses);
        known.filter(|address| !tried.contains(address)).copied().collect()
    }

    /// Whether a lookup has ended since the leg asked.
    fn has_result_since(&self, asked: Instant) -> bool {
        self.is_answered(asked) || self.failed.as_ref().is_some_and(|(_, at)| *at > asked)
    }

    /// Whether an answer was received after the leg asked.
    fn is_answered(&self, asked: Instant) -> bool {
        self.known.as_ref().is_some_and(|known| known.since > asked)
    }

    /// Whether the answer's time is over, and the lookup hasn't shown yet that it takes long or fails.
    fn must_wait(&self, ttl: Duration, asked: Instant, now: Instant) -> bool {
        let is_slow = self.lookup_since.is_some_and(|since| now.saturating_duration_since(since) >= STALE_WAIT_MAX);
        let has_time = now < asked + STALE_WAIT_MAX && !self.is_answered(asked);
        self.age(now).is_none_or(|age| age >= ttl && has_time && !is_slow && !self.is_resting(now))
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.failed.as_ref().is_some_and(|(_, at)| now < *at + FAILURE_REST)
    }

    /// The reason why the name has no addresses, if that was found out just now or after the leg asked: until then no leg waits
    /// for the same failure again.
    fn recent_failure(&self, asked: Instant, now: Instant) -> Option<String> {
        let (reason, at) = self.failed.as_ref().filter(|_| self.known.is_none())?;
        (*at > asked || now < *at + FAILURE_TTL).then(|| reason.clone())
    }

    fn known_addresses(&self) -> Option<Vec<SocketAddr>> {
        self.known.as_ref().map(|known| known.addresses.clone())
    }
}

fn put_first(good: SocketAddr, addresses: &mut [SocketAddr]) {
    if let Some(at) = addresses.iter().position(|address| *address == good) {
        addresses[..=at].rotate_right(1);
    }
}

/// Mixes IPv6 and IPv4, one after the other, beginning with the system's first choice (RFC 8305 §4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let count = addresses.len();
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(count);
    while mixed.len() < count {
        mixed.extend(first.next());
        mixed.extend(second.next());
    }
    mixed
}

#[cfg(test)]
mod tests {
    use std::io;

    use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

    use super::*;
    use crate::upstream::connect::lookup::{LOOKUPS_MAX, Lookup};

    const TTL: Duration = Duration::from_secs(30);

    /// Answers lookups one by one, as the test says.
    struct Scripted(Receiver<io::Result<Vec<SocketAddr>>>);

    impl Lookup for Scripted {
        fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            self.0.recv().unwrap_or_else(|_| Err(io::Error::other("no more answers")))
        }
    }

    fn scripted() -> (Sender<io::Result<Vec<SocketAddr>>>, Resolver) {
        scripted_for(TTL)
    }

    fn scripted_for(ttl: Duration) -> (Sender<io::Result<Vec<SocketAddr>>>, Resolver) {
        let (sender, receiver) = bounded(8);
        (sender, Resolver::new("name.example", 80, Lookups::by(Arc::new(Scripted(receiver))), ttl, || {}))
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    struct Bell(Sender<()>);

    impl LookupListener for Bell {
        fn on_lookup_end(&self) {
            self.0.send(()).expect("the test listens");
        }
    }

    /// Asks as a leg does, and waits until it is told, or as long as it is worth it.
    fn ask(resolver: &Resolver, mut now: Instant) -> Result<Vec<SocketAddr>, Outcome> {
        let (asked, (ring, told)) = (now, unbounded());
        loop {
            let mut waits = None;
            let known = resolver.addresses(asked, now, |wait_max| {
                let bell = Arc::new(Bell(ring.clone()));
                waits = Some((bell.clone(), wait_max));
                bell
            })?;
            let Some((_bell, wait_max)) = waits else { return Ok(known) };
            let began = Instant::now();
            let told = told.recv_timeout(wait_max.unwrap_or(Duration::from_secs(10)));
            assert!(told.is_ok() || wait_max.is_some(), "the lookup's end is told");
            now += began.elapsed();
        }
    }

    fn ask_now(resolver: &Resolver) -> Result<Vec<SocketAddr>, Outcome> {
        ask(resolver, Instant::now())
    }

    #[test]
    fn a_literal_is_never_looked_up() {
        let (_, receiver) = bounded(0);
        let resolver = Resolver::new("::1", 8080, Lookups::by(Arc::new(Scripted(receiver))), TTL, || {});
        assert_eq!(ask_now(&resolver), Ok(addresses(&["[::1]:8080"])));
    }

    #[test]
    fn an_answer_is_kept_and_the_good_address_comes_first() {
        let (answers, resolver) = scripted();
        let found = addresses(&["[::1]:80", "[::2]:80", "1.1.1.1:80", "2.2.2.2:80"]);
        answers.send(Ok(found)).expect("the resolver listens");
        let mixed = addresses(&["[::1]:80", "1.1.1.1:80", "[::2]:80", "2.2.2.2:80"]);
        assert_eq!(ask_now(&resolver), Ok(mixed.clone()));
        assert_eq!(ask_now(&resolver), Ok(mixed));
        resolver.prefer("[::2]:80".parse().expect("an address"));
        let preferred = addresses(&["[::2]:80", "[::1]:80", "1.1.1.1:80", "2.2.2.2:80"]);
        assert_eq!(ask_now(&resolver), Ok(preferred));
    }

    /// Was seen as: an address that accepted connections and failed in TLS kept all requests from the others of its name.
    #[test]
    fn an_address_that_leads_nowhere_comes_last_also_if_it_was_good() {
        let (answers, resolver) = scripted();
        answers.send(Ok(addresses(&["1.1.1.1:80", "2.2.2.2:80", "3.3.3.3:80"]))).expect("the resolver listens");
        ask_now(&resolver).expect("addresses");
        let bad = "2.2.2.2:80".parse().expect("an address");
        resolver.prefer(bad);
        resolver.distrust(bad);
        assert_eq!(ask_now(&resolver), Ok(addresses(&["1.1.1.1:80", "3.3.3.3:80", "2.2.2.2:80"])));
        let Kind::Name(name) = &resolver.0 else { panic!("a name") };
        assert_eq!(name.state.lock().good, None);
    }

    #[test]
    fn the_good_address_comes_first_after_a_new_lookup_too() {
        let (answers, resolver) = scripted_for(Duration::ZERO);
        for _ in 0..2 {
            answers.send(Ok(addresses(&["1.1.1.1:80", "2.2.2.2:80"]))).expect("the resolver listens");
        }
        assert_eq!(ask_now(&resolver).map(|found| found.len()), Ok(2));
        resolver.prefer("2.2.2.2:80".parse().expect("an address"));
        let preferred = addresses(&["2.2.2.2:80", "1.1.1.1:80"]);
        assert_eq!(ask_now(&resolver), Ok(preferred));
        let Kind::Name(name) = &resolver.0 else { panic!("a name") };
        name.learn(Ok(addresses(&["3.3.3.3:80"])));
        assert_eq!(name.state.lock().known_addresses(), Some(addresses(&["3.3.3.3:80"])), "only if it is still there");
    }

    #[test]
    fn a_name_is_looked_up_anew_before_its_answer_is_old_and_no_leg_waits_for_that() {
        let then = Instant::now();
        let known = |addresses| Some(Known { addresses, since: then });
        let rows = [
            ("young", TTL / 2, None, None, false, false),
            ("older", TTL * 2 / 3, None, None, true, false),
            ("older, looked up", TTL * 2 / 3, Some(TTL * 2 / 3), None, false, false),
            ("old", TTL, None, None, true, true),
            ("old, just being looked up", TTL, Some(TTL), None, false, true),
            ("old, the lookup hangs", TTL + STALE_WAIT_MAX, Some(TTL), None, false, false),
            ("old, the lookup failed", TTL, None, Some(TTL), false, false),
            ("old, the lookup failed some time ago", TTL + FAILURE_REST, None, Some(TTL), true, true),
        ];
        for (name, age, lookup_since, failed_at, wants, waits) in rows {
            let state = State {
                known: known(addresses(&["1.1.1.1:80"])),
                lookup_since: lookup_since.map(|since| then + since),
                failed: failed_at.map(|at| (String::new(), then + at)),
                ..State::default()
            };
            let now = then + age;
            assert_eq!((state.wants_lookup(TTL, now), state.must_wait(TTL, now, now)), (wants, waits), "{name}");
        }
    }

    #[test]
    fn a_failed_lookup_is_an_outcome_for_a_moment_and_then_tried_again() {
        let (answers, resolver) = scripted();
        answers.send(Err(io::Error::other("no such name"))).expect("the resolver listens");
        for _ in 0..3 {
            let failed = ask_now(&resolver);
            assert_eq!(failed, Err(Outcome::Dns("no such name".to_owned())), "one lookup is enough for all three");
        }
        answers.send(Ok(addresses(&["1.1.1.1:80"]))).expect("the resolver listens");
        let later = Instant::now() + FAILURE_TTL;
        assert!(ask(&resolver, later).is_ok());
    }

    #[test]
    fn an_old_answer_is_used_while_lookups_hang_or_fail() {
        let (answers, resolver) = scripted_for(Duration::ZERO);
        let found = addresses(&["1.1.1.1:80"]);
        answers.send(Ok(found.clone())).expect("the resolver listens");
        assert_eq!(ask_now(&resolver), Ok(found.clone()));
        for _ in 0..3 {
            assert_eq!(ask_now(&resolver), Ok(found.clone()), "while the lookup hangs");
        }
        answers.send(Err(io::Error::other("gone"))).expect("the resolver listens");
        for _ in 0..3 {
            assert_eq!(ask_now(&resolver), Ok(found.clone()), "after it has failed");
        }
    }

    #[test]
    fn a_lookup_that_panics_is_a_failed_one() {
        struct Panics;
        impl Lookup for Panics {
            fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
                panic!("meant")
            }
        }
        let resolver = Resolver::new("name.example", 80, Lookups::by(Arc::new(Panics)), TTL, || {});
        for _ in 0..2 {
            assert!(matches!(ask_now(&resolver), Err(Outcome::Dns(_))));
        }
    }

    #[test]
    fn no_more_names_are_looked_up_at_once_than_two_lists_have() {
        let (answers, receiver) = bounded(LOOKUPS_MAX);
        let lookups = Lookups::by(Arc::new(Scripted(receiver)));
        let resolvers: Vec<Resolver> = (0..=LOOKUPS_MAX)
            .map(|number| Resolver::new(&format!("{number}.example"), 80, lookups.clone(), TTL, || {}))
            .collect();
        let (last, first) = resolvers.split_last().expect("some");
        let (bell, _rings) = bounded(1);
        for resolver in first {
            let waits = resolver.addresses(Instant::now(), Instant::now(), |_| Arc::new(Bell(bell.clone())));
            assert_eq!(waits, Ok(Vec::new()));
        }
        let Err(Outcome::Dns(reason)) = ask_now(last) else { panic!("it is looked up") };
        assert_eq!(reason, "128 other lookups hang");
        for _ in first {
            answers.send(Ok(addresses(&["1.1.1.1:80"]))).expect("a lookup listens");
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while lookups.running() > 0 {
            assert!(Instant::now() < deadline, "they have ended");
            std::thread::yield_now();
        }
        answers.send(Ok(addresses(&["1.1.1.1:80"]))).expect("a lookup listens");
        assert_eq!(ask(last, Instant::now() + FAILURE_TTL), Ok(addresses(&["1.1.1.1:80"])));
    }

    #[test]
    fn an_answer_counts_for_legs_that_waited_for_it_however_short_its_time() {
        let (answers, resolver) = scripted_for(Duration::ZERO);
        for number in 1..=3 {
            let found = addresses(&[&format!("1.1.1.{number}:80")]);
            answers.send(Ok(found.clone())).expect("the resolver listens");
            assert_eq!(ask_now(&resolver), Ok(found), "one lookup for each");
        }
    }

    #[test]
    fn legs_that_no_longer_wait_for_a_hanging_lookup_are_forgotten() {
        let (_answers, resolver) = scripted();
        let (ring, _told) = unbounded();
        for _ in 0..3 {
            let (now, bell) = (Instant::now(), Arc::new(Bell(ring.clone())));
            assert_eq!(resolver.addresses(now, now, |_| bell), Ok(Vec::new()));
        }
        let Kind::Name(name) = &resolver.0 else { panic!("a name") };
        assert_eq!(name.state.lock().waiters.len(), 1, "the last one is forgotten when another comes");
        let wait = |_| {
            let (now, bell) = (Instant::now(), Arc::new(Bell(ring.clone())));
            assert_eq!(resolver.addresses(now, now, |_| bell.clone()), Ok(Vec::new()));
            bell
        };
        let waiting: Vec<_> = (0..100).map(wait).collect();
        for gone in 0..1000 {
            drop(wait(gone));
            assert!(
                name.state.lock().waiters.len() <= 2 * (waiting.len() + 1),
                "they aren't many more than those that wait"
            );
        }
        let wait_still = name.state.lock().waiters.iter().filter(|waiter| waiter.strong_count() > 0).count();
        assert_eq!(wait_still, waiting.len());
    }

    /// The reply to a leg whose `tried` addresses are all bad: `None`, or the count of others, or zero while it must wait.
    fn others(resolver: &Resolver, tried: &[&str], now: Instant) -> Option<usize> {
        let (ring, _told) = unbounded();
        resolver.others(&addresses(tried), now, now, |_| Arc::new(Bell(ring))).map(|found| found.len())
    }

    fn name_of(resolver: &Resolver) -> &Arc<Name> {
        let Kind::Name(name) = &resolver.0 else { panic!("a name") };
        name
    }

    /// A resolver that has known this answer since then, and that answers as the sender says.
    fn knowing(texts: &[&str], since: Instant) -> (Sender<io::Result<Vec<SocketAddr>>>, Resolver) {
        let (answers, resolver) = scripted();
        name_of(&resolver).state.lock().known = Some(Known { addresses: addresses(texts), since });
        (answers, resolver)
    }

    fn is_looked_up(resolver: &Resolver) -> bool {
        name_of(resolver).state.lock().lookup_since.is_some()
    }

    /// Was seen as: 36 requests failed as refused while the name had long pointed elsewhere.
    #[test]
    fn a_name_whose_addresses_are_all_bad_is_looked_up_at_once_but_once_a_second() {
        let now = Instant::now();
        let (_answers, resolver) = knowing(&["1.1.1.1:80", "2.2.2.2:80"], now);
        assert_eq!(others(&resolver, &["1.1.1.1:80"], now), Some(1), "there is one that the leg hasn't tried");
        let all = ["1.1.1.1:80", "2.2.2.2:80"];
        assert!(!is_looked_up(&resolver));
        assert_eq!(others(&resolver, &all, now), Some(0), "however young the answer is");
        assert!(is_looked_up(&resolver));
        assert_eq!(others(&resolver, &all, now + RETRY_INTERVAL / 2), Some(0), "another leg waits for the same lookup");
        assert_eq!(others(&resolver, &all, now + RETRY_INTERVAL), None, "but no longer than a second");
        name_of(&resolver).learn(Ok(addresses(&all)));
        assert_eq!(others(&resolver, &all, now + RETRY_INTERVAL * 9 / 10), None, "it was looked up just now");
        let later = now + RETRY_INTERVAL;
        assert_eq!(others(&resolver, &all, later), Some(0));
        name_of(&resolver).learn(Ok(addresses(&["3.3.3.3:80"])));
        assert_eq!(others(&resolver, &all, later), Some(1));
    }

    #[test]
    fn a_leg_whose_addresses_are_all_bad_ends_when_the_lookup_brings_nothing_new() {
        let asked = Instant::now();
        for found in [Ok(addresses(&["1.1.1.1:80"])), Err("gone".to_owned()), Ok(Vec::new())] {
            let (_answers, resolver) = knowing(&["1.1.1.1:80"], asked);
            assert_eq!(others(&resolver, &["1.1.1.1:80"], asked), Some(0));
            name_of(&resolver).learn(found);
            assert_eq!(others(&resolver, &["1.1.1.1:80"], asked), None);
        }
        let (_, receiver) = bounded(0);
        let literal = Resolver::new("1.1.1.1", 80, Lookups::by(Arc::new(Scripted(receiver))), TTL, || {});
        assert_eq!(others(&literal, &["1.1.1.1:80"], asked), None);
    }

    #[test]
    fn an_answer_is_refreshed_for_connections_that_are_used_again() {
        let then = Instant::now();
        for (label, age, is_refreshed) in
            [("young", TTL / 2, false), ("older", TTL * 2 / 3, true), ("old", TTL * 2, true)]
        {
            let (_answers, resolver) = knowing(&["1.1.1.1:80"], then);
            resolver.refresh(then + age);
            assert_eq!(is_looked_up(&resolver), is_refreshed, "{label}");
        }
        let (_answers, fleeting) = scripted_for(Duration::ZERO);
        fleeting.refresh(then);
        assert!(!is_looked_up(&fleeting), "what isn't known is looked up when it is needed");
        name_of(&fleeting).state.lock().known = Some(Known { addresses: addresses(&["1.1.1.1:80"]), since: then });
        fleeting.refresh(then + REFRESH_AGE_MIN / 2);
        assert!(!is_looked_up(&fleeting), "not with every request");
    }

    #[test]
    fn an_address_that_leaves_is_told_and_nothing_else_is() {
        let (sender, told) = unbounded();
        let (_, receiver) = bounded(0);
        let moved = move || sender.send(()).expect("the test listens");
        let resolver = Resolver::new("name.example", 80, Lookups::by(Arc::new(Scripted(receiver))), TTL, moved);
        let rows: [(&str, Found, bool, bool); 6] = [
            ("the first answer", Ok(addresses(&["1.1.1.1:80"])), false, true),
            ("the same again", Ok(addresses(&["1.1.1.1:80"])), false, true),
            ("one more", Ok(addresses(&["2.2.2.2:80", "1.1.1.1:80"])), false, true),
            ("a failure", Err("gone".to_owned()), false, true),
            ("another instead", Ok(addresses(&["2.2.2.2:80", "3.3.3.3:80"])), true, false),
            ("the first again", Ok(addresses(&["2.2.2.2:80", "3.3.3.3:80", "1.1.1.1:80"])), false, true),
        ];
        for (label, answer, is_told, has_it) in rows {
            name_of(&resolver).learn(answer);
            assert_eq!(
                (told.try_recv().is_ok(), resolver.has(addresses(&["1.1.1.1:80"])[0])),
                (is_told, has_it),
                "{label}"
            );
        }
    }

    #[test]
    fn an_answer_without_end_is_cut_but_not_before_the_good_address() {
        let (_answers, resolver) = scripted();
        let many: Vec<SocketAddr> = (0..1000).map(|port| SocketAddr::from(([1, 1, 1, 1], port))).collect();
        resolver.prefer(many[999]);
        name_of(&resolver).learn(Ok(many.clone()));
        let known = name_of(&resolver).state.lock().known_addresses().expect("an answer");
        assert_eq!((known.len(), known[0]), (ADDRESSES_MAX, many[999]));
    }
}
