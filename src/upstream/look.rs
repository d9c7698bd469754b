//! The long look at one backend: a leg that is let run to its timeout though its race is decided, so that a backend that hangs can
//! be told from one that is only slower than the winner. One leg at a time has it, and only where there was no success lately.

use std::time::{Duration, Instant};

use crate::runtime::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The age at which a backend's last success says no more how it is. The look costs a descriptor, and one leg in this time.
const SUCCESS_AGE_MAX: Duration = Duration::from_secs(10);

/// One backend's long look.
#[derive(Debug)]
pub struct Look {
    begin: Instant,
    /// The time of the last success, in milliseconds since the start; 0 before the first.
    success: AtomicU64,
    is_taken: AtomicBool,
}

/// Whether one leg has its backend's long look. Whatever ends the leg gives it back.
#[derive(Debug, Default)]
pub struct LookLease(AtomicUsize);

const NONE: usize = 0;
const TAKEN: usize = 1;
const ENDED: usize = 2;

impl Look {
    /// Of a backend that is new: it is due at once.
    pub fn new(now: Instant) -> Look {
        Look { begin: now, success: AtomicU64::new(0), is_taken: AtomicBool::new(false) }
    }

    /// Notes an answer that counts as success, whether it has won or not.
    pub fn note_success(&self, now: Instant) {
        self.success.store(self.millis(now).max(1), Ordering::Relaxed);
    }

    /// Gives the look to a leg, if it is due, no other has it, and the leg hasn't ended.
    pub fn try_take(&self, lease: &LookLease, now: Instant) -> bool {
        let success = self.success.load(Ordering::Relaxed);
        let age = Duration::from_millis(self.millis(now).saturating_sub(success));
        if (success > 0 && age < SUCCESS_AGE_MAX) || self.is_taken.swap(true, Ordering::AcqRel) {
            return false;
        }
        let is_given = lease.0.compare_exchange(NONE, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !is_given {
            self.is_taken.store(false, Ordering::Release);
        }
        is_given
    }

    /// Takes the look back, if the leg has it: it has ended.
    pub fn end(&self, lease: &LookLease) {
        if lease.0.swap(ENDED, Ordering::AcqRel) == TAKEN {
            self.is_taken.store(false, Ordering::Release);
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }
}

impl LookLease {
    /// Whether the leg has the look.
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire) == TAKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_without_a_success_for_ten_seconds_and_one_leg_has_it() {
        let now = Instant::now();
        let look = Look::new(now);
        let [first, second, third] = [(); 3].map(|()| LookLease::default());
        assert!(look.try_take(&first, now) && first.is_taken(), "a new backend is due");
        assert!(!look.try_take(&second, now), "one at a time");
        look.end(&second);
        assert!(!look.try_take(&third, now), "another leg's end frees nothing");
        look.end(&first);
        assert!(!first.is_taken() && !look.try_take(&second, now), "a leg that has ended looks at nothing");
        assert!(look.try_take(&third, now));
        look.end(&third);
        look.note_success(now);
        let leg = LookLease::default();
        assert!(!look.try_take(&leg, now + SUCCESS_AGE_MAX / 2));
        assert!(look.try_take(&leg, now + SUCCESS_AGE_MAX + Duration::from_millis(1)));
    }
}
