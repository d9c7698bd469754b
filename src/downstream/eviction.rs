//! What clients use their places in a connection table for, and which of them are evicted first when it is full. Knows nothing of
//! the clients themselves.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use crate::downstream::timeouts::Timeouts;

/// A scan finds one client out of this number, so that it costs each that comes in as much as the rest of its way in.
const CLIENTS_PER_EVICTION: usize = 32;

/// What a client uses its place for while no thread works for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// TLS hasn't been agreed on, and so nothing of a request has come, nor maybe the whole of the hello that comes first.
    Handshaking { since: Instant, has_hello: bool },
    /// Nothing of a request has come.
    Idle { since: Instant },
    /// A head or a body is on its way: how much has come, and when the last of it did.
    Receiving { since: Instant, bytes: u64, received_at: Instant },
    /// A tunnel, or a reply that is being sent: how much has gone through, and when the last of it did.
    Streaming { since: Instant, bytes: u64, moved_at: Instant },
    /// Its last reply was sent, and it is read for some time more.
    Closing { since: Instant },
}

impl Activity {
    /// Whether its place may be given to another client.
    pub(crate) fn is_evictable(&self, timeouts: &Timeouts, now: Instant) -> bool {
        match *self {
            Activity::Handshaking { since, has_hello: false } => {
                now.saturating_duration_since(since) >= timeouts.fair_hello
            }
            Activity::Handshaking { since, .. } | Activity::Idle { since } | Activity::Closing { since } => {
                now.saturating_duration_since(since) >= timeouts.fair_silence
            }
            Activity::Receiving { since, bytes, received_at } => {
                now.saturating_duration_since(since) >= timeouts.fair
                    && arrival_rate(bytes, since, received_at, timeouts, now) < timeouts.fair_bytes_per_second
            }
            Activity::Streaming { since, bytes, .. } => {
                now.saturating_duration_since(since) >= timeouts.fair
                    && rate(bytes, since, now) < timeouts.fair_bytes_per_second
            }
        }
    }
}

/// Bytes per second since then.
fn rate(bytes: u64, since: Instant, now: Instant) -> u64 {
    let milliseconds = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1000) / milliseconds.max(1)
}

/// Bytes per second of a request that arrives, or 0 if it has stopped: else what was fast once could keep its place for minutes.
fn arrival_rate(bytes: u64, since: Instant, received_at: Instant, timeouts: &Timeouts, now: Instant) -> u64 {
    let has_stopped = now.saturating_duration_since(received_at) >= timeouts.stall;
    if has_stopped { 0 } else { rate(bytes, since, now) }
}

/// The clients to evict next, in order: some of them, if there are any.
///
/// Idle clients come before all others, since they lose least (RFC 9112 §9.5), and before them those that haven't shaken hands, first
/// those without a hello: a flood of them gives way to itself. But requests that drip and tunnels have three quarters of the places at
/// most: beyond that they come first, so that the last quarter is always left to requests that are served at once. Of these two kinds
/// the one with more clients comes first: a few slow uploads don't pay for a thousand silent tunnels, nor the other way round.
pub(crate) fn eviction_order<T>(
    clients: Vec<(Activity, T)>,
    connections_max: usize,
    timeouts: &Timeouts,
    now: Instant,
) -> VecDeque<T> {
    let order_max = (clients.len() / CLIENTS_PER_EVICTION).max(1);
    let (mut idle, mut receiving, mut streaming) = (Vec::new(), Vec::new(), Vec::new());
    // The oldest first.
    let age = |at: Instant| u64::MAX - u64::try_from(now.saturating_duration_since(at).as_nanos()).unwrap_or(u64::MAX);
    for (activity, client) in clients.into_iter().filter(|(activity, _)| activity.is_evictable(timeouts, now)) {
        match activity {
            Activity::Handshaking { since, has_hello } => idle.push(((u8::from(has_hello), age(since)), client)),
            Activity::Idle { since } | Activity::Closing { since } => idle.push(((2, age(since)), client)),
            Activity::Receiving { since, bytes, received_at } => {
                receiving.push(((0, arrival_rate(bytes, since, received_at, timeouts, now)), client));
            }
            Activity::Streaming { moved_at, .. } => streaming.push(((0, age(moved_at)), client)),
        }
    }
    let mut slow_count = receiving.len() + streaming.len();
    let (mut idle, mut receiving, mut streaming) =
        (Queue::of(idle, order_max), Queue::of(receiving, order_max), Queue::of(streaming, order_max));
    let mut order = VecDeque::new();
    while order.len() < order_max {
        let is_slow_next = idle.is_empty() || slow_count > connections_max / 4 * 3;
        let client = match is_slow_next {
            false => idle.next(),
            true if receiving.count >= streaming.count => receiving.next(),
            true => streaming.next(),
        };
        let Some(client) = client else { break };
        slow_count -= usize::from(is_slow_next);
        order.push_back(client);
    }
    order
}

