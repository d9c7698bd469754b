//! The connections to one backend: those that idle are used again. Knows nothing of what travels on them.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::list::LocalFiles;
use crate::message::Address;
use crate::runtime::poller::{Event, EventHandler, Registration};
use crate::runtime::sync::{Arc, Mutex, Weak};
use crate::upstream::conn::request_bytes::RequestBytes;
use crate::upstream::connect::connecting::Established;
use crate::upstream::endpoint::{Endpoint, Place};
use crate::upstream::pooled::PooledConnection;
use crate::upstream::request::UpstreamRequest;
use crate::upstream::shared::Upstream;

/// The longest time that a connection may have idled before a request that can't be repeated is sent on it.
const IDLE_TIME_MAX_ONCE: Duration = Duration::from_secs(1);

/// The most idle connections for which one thread is enough. Where more are idle, there is work for every core: then the last
/// one whose events are given on the current thread is taken, since that thread is awake.
const FEW_CONNECTIONS: usize = 8;
/// The time that a connection idles before it is preferred. Bytes that a backend sends behind an answer, by a mistake of its
/// own, come soon after it. A connection that has been idle for this long is looked at once more before it is used, and those
/// are seen.
const RIPE_TIME: Duration = Duration::from_millis(10);
/// And the time from which it isn't preferred any more. Some servers (Puma, for 200 ms) have a thread wait at each connection for its
/// next request: were those preferred at which none waits any more, soon all would wait where nothing comes.
const STALE_TIME: Duration = Duration::from_millis(100);
/// The time that a connection idles before it is used at all, where such bytes are to be feared, or an end: behind a head that
/// declares a body that isn't to be sent, or one that would end with the connection.
const SUSPECT_TIME: Duration = Duration::from_millis(100);

/// All connections to one backend.
pub struct Pool {
    endpoint: Arc<Endpoint>,
    idle: Mutex<Vec<Idle>>,
    sweep: Registration,
}

struct Idle {
    pooled: PooledConnection,
    since: Instant,
    /// The time from which it is probably closed at the other end.
    until: Instant,
}

/// Drops idle connections when their time is over, also if no leg takes one.
struct Sweeper(Weak<Pool>);

impl EventHandler for Sweeper {
    fn on_event(self: Arc<Self>, event: Event) {
        match (event, self.0.upgrade()) {
            (Event::Expired, Some(pool)) => pool.sweep(Instant::now()),
            (Event::Ready { .. } | Event::Expired | Event::Drain | Event::Cut, _) => {}
        }
    }
}

impl Pool {
    /// Makes a pool without connections: to a backend that is reached there, and has these files of its own.
    pub(crate) fn at(
        address: Address,
        place: Place,
        upstream: Arc<Upstream>,
        files: Option<Arc<LocalFiles>>,
    ) -> Arc<Pool> {
        Arc::new_cyclic(|pool: &Weak<Pool>| Pool {
            idle: Mutex::default(),
            sweep: {
                let sweep = upstream.poller.reserve();
                sweep.start(Arc::new(Sweeper(pool.clone())));
                sweep
            },
            endpoint: Endpoint::new(address, place, upstream, files, {
                let pool = pool.clone();
                move || pool.upgrade().iter().for_each(|pool| pool.sweep(Instant::now()))
            }),
        })
    }

    /// The request as this backend gets it.
    pub(crate) fn bytes_of(&self, request: &UpstreamRequest) -> RequestBytes {
        let is_exact = self.endpoint.is_exact();
        match self.endpoint.files().filter(|files| !files.fields.is_empty()) {
            Some(files) => request.bytes_with(self.address(), is_exact, &files.fields),
            None => request.bytes_for(self.address(), is_exact),
        }
    }

    /// The backend's address.
    pub fn address(&self) -> &Address {
        self.endpoint.address()
    }

    /// The longest time to reach the backend, and again to the complete head of its answer.
    pub fn timeout(&self) -> Duration {
        self.endpoint.timeout()
    }

