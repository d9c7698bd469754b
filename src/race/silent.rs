//! How many losers of decided races wait in vain at one backend: beyond a bound its legs are held back, so that a hung
//! backend costs nothing that grows. Knows nothing of backends or of what a leg does.

use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicIsize, AtomicU8, Ordering};
use crate::sync::{Mutex, PoisonError};

/// So often a leg is let through all the same: else nobody would notice that the backend has recovered.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The silent losers at one backend.
#[derive(Debug, Default)]
pub struct Silent {
    /// Below zero for a moment when a loser ends while it is being counted.
    count: AtomicIsize,
    probed: Mutex<Option<Instant>>,
    /// When the backend answered last.
    heard: Mutex<Option<Instant>>,
}

/// Whether one leg counts as a silent loser. It does so from the verdict to its own end.
#[derive(Debug, Default)]
pub struct Mark(AtomicU8);

const RUNNING: u8 = 0;
const SILENT: u8 = 1;
const ENDED: u8 = 2;

impl Silent {
    /// Whether one more leg may go there: there are fewer than `max`, or it is time to try again.
    pub fn admits(&self, max: usize, now: Instant) -> bool {
        if self.count() < max {
            return true;
        }
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = probed.is_none_or(|at| now.saturating_duration_since(at) >= PROBE_INTERVAL);
        if is_due {
            *probed = Some(now);
        }
        is_due
    }

    /// The backend has answered.
    pub fn hear(&self, now: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When the backend answered last.
    pub fn heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::try_from(self.count.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The race of this leg is decided and it hasn't ended.
    pub fn add(&self, mark: &Mark) {
        if mark.0.compare_exchange(RUNNING, SILENT, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The leg has ended.
    pub fn remove(&self, mark: &Mark) {
        if mark.0.swap(ENDED, Ordering::AcqRel) == SILENT {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loser_counts_from_the_verdict_to_its_end_whichever_comes_first() {
        let silent = Silent::default();
        let (late, early) = (Mark::default(), Mark::default());
        silent.add(&late);
        assert_eq!(silent.count(), 1);
        silent.remove(&late);
        silent.remove(&early);
        silent.add(&early);
        assert_eq!(silent.count(), 0);
    }

    #[test]
    fn beyond_the_bound_one_leg_a_second_is_a_probe() {
        let silent = Silent::default();
        let marks = [Mark::default(), Mark::default()];
        let now = Instant::now();
        assert!(silent.admits(2, now));
        for mark in &marks {
            silent.add(mark);
        }
        assert!(silent.admits(2, now), "the first probe");
        assert!(!silent.admits(2, now + PROBE_INTERVAL / 2));
        assert!(silent.admits(2, now + PROBE_INTERVAL), "the second probe");
        silent.remove(&marks[0]);
        assert!(silent.admits(2, now + PROBE_INTERVAL));
    }
}