/// The first clients of a kind, in order, and the number of all that are left of it.
struct Queue<T> {
    first: Vec<T>,
    count: usize,
}

impl<T> Queue<T> {
    fn of(mut all: Vec<((u8, u64), T)>, order_max: usize) -> Queue<T> {
        let count = all.len();
        if count > order_max {
            all.select_nth_unstable_by_key(order_max, |(key, _)| *key);
            all.truncate(order_max);
        }
        all.sort_unstable_by_key(|(key, _)| Reverse(*key));
        Queue { first: all.into_iter().map(|(_, client)| client).collect(), count }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn next(&mut self) -> Option<T> {
        let client = self.first.pop()?;
        self.count -= 1;
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    /// The moment this number of milliseconds before `begin + NOW`.
    fn ago(begin: Instant, milliseconds: u64) -> Instant {
        begin + NOW.saturating_sub(Duration::from_millis(milliseconds))
    }

    #[test]
    fn only_a_client_that_is_slow_and_has_had_its_time_is_evictable() {
        let begin = Instant::now();
        let idle = |milliseconds| Activity::Idle { since: ago(begin, milliseconds) };
        let shaking = |milliseconds, has_hello| Activity::Handshaking { since: ago(begin, milliseconds), has_hello };
        let last_heard = |milliseconds, bytes, heard| {
            let (since, received_at) = (ago(begin, milliseconds), ago(begin, heard));
            Activity::Receiving { since, bytes, received_at }
        };
        let receiving = |milliseconds, bytes| last_heard(milliseconds, bytes, 0);
        let tunnel = |milliseconds, bytes| Activity::Streaming {
            since: ago(begin, milliseconds),
            bytes,
            moved_at: ago(begin, 0),
        };
        let rows = [
            ("asks one request after another", idle(999), false),
            ("idles", idle(1000), true),
            ("has just connected", shaking(99, false), false),
            ("hasn't said hello in a tenth of a second", shaking(100, false), true),
            ("has said hello", shaking(999, true), false),
            ("hasn't shaken hands in a second", shaking(1000, true), true),
            ("has just begun", receiving(2999, 0), false),
            ("has begun, and nothing comes", receiving(3000, 0), true),
            ("1.2 KB a second", receiving(60_000, 72_000), true),
            ("just below 16 KiB a second", receiving(3000, 3 * 16 * 1024 - 1), true),
            ("16 KiB a second", receiving(3000, 3 * 16 * 1024), false),
            ("was fast, and is slow", receiving(60_000, 60 * 16 * 1024 - 1), true),
            ("is fast, and pauses", last_heard(60_000, 60 * 16 * 1024, 9_999), false),
            ("was fast, and has stopped", last_heard(60_000, 60 * 16 * 1024, 10_000), true),
            ("a new tunnel", tunnel(2999, 0), false),
            ("a tunnel with a byte now and then", tunnel(60_000, 60), true),
            ("a busy tunnel", tunnel(60_000, 60 * 16 * 1024), false),
            ("has just had its last reply", Activity::Closing { since: ago(begin, 999) }, false),
            ("had its last reply a second ago", Activity::Closing { since: ago(begin, 1000) }, true),
        ];
        for (label, activity, expected) in rows {
            assert_eq!(activity.is_evictable(&Timeouts::DEFAULT, begin + NOW), expected, "{label}");
        }
    }

    /// The names of all clients that could be evicted, in the order in which they would be.
    fn order(connections_max: usize, mut clients: Vec<(Activity, &'static str)>, now: Instant) -> String {
        let mut order = String::new();
        loop {
            let next = eviction_order(clients.clone(), connections_max, &Timeouts::DEFAULT, now);
            let Some(name) = next.front() else { return order };
            order.push_str(name);
            clients.retain(|(_, other)| other != name);
        }
    }

    #[test]
    fn idle_clients_are_evicted_first_then_the_slowest_of_the_kind_that_has_most() {
        let begin = Instant::now();
        let now = begin + NOW;
        let idle = |seconds: u64| Activity::Idle { since: ago(begin, seconds * 1000) };
        let shaking = |milliseconds, has_hello| Activity::Handshaking { since: ago(begin, milliseconds), has_hello };
        let upload =
            |bytes: u64| Activity::Receiving { since: ago(begin, 10_000), bytes: bytes * 1000, received_at: now };
        let tunnel = |seconds: u64| Activity::Streaming {
            since: ago(begin, 900_000),
            bytes: 0,
            moved_at: ago(begin, seconds * 1000),
        };
        let rows = [
            ("no client is evictable", 8, vec![(upload(1 << 20), "a"), (idle(0), "b")], ""),
            ("idle for longest", 8, vec![(idle(2), "a"), (idle(9), "b"), (idle(5), "c")], "bca"),
            ("the slowest upload", 8, vec![(upload(20), "a"), (upload(10), "b"), (upload(1 << 20), "c")], "ba"),
            ("idle before slow", 8, vec![(upload(1), "a"), (idle(2), "b"), (tunnel(50), "c")], "bac"),
            ("the tunnel silent for longest", 8, vec![(tunnel(5), "a"), (tunnel(50), "b")], "ba"),
            (
                "half a handshake before idle",
                8,
                vec![(idle(9), "a"), (shaking(2000, true), "b"), (shaking(5000, true), "c"), (shaking(0, true), "d")],
                "cba",
            ),
            (
                "no hello before half a handshake, the oldest first",
                8,
                vec![
                    (shaking(9000, true), "a"),
                    (shaking(100, false), "b"),
                    (shaking(150, false), "c"),
                    (idle(9), "d"),
                ],
                "cbad",
            ),
            (
                "the newest of a flood stay",
                8,
                vec![(shaking(50, false), "a"), (shaking(300, true), "b"), (shaking(99, false), "c")],
                "",
            ),
            ("most are tunnels", 8, vec![(tunnel(5), "a"), (upload(1), "b"), (tunnel(50), "c")], "cba"),
            ("most are uploads", 8, vec![(upload(9), "a"), (tunnel(50), "b"), (upload(1), "c")], "cab"),
            (
                "three quarters and one are slow",
                4,
                vec![(idle(60), "i"), (upload(4), "a"), (upload(3), "b"), (upload(2), "c"), (upload(1), "d")],
                "dicba",
            ),
        ];
        for (label, connections_max, clients, expected) in rows {
            assert_eq!(order(connections_max, clients, now), expected, "{label}");
        }
    }

    #[test]
    fn a_scan_finds_the_slowest_one_in_32() {
        let begin = Instant::now();
        let uploads = (0..320_u64)
            .rev()
            .map(|bytes| (Activity::Receiving { since: begin, bytes: bytes * 1000, received_at: begin + NOW }, bytes));
        let next = eviction_order(uploads.collect(), 320, &Timeouts::DEFAULT, begin + NOW);
        assert_eq!(next, (0..10).collect::<VecDeque<u64>>());
    }
}
