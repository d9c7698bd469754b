//! What clients make of their places in a front, and which of them go first when it is full. Knows nothing of the clients
//! themselves.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use crate::downstream::timeouts::Timeouts;

/// Of so many clients in a full front one is found at a look, so that a look costs each that comes in as much as the rest of
/// its way in.
const CLIENTS_FOR_EACH: usize = 32;

/// What a client makes of its place while nothing is done for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Nothing of a request has come.
    Idle { since: Instant },
    /// A head or a body is on its way: how much has come, and when the last of it did.
    Receiving { since: Instant, bytes: u64, heard: Instant },
    /// A tunnel, or a reply that is being sent: how much has gone through, and when the last of it did.
    Streaming { since: Instant, bytes: u64, moved: Instant },
    /// It has been told to go, and is read for some time more.
    Closing { since: Instant },
}

impl Activity {
    /// Whether its place may be given to another client.
    pub(crate) fn is_evictable(&self, timeouts: &Timeouts, now: Instant) -> bool {
        match *self {
            Activity::Idle { since } | Activity::Closing { since } => {
                now.saturating_duration_since(since) >= timeouts.fair_silence
            }
            Activity::Receiving { since, bytes, heard } => {
                now.saturating_duration_since(since) >= timeouts.fair
                    && pace(bytes, since, heard, timeouts, now) < timeouts.fair_bytes_per_second
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

/// The same of what arrives, but nothing if it has stopped: else what was fast once could keep its place for minutes.
fn pace(bytes: u64, since: Instant, heard: Instant, timeouts: &Timeouts, now: Instant) -> u64 {
    let has_stopped = now.saturating_duration_since(heard) >= timeouts.stall;
    if has_stopped { 0 } else { rate(bytes, since, now) }
}

/// Those who go next, the first first: some of them, if there are any.
///
/// Idle clients go before all others, since they lose least (RFC 9112 §9.5). But requests that drip and tunnels have three
/// quarters of the places at most: beyond that they go first, so that the last quarter is always there for requests that are
/// served at once. Of these two kinds the one with more clients goes first: a few slow uploads don't pay for a
/// thousand silent tunnels, nor the other way round.
pub(crate) fn eviction_order<T>(
    clients: Vec<(Activity, T)>,
    places: usize,
    timeouts: &Timeouts,
    now: Instant,
) -> VecDeque<T> {
    let most = (clients.len() / CLIENTS_FOR_EACH).max(1);
    let (mut idle, mut receiving, mut tunnels) = (Vec::new(), Vec::new(), Vec::new());
    for (activity, client) in clients.into_iter().filter(|(activity, _)| activity.is_evictable(timeouts, now)) {
        match activity {
            Activity::Idle { since } | Activity::Closing { since } => idle.push((since, client)),
            Activity::Receiving { since, bytes, heard } => {
                receiving.push((pace(bytes, since, heard, timeouts, now), client));
            }
            Activity::Streaming { moved, .. } => tunnels.push((moved, client)),
        }
    }
    let mut slow = receiving.len() + tunnels.len();
    let (mut idle, mut receiving, mut tunnels) =
        (Queue::of(idle, most), Queue::of(receiving, most), Queue::of(tunnels, most));
    let mut next = VecDeque::new();
    while next.len() < most {
        let is_slow = idle.is_empty() || slow > places / 4 * 3;
        let client = match is_slow {
            false => idle.next(),
            true if receiving.left >= tunnels.left => receiving.next(),
            true => tunnels.next(),
        };
        let Some(client) = client else { break };
        slow -= usize::from(is_slow);
        next.push_back(client);
    }
    next
}

/// The first of a kind, in order, and how many there are in all.
struct Queue<T> {
    first: Vec<T>,
    left: usize,
}

impl<T> Queue<T> {
    fn of<K: Ord + Copy>(mut all: Vec<(K, T)>, most: usize) -> Queue<T> {
        let left = all.len();
        if left > most {
            all.select_nth_unstable_by_key(most, |(key, _)| *key);
            all.truncate(most);
        }
        all.sort_unstable_by_key(|(key, _)| Reverse(*key));
        Queue { first: all.into_iter().map(|(_, client)| client).collect(), left }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn next(&mut self) -> Option<T> {
        let client = self.first.pop()?;
        self.left -= 1;
        Some(client)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    /// The moment so many milliseconds before `begin + NOW`.
    fn ago(begin: Instant, milliseconds: u64) -> Instant {
        begin + NOW.saturating_sub(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_place_is_given_up_only_by_who_makes_little_of_it_and_has_had_its_time() {
        let begin = Instant::now();
        let idle = |milliseconds| Activity::Idle { since: ago(begin, milliseconds) };
        let heard = |milliseconds, bytes, heard| {
            let (since, heard) = (ago(begin, milliseconds), ago(begin, heard));
            Activity::Receiving { since, bytes, heard }
        };
        let receiving = |milliseconds, bytes| heard(milliseconds, bytes, 0);
        let tunnel =
            |milliseconds, bytes| Activity::Streaming { since: ago(begin, milliseconds), bytes, moved: ago(begin, 0) };
        let rows = [
            ("asks one request after another", idle(999), false),
            ("idles", idle(1000), true),
            ("has just begun", receiving(2999, 0), false),
            ("has begun, and nothing comes", receiving(3000, 0), true),
            ("1.2 KB a second", receiving(60_000, 72_000), true),
            ("just below 16 KiB a second", receiving(3000, 3 * 16 * 1024 - 1), true),
            ("16 KiB a second", receiving(3000, 3 * 16 * 1024), false),
            ("was fast, and is slow", receiving(60_000, 60 * 16 * 1024 - 1), true),
            ("is fast, and pauses", heard(60_000, 60 * 16 * 1024, 9_999), false),
            ("was fast, and has stopped", heard(60_000, 60 * 16 * 1024, 10_000), true),
            ("a new tunnel", tunnel(2999, 0), false),
            ("a tunnel with a byte now and then", tunnel(60_000, 60), true),
            ("a busy tunnel", tunnel(60_000, 60 * 16 * 1024), false),
            ("has just been told to go", Activity::Closing { since: ago(begin, 999) }, false),
            ("was told to go", Activity::Closing { since: ago(begin, 1000) }, true),
        ];
        for (label, activity, expected) in rows {
            assert_eq!(activity.is_evictable(&Timeouts::DEFAULT, begin + NOW), expected, "{label}");
        }
    }

    /// Who goes, by name, of as many as the letters in the pattern, and in which order.
    fn order(places: usize, mut clients: Vec<(Activity, &'static str)>, now: Instant) -> String {
        let mut order = String::new();
        loop {
            let next = eviction_order(clients.clone(), places, &Timeouts::DEFAULT, now);
            let Some(name) = next.front() else { return order };
            order.push_str(name);
            clients.retain(|(_, other)| other != name);
        }
    }

    #[test]
    fn the_idle_go_first_then_the_slowest_of_the_kind_that_has_most() {
        let begin = Instant::now();
        let now = begin + NOW;
        let idle = |seconds: u64| Activity::Idle { since: ago(begin, seconds * 1000) };
        let upload = |bytes: u64| Activity::Receiving { since: ago(begin, 10_000), bytes: bytes * 1000, heard: now };
        let tunnel = |seconds: u64| Activity::Streaming {
            since: ago(begin, 900_000),
            bytes: 0,
            moved: ago(begin, seconds * 1000),
        };
        let rows = [
            ("none may go", 8, vec![(upload(1 << 20), "a"), (idle(0), "b")], ""),
            ("idle for longest", 8, vec![(idle(2), "a"), (idle(9), "b"), (idle(5), "c")], "bca"),
            ("the slowest upload", 8, vec![(upload(20), "a"), (upload(10), "b"), (upload(1 << 20), "c")], "ba"),
            ("idle before slow", 8, vec![(upload(1), "a"), (idle(2), "b"), (tunnel(50), "c")], "bac"),
            ("the tunnel silent for longest", 8, vec![(tunnel(5), "a"), (tunnel(50), "b")], "ba"),
            ("most are tunnels", 8, vec![(tunnel(5), "a"), (upload(1), "b"), (tunnel(50), "c")], "cba"),
            ("most are uploads", 8, vec![(upload(9), "a"), (tunnel(50), "b"), (upload(1), "c")], "cab"),
            (
                "three quarters and one are slow",
                4,
                vec![(idle(60), "i"), (upload(4), "a"), (upload(3), "b"), (upload(2), "c"), (upload(1), "d")],
                "dicba",
            ),
        ];
        for (label, places, clients, expected) in rows {
            assert_eq!(order(places, clients, now), expected, "{label}");
        }
    }

    #[test]
    fn one_in_32_is_found_at_a_look_and_they_are_the_slowest() {
        let begin = Instant::now();
        let uploads = (0..320_u64)
            .rev()
            .map(|bytes| (Activity::Receiving { since: begin, bytes: bytes * 1000, heard: begin + NOW }, bytes));
        let next = eviction_order(uploads.collect(), 320, &Timeouts::DEFAULT, begin + NOW);
        assert_eq!(next, (0..10).collect::<VecDeque<u64>>());
    }
}
