//! Bounds how many hedges one backend gets by time: a share of the requests, with a reserve. Else a service that slows down as a whole
//! would get more requests just when it can answer fewer. Knows nothing of when a hedge is worth it.

use crate::runtime::sync::atomic::{AtomicU64, Ordering};

/// The most hedges in a row. The estimate of the delay is noisy: with none in reserve each second race that wants one would go without.
const RESERVE: u64 = 50;
/// A hedge, in the parts that requests bring.
const HEDGE: u64 = 100;

/// One backend's budget for hedges. It begins full.
#[derive(Debug)]
pub struct HedgeBudget(AtomicU64);

impl Default for HedgeBudget {
    fn default() -> HedgeBudget {
        HedgeBudget(AtomicU64::new(RESERVE * HEDGE))
    }
}

impl HedgeBudget {
    /// Puts in what one request brings: twice the share of requests that are slower than this percentile.
    pub fn put_in(&self, percent: u8) {
        let part = 2 * HEDGE.saturating_sub(u64::from(percent) * HEDGE / 100);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |has| {
            Some((has + part).min(RESERVE * HEDGE)).filter(|filled| *filled != has)
        });
    }

    /// Takes out one hedge, if it has that much.
    pub fn try_take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |has| has.checked_sub(HEDGE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &HedgeBudget) -> usize {
        std::iter::repeat_with(|| budget.try_take()).take_while(|taken| *taken).count()
    }

    #[test]
    fn a_budget_has_a_reserve_and_twice_the_share_of_the_requests() {
        let budget = HedgeBudget::default();
        budget.put_in(50);
        assert_eq!(taken(&budget), 50, "it is full, not more");
        for (percent, expected) in [(95, 10), (99, 2), (90, 20), (50, 50)] {
            for _ in 0..100 {
                budget.put_in(percent);
            }
            assert_eq!(taken(&budget), expected, "p{percent}");
        }
    }
}