    /// Takes an idle connection that may be used: one that is young enough, and has received nothing since its last answer.
    pub(crate) fn take(&self, repeatable: bool, now: Instant) -> Option<PooledConnection> {
        loop {
            let idle = {
                let mut idle = self.idle.lock();
                let at = best_of(&idle, repeatable, now)?;
                idle.remove(at)
            };
            if idle.pooled.connection().probe_idle() {
                self.endpoint.resolver().refresh(now);
                self.endpoint.upstream().reused.fetch_add(1, Ordering::Relaxed);
                log::debug!(
                    "uses a connection to {} at {} again",
                    self.address(),
                    self.endpoint.place(idle.pooled.peer())
                );
                return Some(idle.pooled);
            }
        }
    }

    /// Closes as many of the idle connections that have waited longest as must end before there may be one more, if that many idle: those
    /// that a request mustn't use mustn't keep it from one of its own either.
    pub(crate) fn make_room(&self) {
        let excess = self.endpoint.excess_connections();
        if excess == 0 {
            return;
        }
        let mut idle = self.idle.lock();
        let oldest: Vec<Idle> = if excess <= idle.len() { idle.drain(..excess).collect() } else { Vec::new() };
        drop(idle);
        drop(oldest);
    }

    /// Keeps a connection for the next request, if its last answer came to its end.
    pub(crate) fn put(&self, mut pooled: PooledConnection, now: Instant) {
        let idle_connections_max = self.endpoint.upstream().idle_connections_max();
        if idle_connections_max == 0 || !pooled.is_reusable() {
            return;
        }
        pooled.make_idle();
        let until = now + pooled.idle_time_max();
        let mut idle = self.idle.lock();
        // Under the lock, or a connection that is put back while the name moves could stay.
        if !self.endpoint.resolver().has(pooled.peer()) {
            return;
        }
        let excess = (idle.len() + 1).saturating_sub(idle_connections_max);
        let oldest: Vec<Idle> = idle.drain(..excess).collect();
        let is_next = idle.iter().all(|other| until < other.until);
        idle.push(Idle { pooled, since: now, until });
        if is_next {
            // Under the lock, or the sweeper could take a deadline back that it doesn't know of.
            self.sweep.set_deadline(Some(until));
        }
        drop(idle);
        drop(oldest);
    }

    /// Takes the connection that was put back last, however long it may idle, for tests.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn take_last(&self) -> Option<PooledConnection> {
        self.idle.lock().pop().map(|idle| idle.pooled)
    }

    /// Drops the idle connections whose time is over, and those to an address that has left the backend's name.
    fn sweep(&self, now: Instant) {
        let mut idle = self.idle.lock();
        let is_over = |idle: &mut Idle| idle.until <= now || !self.endpoint.resolver().has(idle.pooled.peer());
        let over: Vec<Idle> = idle.extract_if(.., is_over).collect();
        self.sweep.set_deadline(idle.iter().map(|idle| idle.until).min());
        drop(idle);
        drop(over);
    }

    /// Makes a new connection one of the pool's.
    pub(crate) fn adopt(&self, connection: Established) -> PooledConnection {
        self.endpoint.upstream().opened.fetch_add(1, Ordering::Relaxed);
        log::debug!("opened a connection to {} at {}", self.address(), self.endpoint.place(connection.peer));
        PooledConnection::new(connection)
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("address", self.endpoint.address()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.sweep.end();
    }
}

