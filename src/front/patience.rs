//! How long threads wait for clients that take their replies slowly: for each not for ever, and only for so many at once.
//! Knows nothing of sockets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a client must take, on average, while it is waited for: slower is no line that anybody has.
const BYTES_PER_SECOND_MIN: u128 = 1024;

/// How a client takes one reply. Only the time counts in which it was waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    taken: u128,
}

impl Pace {
    /// The client took so many bytes.
    pub(super) fn took(&mut self, bytes: usize) {
        self.taken += bytes as u128;
    }

    /// The client was waited for: whether it has taken too little since it was for as long as `window`.
    pub(super) fn is_too_slow(&mut self, waited: Duration, window: Duration) -> bool {
        self.waited += waited;
        if self.waited < window {
            return false;
        }
        let Pace { waited, taken } = std::mem::take(self);
        taken < waited.as_millis() * BYTES_PER_SECOND_MIN / 1000
    }
}

/// Those that threads wait for just now, and since when they have taken nothing.
pub(super) struct Waiting<T> {
    most: usize,
    list: Mutex<Vec<(Instant, Arc<T>)>>,
}

/// A wait, until it is dropped.
pub(super) struct Wait<'a, T> {
    waiting: &'a Waiting<T>,
    who: Arc<T>,
}

impl<T> Waiting<T> {
    /// Nobody yet; there may be so many.
    pub(super) fn new(most: usize) -> Waiting<T> {
        Waiting { most, list: Mutex::default() }
    }

    /// A thread waits for somebody who has taken nothing since then. If that makes too many, whoever has taken nothing for
    /// longest is let go of.
    pub(super) fn begin(&self, who: &Arc<T>, since: Instant) -> (Wait<'_, T>, Option<Arc<T>>) {
        let mut list = self.list();
        list.push((since, who.clone()));
        let longest = if list.len() > self.most { longest(&mut list) } else { None };
        drop(list);
        (Wait { waiting: self, who: who.clone() }, longest)
    }

    fn list(&self) -> MutexGuard<'_, Vec<(Instant, Arc<T>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn longest<T>(list: &mut Vec<(Instant, Arc<T>)>) -> Option<Arc<T>> {
    let at = list.iter().enumerate().min_by_key(|(_, (since, _))| *since)?.0;
    Some(list.remove(at).1)
}

impl<T> Drop for Wait<'_, T> {
    fn drop(&mut self) {
        self.waiting.list().retain(|(_, other)| !Arc::ptr_eq(other, &self.who));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_client_may_be_slow_but_not_too_slow() {
        let rows = [
            ("nothing", 0, WINDOW, true),
            ("too little", 61_439, WINDOW, true),
            ("just enough", 61_440, WINDOW, false),
            ("nothing, but not for long", 0, Duration::from_millis(59_999), false),
        ];
        for (label, bytes, waited, expected) in rows {
            let mut pace = Pace::default();
            pace.took(bytes);
            assert_eq!(pace.is_too_slow(waited, WINDOW), expected, "{label}");
        }
    }

    #[test]
    fn what_was_taken_long_ago_does_not_count() {
        let mut pace = Pace::default();
        pace.took(10_000_000);
        assert!(!pace.is_too_slow(WINDOW, WINDOW));
        for _ in 0..59 {
            pace.took(100);
            assert!(!pace.is_too_slow(WINDOW / 60, WINDOW));
        }
        assert!(pace.is_too_slow(WINDOW / 60, WINDOW));
    }

    #[test]
    fn the_longest_wait_gives_way() {
        let waiting = Waiting::new(2);
        let now = Instant::now();
        let [a, b, c, d] = ['a', 'b', 'c', 'd'].map(Arc::new);
        let (first, none) = waiting.begin(&a, now + WINDOW);
        assert_eq!(none, None);
        let (_second, none) = waiting.begin(&b, now);
        assert_eq!(none, None);
        let (third, longest) = waiting.begin(&c, now + 2 * WINDOW);
        assert_eq!(longest, Some(b));
        drop(third);
        let (_fourth, none) = waiting.begin(&d, now + 3 * WINDOW);
        assert_eq!(none, None);
        drop(first);
        assert_eq!(waiting.begin(&a, now).1, None);
    }
}
