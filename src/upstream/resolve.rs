//! The addresses of a backend's name: looked up on a thread of its own, kept for a while, refreshed in the background.
//! Knows nothing of connections.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::message::Outcome;

/// How long a leg waits for a fresh answer when an old one is in hand.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a failed lookup counts when there is no old answer.
const FAILURE_TTL: Duration = Duration::from_millis(250);
/// How long a failed lookup isn't tried again when an old answer is in hand.
const REST: Duration = Duration::from_secs(5);
/// getaddrinfo needs no more, and two megabytes per lookup would fail on small hosts.
const LOOKUP_STACK_BYTES: usize = 256 * 1024;

/// Looks names up; blocks as long as it takes.
pub trait Lookup: Send + Sync {
    /// All addresses of a name, with the port.
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own way: `/etc/hosts`, then DNS, as it is configured.
#[derive(Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// The addresses of one backend.
pub(super) struct Resolver(Kind);

enum Kind {
    Literal([SocketAddr; 1]),
    Name(Arc<Name>),
}

struct Name {
    host: String,
    port: u16,
    lookup: Arc<dyn Lookup>,
    /// How long an answer counts: the system doesn't tell the records' own time.
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Known>,
    /// The address that connected last: it is tried first, also after a new lookup.
    good: Option<SocketAddr>,
    /// Since when a lookup is under way.
    looking_since: Option<Instant>,
    /// A lookup has failed: why, and when.
    failed: Option<(String, Instant)>,
    /// Legs that wait for an answer.
    waiters: Vec<Weak<dyn News>>,
}

type Answer = Result<Vec<SocketAddr>, String>;

/// Who waits for the end of a lookup.
pub(super) trait News: Send + Sync {
    /// There is one. Doesn't block.
    fn tell(&self);
}

struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

impl Resolver {
    pub(super) fn new(host: &str, port: u16, lookup: Arc<dyn Lookup>, ttl: Duration) -> Resolver {
        Resolver(match host.parse::<IpAddr>() {
            Ok(ip) => Kind::Literal([SocketAddr::new(ip, port)]),
            Err(_) => Kind::Name(Arc::new(Name { host: host.to_owned(), port, lookup, ttl, state: Mutex::default() })),
        })
    }

    /// The addresses, the likeliest first. If they must be waited for, there are none, and `waiter` makes whoever is told when
    /// there is news; then it asks again, as one that has `asked` before. With an old answer in hand it needn't wait for
    /// longer than it is told. Doesn't block.
    pub(super) fn addresses<N: News + 'static>(
        &self,
        asked: Instant,
        now: Instant,
        waiter: impl FnOnce(Option<Duration>) -> Arc<N>,
    ) -> Result<Vec<SocketAddr>, Outcome> {
        match &self.0 {
            Kind::Literal(address) => Ok(address.to_vec()),
            Kind::Name(name) => {
                name.addresses(asked, now, |patience| Arc::downgrade(&waiter(patience)) as Weak<dyn News>)
            }
        }
    }

    /// This address connected: it is tried first from now on.
    pub(super) fn prefer(&self, good: SocketAddr) {
        if let Kind::Name(name) = &self.0 {
            let mut state = name.state();
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
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(
        self: &Arc<Name>,
        asked: Instant,
        now: Instant,
        waiter: impl FnOnce(Option<Duration>) -> Weak<dyn News>,
    ) -> Result<Vec<SocketAddr>, Outcome> {
        let mut state = self.state();
        if let Some(reason) = state.recent_failure(asked, now) {
            return Err(Outcome::Dns(reason));
        }
        let must_wait = state.must_wait(self.ttl, asked, now);
        let begins = state.wants_lookup(self.ttl, now) && (must_wait || !state.is_answered(asked));
        if begins {
            state.looking_since = Some(now);
        }
        let mut addresses = state.known_addresses();
        if must_wait {
            let waiter = waiter(addresses.take().map(|_| PATIENCE));
            // While a lookup hangs, legs come and go.
            state.waiters.retain(|waiter| waiter.strong_count() > 0);
            state.waiters.push(waiter);
        }
        drop(state);
        if begins {
            self.begin_lookup();
        }
        Ok(addresses.unwrap_or_default())
    }

    /// At most one lookup runs per backend, however long it hangs.
    fn begin_lookup(self: &Arc<Name>) {
        let name = self.clone();
        let spawned = thread::Builder::new().name("lookup".into()).stack_size(LOOKUP_STACK_BYTES).spawn(move || {
            let lookup = AssertUnwindSafe(|| name.lookup.lookup(&name.host, name.port));
            let found = catch_unwind(lookup).unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")));
            name.learn(found.map_err(|error| error.to_string()));
        });
        if let Err(error) = spawned {
            self.learn(Err(format!("no thread for the lookup: {error}")));
        }
    }

    /// A lookup has ended: whoever waits is told. A failed one leaves the old answer in force.
    fn learn(&self, found: Answer) {
        let found = found.and_then(|addresses| {
            if addresses.is_empty() { Err("it has no addresses".to_owned()) } else { Ok(interleaved(addresses)) }
        });
        let mut state = self.state();
        let now = Instant::now();
        state.looking_since = None;
        match found {
            Ok(mut addresses) => {
                if let Some(good) = state.good {
                    put_first(good, &mut addresses);
                }
                state.known = Some(Known { addresses, since: now });
                state.failed = None;
            }
            Err(reason) => state.failed = Some((reason, now)),
        }
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.tell());
    }
}

impl State {
    fn age(&self, now: Instant) -> Option<Duration> {
        self.known.as_ref().map(|known| now.saturating_duration_since(known.since))
    }

