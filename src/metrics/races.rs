//! All races together, by number. Counts only grow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::backend::LegEnd;
use super::histogram::Histogram;
use crate::message::Outcome;

/// The end of a race for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaceEnd {
    /// A leg won.
    Won,
    /// A leg's answer ended it, though it was no success.
    Final,
    /// No leg won, and the client got the answer of the one that said most.
    Best,
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
            RaceEnd::Final => "final",
            RaceEnd::Best => "best",
            RaceEnd::Lost => "lost",
            RaceEnd::Abandoned => "abandoned",
        }
    }
}

/// The counts of all races that are over. Counting takes no lock.
#[derive(Debug, Default)]
pub struct RaceStats {
    /// By [`RaceEnd`].
    ends: [AtomicU64; 5],
    legs: AtomicU64,
    hung_up: AtomicU64,
    /// From the last byte of a request to the head of its reply.
    durations: Histogram,
    /// By [`LateStart`].
    late_starts: [AtomicU64; 3],
    all_benched: AtomicU64,
}

/// What became of a leg that didn't start with its race.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateStart {
    /// It started, since its time had come.
    Time,
    /// It started, since all legs before it had lost.
    Failure,
    /// Its time had come, and there was no budget for it.
    Refused,
}

impl LateStart {
    /// All of them, with the words of metrics.
    pub const WORDS: [(LateStart, &str); 3] =
        [(LateStart::Time, "time"), (LateStart::Failure, "failure"), (LateStart::Refused, "refused")];
}

/// The costs of races since the start, also at backends that have left the list. Races that aren't over count for nothing yet, but
/// for their connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Legs whose backend was asked.
    pub legs: u64,
    /// Legs that were hung up on.
    pub hung_up: u64,
    /// Connections to backends that were opened.
    pub connections_opened: u64,
    /// Uses of a connection beyond its first.
    pub connections_reused: u64,
}

impl RaceStats {
    /// The costs counted here, together with the pools' counts of connections.
    pub fn totals(&self, connections_opened: u64, connections_reused: u64) -> Totals {
        let (legs, hung_up) = (self.legs.load(Ordering::Relaxed), self.hung_up.load(Ordering::Relaxed));
        Totals { legs, hung_up, connections_opened, connections_reused }
    }

    /// Counts a race whose legs have all ended, and the time to its reply's head, if it had a reply.
    pub fn count(&self, end: RaceEnd, reply: Option<Duration>, legs: &[LegEnd]) {
        let hung_up = legs.iter().filter(|leg| *leg.outcome == Outcome::Cancelled).count();
        self.hung_up.fetch_add(hung_up as u64, Ordering::Relaxed);
        let asked = legs.iter().filter(|leg| leg.was_asked()).count();
        self.legs.fetch_add(asked as u64, Ordering::Relaxed);
        self.ends[end as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(reply) = reply {
            self.durations.add(reply);
        }
    }

    /// Counts legs that didn't start with their race.
    pub fn count_late_starts(&self, why: LateStart, count: usize) {
        self.late_starts[why as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The count of legs that didn't start with their race, by what became of them.
    pub fn late_starts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LateStart::WORDS.iter().map(|(why, word)| (*word, self.late_starts[*why as usize].load(Ordering::Relaxed)))
    }

    /// Counts a race whose backends were all benched, so that all took part.
    pub fn count_all_benched(&self) {
        self.all_benched.fetch_add(1, Ordering::Relaxed);
    }

    /// The count of races whose backends were all benched.
    pub fn all_benched(&self) -> u64 {
        self.all_benched.load(Ordering::Relaxed)
    }

    /// The count of races that ended so.
    pub fn count_of(&self, end: RaceEnd) -> u64 {
        self.ends[end as usize].load(Ordering::Relaxed)
    }

    /// The times from the last byte of a request to the head of its reply, of races that weren't abandoned.
    pub fn durations(&self) -> &Histogram {
        &self.durations
    }
}
