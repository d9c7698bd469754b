//! All races together, by number. Counts only grow.

use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::LegEnd;
use super::histogram::Histogram;

/// The end of a race for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaceEnd {
    /// A leg won.
    Won,
    /// Every leg lost.
    Lost,
    /// The client left first.
    Abandoned,
}

impl RaceEnd {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            RaceEnd::Won => "won",
            RaceEnd::Lost => "lost",
            RaceEnd::Abandoned => "abandoned",
        }
    }
}

/// The counts of all races that are over. Counting takes no lock.
#[derive(Debug, Default)]
pub struct RaceStats {
    won: AtomicU64,
    lost: AtomicU64,
    abandoned: AtomicU64,
    /// From the last byte of a request to the head of its reply.
    durations: Histogram,
}

impl RaceStats {
    /// Counts a race whose legs have all ended.
    pub fn count(&self, end: RaceEnd, legs: &[LegEnd]) {
        let (count, reply) = match end {
            RaceEnd::Won => (&self.won, legs.iter().find(|leg| leg.has_won).map(|leg| leg.ended)),
            RaceEnd::Lost => (&self.lost, legs.iter().map(|leg| leg.ended).max()),
            RaceEnd::Abandoned => (&self.abandoned, None),
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = reply {
            self.durations.add(reply);
        }
    }

    /// The count of races that ended so.
    pub fn count_of(&self, end: RaceEnd) -> u64 {
        let count = match end {
            RaceEnd::Won => &self.won,
            RaceEnd::Lost => &self.lost,
            RaceEnd::Abandoned => &self.abandoned,
        };
        count.load(Ordering::Relaxed)
    }

    /// The times from the last byte of a request to the head of its reply, of races that weren't abandoned.
    pub fn durations(&self) -> &Histogram {
        &self.durations
    }
}
