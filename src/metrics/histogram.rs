//! Durations counted without a lock: sixteen buckets per doubling from 64 µs to 67 s, so that a quantile is at most 6 % too long.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Buckets per doubling, as a power of two.
const SHIFT: u32 = 4;
/// The shortest duration that is told from others, 64 µs, as a power of two of microseconds.
const SHORTEST: u32 = 6;
/// Doublings from there: to 2^26 µs, which is 67 s.
const DOUBLINGS: u32 = 20;
/// One below the first doubling, and one above the last.
const BUCKETS: usize = ((DOUBLINGS << SHIFT) + 2) as usize;

/// A histogram of durations that only grows. Counting costs two relaxed additions.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[AtomicU64; BUCKETS]>,
    /// Of all durations, in microseconds.
    sum: AtomicU64,
}

/// What a histogram held at one moment. The difference of two is what came between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    counts: Vec<u64>,
    sum: u64,
}

/// What would be otherwise in a histogram: durations that would be missing in it, and others in their place.
#[derive(Debug)]
pub struct Changes(Box<[AtomicI64; BUCKETS]>);

/// What changes held at one moment. The difference of two is what came between them.
#[derive(Debug, Clone)]
pub struct ChangesSnapshot(Vec<i64>);

impl Default for Changes {
    fn default() -> Changes {
        Changes(Box::new([const { AtomicI64::new(0) }; BUCKETS]))
    }
}

impl Changes {
    /// Has a duration replaced by another, or by none. Any thread; doesn't block.
    pub fn replace(&self, duration: Duration, instead: Option<Duration>) {
        self.add(duration, -1);
        if let Some(instead) = instead {
            self.add(instead, 1);
        }
    }

    fn add(&self, duration: Duration, count: i64) {
        self.0[bucket_of(micros_of(duration))].fetch_add(count, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn snapshot(&self) -> ChangesSnapshot {
        ChangesSnapshot(self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect())
    }
}

impl Default for ChangesSnapshot {
    fn default() -> ChangesSnapshot {
        ChangesSnapshot(vec![0; BUCKETS])
    }
}

impl ChangesSnapshot {
    /// What has changed since an earlier snapshot of the same.
    #[must_use]
    pub fn since(&self, earlier: &ChangesSnapshot) -> ChangesSnapshot {
        ChangesSnapshot(self.0.iter().zip(&earlier.0).map(|(now, then)| now - then).collect())
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration. Any thread; doesn't block.
    pub fn add(&self, duration: Duration) {
        let micros = micros_of(duration);
        self.counts[bucket_of(micros)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Snapshot {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Snapshot { counts, sum: self.sum.load(Ordering::Relaxed) }
    }
}

impl Default for Snapshot {
    /// Of an empty histogram.
    fn default() -> Snapshot {
        Snapshot { counts: vec![0; BUCKETS], sum: 0 }
    }
}

impl Snapshot {
    /// What has been counted since an earlier snapshot of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Snapshot { counts, sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// What it would be with these changes. Its sum is that of what was counted.
    #[must_use]
    pub fn changed(&self, changes: &ChangesSnapshot) -> Snapshot {
        let counts = self.counts.iter().zip(&changes.0).map(|(count, change)| count.saturating_add_signed(*change));
        Snapshot { counts: counts.collect(), sum: self.sum }
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// The duration that this share of all, from 0 to 1, doesn't exceed: its bucket's upper end. `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count"
        )]
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut before = 0;
        self.counts.iter().enumerate().find_map(|(bucket, count)| {
            before += count;
            (before >= rank).then(|| Duration::from_micros(end_of(bucket)))
        })
    }

    /// How many durations lie in buckets that end by then.
    pub fn count_within(&self, bound: Duration) -> u64 {
        let micros = micros_of(bound);
        self.counts.iter().enumerate().take_while(|(bucket, _)| end_of(*bucket) <= micros).map(|(_, count)| count).sum()
    }
}

/// Whole microseconds; the most of all if there are more.
pub(super) fn micros_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The bucket of a duration in microseconds.
fn bucket_of(micros: u64) -> usize {
    if micros < 1 << SHORTEST {
        return 0;
    }
    let doubling = micros.ilog2();
    if doubling >= SHORTEST + DOUBLINGS {
        return BUCKETS - 1;
    }
    let within = (micros >> (doubling - SHIFT)) & ((1 << SHIFT) - 1);
    (((doubling - SHORTEST) as usize) << SHIFT) + usize::try_from(within).unwrap_or(0) + 1
}

/// The first microsecond behind a bucket; the last one, which has no end, counts as twice the longest.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let (doubling, within) = (bucket >> SHIFT, bucket & ((1 << SHIFT) - 1));
    ((1 << SHIFT) + within) << (doubling + u64::from(SHORTEST - SHIFT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_lies_in_its_bucket_which_is_at_most_a_sixteenth_wide(micros in 64_u64..1 << 26) {
            let bucket = bucket_of(micros);
            let (begin, end) = (end_of(bucket - 1), end_of(bucket));
            prop_assert!((begin..end).contains(&micros), "{begin}..{end}");
            prop_assert!((end - begin) * 16 <= begin, "{begin}..{end}");
        }
    }

    #[test]
    fn changes_take_durations_away_and_put_others_in_their_place() {
        let (histogram, changes) = (Histogram::default(), Changes::default());
        for millis in [1, 2, 4] {
            histogram.add(Duration::from_millis(millis));
        }
        let before = changes.snapshot();
        changes.replace(Duration::from_millis(1), Some(Duration::from_millis(100)));
        changes.replace(Duration::from_millis(4), None);
        let expected = Histogram::default();
        for millis in [2, 100] {
            expected.add(Duration::from_millis(millis));
        }
        let found = histogram.snapshot().changed(&changes.snapshot().since(&before));
        assert_eq!(found.counts, expected.snapshot().counts);
        assert_eq!(histogram.snapshot().changed(&before), histogram.snapshot());
    }

    #[test]
    fn quantiles_sums_and_counts_are_those_of_what_was_added() {
        let histogram = Histogram::default();
        assert_eq!(histogram.snapshot().quantile(0.5), None);
        for millis in 1..=100 {
            histogram.add(Duration::from_millis(millis));
        }
        let all = histogram.snapshot();
        for (share, millis) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = all.quantile(share).expect("there are some").as_secs_f64() * 1000.0;
            assert!((millis..=millis * 1.07).contains(&found), "{share}: {found}");
        }
        assert_eq!((all.count(), all.sum()), (100, Duration::from_millis(5050)));
        histogram.add(Duration::from_secs(1000));
        histogram.add(Duration::ZERO);
        let since = histogram.snapshot().since(&all);
        assert_eq!((since.count(), since.sum()), (2, Duration::from_secs(1000)));
        assert_eq!(since.quantile(0.1), Some(Duration::from_micros(64)));
        assert_eq!(since.quantile(1.0), Some(Duration::from_micros(71_303_168)));
        assert!(all.count_within(Duration::from_millis(50)) >= 46 && all.count_within(Duration::from_millis(50)) <= 50);
        assert_eq!(all.count_within(Duration::from_secs(1)), 100);
    }
}