/// Chooses the idle connection that is used next, of those in the order in which they were put back: one that has been idle for
/// a moment if there is choice, but not for long, and of these the last, so that those that aren't needed age.
fn best_of(idle: &[Idle], repeatable: bool, now: Instant) -> Option<usize> {
    let is_usable = |idle: &Idle| {
        let has_rested = !idle.pooled.is_suspect() || idle.since + SUSPECT_TIME <= now;
        has_rested && now < idle.until && (repeatable || now <= idle.since + IDLE_TIME_MAX_ONCE)
    };
    let is_near = |idle: &Idle| is_usable(idle) && idle.pooled.connection().is_on_current_thread();
    let are_many = idle.len() > FEW_CONNECTIONS;
    let idle_for = |time| idle.partition_point(|idle| idle.since + time <= now);
    let (stale, ripe) = (idle_for(STALE_TIME), idle_for(RIPE_TIME));
    let nearest = |places: Range<usize>| {
        let (begin, idle) = (places.start, &idle[places]);
        let near = if are_many { idle.iter().rposition(is_near) } else { None };
        near.or_else(|| idle.iter().rposition(is_usable)).map(|at| begin + at)
    };
    nearest(stale..ripe).or_else(|| nearest(ripe..idle.len())).or_else(|| nearest(0..stale))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::upstream::pooled::IDLE_TIME_MAX;
    use crate::upstream::scenario::{SOON, Scenario, get, request};

    /// In milliseconds.
    const NOW: u64 = 10_000;

    #[test]
    fn an_idle_connection_is_taken_unless_it_has_received_something() {
        let scenario = Scenario::new();
        let is_taken = || scenario.pool.take(true, Instant::now()).is_some();
        assert!(!is_taken());
        let _backend = scenario.idle();
        assert!(is_taken());
        let mut backend = scenario.idle();
        backend.sends("HTTP/1.1 408 Request Timeout\r\n\r\n");
        assert!(!is_taken());
        assert_eq!(backend.receives_to_end(), b"", "it is dropped");
        let backend = scenario.idle();
        backend.ends();
        assert!(!is_taken());
    }

    #[test]
    fn a_dead_idle_connection_is_passed_over_for_one_that_is_alive() {
        let scenario = Scenario::new();
        let (mut alive, dead) = (scenario.idle(), scenario.idle());
        dead.ends();
        let taken = scenario.pool.take(true, Instant::now()).expect("one is alive");
        taken.connection().begin_request(scenario.pool.bytes_of(&get()));
        assert!(alive.receives_head().starts_with("GET"));
    }

    #[test]
    fn an_idle_connection_is_used_for_as_long_as_it_may_idle_and_for_what_goes_out_once_for_a_second() {
        let (second, tick) = (Duration::from_secs(1), Duration::from_millis(1));
        let rows = [
            ("at once", true, Duration::ZERO, true),
            ("nearly 4 s", true, tick * 3999, true),
            ("4 s", true, second * 4, false),
            ("once, at once", false, Duration::ZERO, true),
            ("once, 1 s", false, second, true),
            ("once, more than 1 s", false, second + tick, false),
        ];
        for (label, repeatable, age, is_taken) in rows {
            let scenario = Scenario::new();
            let before = Instant::now();
            let _backend = scenario.idle();
            // It was put back between both.
            let now = if is_taken { before } else { Instant::now() } + age;
            assert_eq!(scenario.pool.take(repeatable, now).is_some(), is_taken, "{label}");
        }
    }

    #[test]
    fn a_suspect_connection_rests_before_it_is_used() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(request(Method::HEAD, &[], None));
        backend.sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let put_at = Instant::now();
        leg.answer().expect("an answer");
        assert!(scenario.pool.take(true, put_at + SUSPECT_TIME / 2).is_none());
        assert!(scenario.pool.take(true, Instant::now() + SUSPECT_TIME).is_some());
    }

    #[test]
    fn beyond_the_most_idle_connections_the_oldest_is_dropped() {
        let scenario = Scenario::with(|options| options.idle_connections_max = 2);
        let (mut first, mut second, mut third) = (scenario.idle(), scenario.idle(), scenario.idle());
        assert_eq!(first.receives_to_end(), b"");
        assert!(second.is_left_alone() && third.is_left_alone());
        assert_eq!(scenario.take_idle(), 2);
    }

    #[test]
    fn once_connections_get_scarce_few_of_them_idle() {
        let scenario = Scenario::with(|options| options.connections_max = 300);
        let idle = || scenario.pool.idle.lock().len();
        let mut far: Vec<_> = (0..70).map(|_| scenario.idle()).collect();
        assert_eq!(idle(), 70);
        let all = &scenario.pool.endpoint().upstream().connections;
        all.fetch_add(200, Ordering::Relaxed);
        far.push(scenario.idle());
        all.fetch_sub(200, Ordering::Relaxed);
        assert_eq!((idle(), far[0].receives_to_end()), (64, Vec::new()));
    }

    #[test]
    fn without_room_for_idle_connections_none_is_kept() {
        let scenario = Scenario::with(|options| options.idle_connections_max = 0);
        assert_eq!(scenario.idle().receives_to_end(), b"");
    }

    #[test]
    fn an_idle_connection_whose_time_is_over_is_dropped_without_a_leg_that_asks() {
        let scenario = Scenario::new();
        let (leg, mut backend) = scenario.leg(get());
        backend.receives_head();
        backend.sends("HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=0\r\n\r\n");
        leg.answer().expect("an answer");
        assert_eq!(backend.receives_to_end(), b"");
    }

    #[test]
    fn a_sweep_drops_what_is_over_and_nothing_else() {
        let scenario = Scenario::still();
        let (mut backend, now) = (scenario.idle(), Instant::now());
        scenario.pool.sweep(now + IDLE_TIME_MAX / 2);
        assert!(backend.is_left_alone());
        scenario.pool.sweep(now + IDLE_TIME_MAX);
        assert_eq!(backend.receives_to_end(), b"");
    }

    #[test]
    fn connections_are_counted_when_they_are_opened_and_when_they_are_used_again() {
        let scenario = Scenario::new();
        let _backends = [scenario.idle(), scenario.idle()];
        assert_eq!(scenario.upstream.connection_counts(), (2, 0));
        drop(scenario.pool.take(true, Instant::now()));
        assert_eq!(scenario.upstream.connection_counts(), (2, 1));
        assert_eq!(scenario.upstream.connections.load(Ordering::Relaxed), 1, "permits come back");
    }

    /// What a backend sends behind an answer by mistake comes soon: a connection that has been idle for a moment shows it.
    /// Was seen as: after a burst Puma, with four threads, served 20 requests a second for as long as they came.
    #[test]
    fn of_the_connections_that_have_been_idle_for_a_moment_the_last_is_taken_and_where_none_has_the_last_of_all() {
        let scenario = Scenario::new();
        let begun = Instant::now();
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        let now = after(NOW);
        // For how many milliseconds each has been idle, in the order in which they were put back.
        let rows: [(&str, &[u64], bool, Option<usize>); 11] = [
            ("none", &[], true, None),
            ("all for a moment", &[30, 20, 10], true, Some(2)),
            ("the last not yet", &[30, 20, 9], true, Some(1)),
            ("only the first", &[10, 9, 0], true, Some(0)),
            ("none for a moment", &[9, 5, 0], true, Some(2)),
            ("for long, or not for a moment", &[300, 100, 9, 0], true, Some(3)),
            ("for long, or for a moment", &[300, 100, 99, 0], true, Some(2)),
            ("all for long", &[300, 200, 100], true, Some(2)),
            ("too long for what goes out once", &[1500, 1001], false, None),
            ("short enough for it", &[1500, 1000], false, Some(1)),
            ("too long, or not for a moment", &[1001, 5, 1], false, Some(2)),
        ];
        for (label, ages, repeatable, expected) in rows {
            let idle = ages.iter().map(|age| {
                let since = after(NOW - age);
                Idle { pooled: scenario.pooled().0, since, until: now + SOON }
            });
            assert_eq!(best_of(&idle.collect::<Vec<_>>(), repeatable, now), expected, "{label}");
        }
    }

    /// Was seen as: for three seconds after many reads each POST was refused, while the connections of those idled.
    #[test]
    fn an_idle_connection_that_a_request_must_not_use_makes_room_for_one_that_it_may() {
        let scenario = Scenario::with(|options| options.connections_max = 2);
        let (_first, _second) = (scenario.idle(), scenario.idle());
        let later = Instant::now() + IDLE_TIME_MAX_ONCE * 2;
        assert!(scenario.pool.take(false, later).is_none() && scenario.pool.endpoint.permit().is_err());
        scenario.pool.make_room();
        assert!(scenario.pool.endpoint.permit().is_ok());
        let _third = scenario.idle();
        scenario.pool.make_room();
        assert!(scenario.pool.endpoint.permit().is_ok(), "all are closed that must be");
        let ((_busy, _far), _idle) = (scenario.pooled(), scenario.idle());
        scenario.pool.make_room();
        assert_eq!(scenario.pool.idle.lock().len(), 1, "none is closed in vain");
    }
}