    /// Nothing is known, or the answer is so old that it is looked up anew in the background, so that nobody waits.
    fn wants_lookup(&self, ttl: Duration, now: Instant) -> bool {
        let is_resting = self.failed.as_ref().is_some_and(|(_, at)| now < *at + REST);
        let is_due = self.age(now).is_none_or(|age| age >= ttl * 2 / 3 && !is_resting);
        is_due && self.looking_since.is_none()
    }

    /// Whether an answer has come since somebody asked.
    fn is_answered(&self, asked: Instant) -> bool {
        self.known.as_ref().is_some_and(|known| known.since > asked)
    }

    /// The answer's time is over, and the lookup hasn't shown yet that it takes long or fails.
    fn must_wait(&self, ttl: Duration, asked: Instant, now: Instant) -> bool {
        let is_slow = self.looking_since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        let is_resting = self.failed.as_ref().is_some_and(|(_, at)| now < *at + REST);
        let has_patience = now < asked + PATIENCE && !self.is_answered(asked);
        self.age(now).is_none_or(|age| age >= ttl && has_patience && !is_slow && !is_resting)
    }

    /// Why the name has no addresses, if that was found out just now or since somebody asked: until then nobody waits to hear
    /// it again.
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

/// IPv6 and IPv4 by turns, beginning with the system's first choice (RFC 8305 §4).
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
    use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

    use super::*;

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
        (sender, Resolver::new("name.example", 80, Arc::new(Scripted(receiver)), ttl))
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    struct Bell(Sender<()>);

    impl News for Bell {
        fn tell(&self) {
            self.0.send(()).expect("the test listens");
        }
    }

    /// Asks as a leg does, and waits until it is told, or as long as it is worth it.
    fn ask(resolver: &Resolver, mut now: Instant) -> Result<Vec<SocketAddr>, Outcome> {
        let (asked, (ring, told)) = (now, unbounded());
        loop {
            let mut waits = None;
            let known = resolver.addresses(asked, now, |patience| {
                let bell = Arc::new(Bell(ring.clone()));
                waits = Some((bell.clone(), patience));
                bell
            })?;
            let Some((_bell, patience)) = waits else { return Ok(known) };
            let began = Instant::now();
            let told = told.recv_timeout(patience.unwrap_or(Duration::from_secs(10)));
            assert!(told.is_ok() || patience.is_some(), "nobody tells");
            now += began.elapsed();
        }
    }

    fn ask_now(resolver: &Resolver) -> Result<Vec<SocketAddr>, Outcome> {
        ask(resolver, Instant::now())
    }

    #[test]
    fn a_literal_is_never_looked_up() {
        let (_, receiver) = bounded(0);
        let resolver = Resolver::new("::1", 8080, Arc::new(Scripted(receiver)), TTL);
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
        assert_eq!(name.state().known_addresses(), Some(addresses(&["3.3.3.3:80"])), "only if it is still there");
    }

    #[test]
    fn a_name_is_looked_up_anew_before_its_answer_is_old_and_nobody_waits_for_that() {
        let then = Instant::now();
        let known = |addresses| Some(Known { addresses, since: then });
        let rows = [
            ("young", TTL / 2, None, None, false, false),
            ("older", TTL * 2 / 3, None, None, true, false),
            ("older, looked up", TTL * 2 / 3, Some(TTL * 2 / 3), None, false, false),
            ("old", TTL, None, None, true, true),
            ("old, just being looked up", TTL, Some(TTL), None, false, true),
            ("old, the lookup hangs", TTL + PATIENCE, Some(TTL), None, false, false),
            ("old, the lookup failed", TTL, None, Some(TTL), false, false),
            ("old, the lookup failed some time ago", TTL + REST, None, Some(TTL), true, true),
        ];
        for (name, age, looking_since, failed_at, wants, waits) in rows {
            let state = State {
                known: known(addresses(&["1.1.1.1:80"])),
                looking_since: looking_since.map(|since| then + since),
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
        let resolver = Resolver::new("name.example", 80, Arc::new(Panics), TTL);
        for _ in 0..2 {
            assert!(matches!(ask_now(&resolver), Err(Outcome::Dns(_))));
        }
    }

    #[test]
    fn an_answer_counts_for_those_who_waited_for_it_however_short_its_time() {
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
        assert_eq!(name.state().waiters.len(), 1, "the last one is forgotten when another comes");
    }
}
