//! How long races have lately taken to their first success, as the delay after which a hedge is worth its price. Knows nothing of
//! races or clocks: it is told what each took, and that a second is over.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::histogram::{Histogram, Snapshot};
use crate::runtime::sync::Mutex;

/// A window closes at this age. Longer ones follow a service that slows down too late: each second at which the delay is too short
/// costs requests.
const WINDOW: Duration = Duration::from_secs(10);
/// The fewest times in a closed window, so that a slow service keeps an old estimate instead of none; and the fewest for an
/// estimate at all.
const COUNT_MIN: u64 = 100;
/// The age at which a window with fewer is forgotten with all before it: it says nothing of today.
const AGE_MAX: Duration = Duration::from_secs(600);
/// The percentiles that are kept: p50 to p99.
const LOWEST: u8 = 50;
const COUNT: usize = 50;

/// The times from the start of races to their first success in the last 10 to 20 seconds, as far as their first tier goes.
#[derive(Debug)]
pub struct FirstSuccess {
    times: Histogram,
    windows: Mutex<Windows>,
    /// By percentile, from the lowest, in microseconds; 0 while nothing is known.
    delays: [AtomicU32; COUNT],
}

#[derive(Debug, Default)]
struct Windows {
    /// What had been counted when the last closed window began.
    closed: Snapshot,
    /// And when the current one did.
    current: Snapshot,
    began: Option<Instant>,
}

impl Default for FirstSuccess {
    fn default() -> FirstSuccess {
        FirstSuccess {
            times: Histogram::default(),
            windows: Mutex::default(),
            delays: [const { AtomicU32::new(0) }; COUNT],
        }
    }
}

impl FirstSuccess {
    /// Counts a race: the time to the first success of its first tier; of one that was cut before, the time of that, since the
    /// success would have come later. Leaving those out would have the delay sink with each hedge that wins. Doesn't block.
    pub fn add(&self, time: Duration) {
        self.times.add(time);
    }

    /// How many have been counted.
    pub fn count(&self) -> u64 {
        self.times.snapshot().count()
    }

    /// The time within which this percentage of races, from 50 to 99, had their first success. `None` while too few are known.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let delay = self.delays.get(usize::from(percent.checked_sub(LOWEST)?))?.load(Ordering::Relaxed);
        (delay > 0).then(|| Duration::from_micros(delay.into()))
    }

    /// Notes that a second is over: estimates anew. Doesn't block.
    pub fn end_second(&self, now: Instant) {
        let mut windows = self.windows.lock();
        let times = self.times.snapshot();
        let began = *windows.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        let count = times.since(&windows.current).count();
        if age >= WINDOW && count >= COUNT_MIN {
            let times = times.clone();
            windows.closed = std::mem::replace(&mut windows.current, times);
            windows.began = Some(now);
        } else if age >= AGE_MAX {
            (windows.closed, windows.current, windows.began) = (times.clone(), times.clone(), Some(now));
        }
        let lately = times.since(&windows.closed);
        let is_known = lately.count() >= COUNT_MIN;
        for (percent, delay) in (LOWEST..).zip(&self.delays) {
            let time = is_known.then(|| lately.quantile(f64::from(percent) / 100.0)).flatten();
            let micros = time.map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
            delay.store(micros, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn add(times: &FirstSuccess, millis: u64, count: usize) {
        (0..count).for_each(|_| times.add(Duration::from_millis(millis)));
    }

    /// The median, to the millisecond.
    fn median(times: &FirstSuccess) -> Option<u128> {
        times.percentile(50).map(|time| time.as_millis())
    }

    #[test]
    fn a_percentile_is_the_upper_end_of_its_bucket_once_a_hundred_are_known() {
        let (times, now) = (FirstSuccess::default(), Instant::now());
        add(&times, 10, 99);
        times.end_second(now);
        assert_eq!(times.percentile(95), None);
        add(&times, 300, 1);
        assert_eq!(times.percentile(95), None, "once a second");
        times.end_second(now + SECOND);
        assert_eq!(times.percentile(95), Some(Duration::from_micros(10_240)));
        assert_eq!(times.percentile(99), times.percentile(50));
        add(&times, 300, 2);
        times.end_second(now + 2 * SECOND);
        assert!(times.percentile(99).is_some_and(|time| time >= Duration::from_millis(300)));
        assert_eq!((times.percentile(49), times.percentile(100)), (None, None));
    }

    #[test]
    fn what_is_older_than_two_windows_counts_no_more() {
        let (times, now) = (FirstSuccess::default(), Instant::now());
        times.end_second(now);
        for (millis, count, until, expected) in [(10, 300, 10, 10), (100, 200, 19, 10), (100, 1, 20, 102)] {
            add(&times, millis, count);
            times.end_second(now + until * SECOND);
            assert_eq!(median(&times), Some(expected), "after {until} s");
        }
    }

    #[test]
    fn a_slow_service_keeps_an_old_estimate_for_ten_minutes() {
        let (times, now) = (FirstSuccess::default(), Instant::now());
        times.end_second(now);
        add(&times, 10, 150);
        times.end_second(now + 10 * SECOND);
        add(&times, 100, 99);
        for seconds in [20, 300, 609] {
            times.end_second(now + seconds * SECOND);
            assert_eq!(median(&times), Some(10), "after {seconds} s");
        }
        times.end_second(now + 610 * SECOND);
        assert_eq!(median(&times), None);
        add(&times, 100, 100);
        times.end_second(now + 611 * SECOND);
        assert_eq!(median(&times), Some(102));
    }
}
