//! The costs of races so far, by number. Knows nothing of what a race is about.

use std::sync::atomic::{AtomicU64, Ordering};

use super::LegEntry;
use crate::message::Outcome;

/// Counts the legs of races that are over.
#[derive(Debug, Default)]
pub struct Counters {
    legs: AtomicU64,
    hung_up: AtomicU64,
}

/// The costs of races since the start. Races that aren't over count for nothing yet, but for their connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Legs, those that were skipped included.
    pub legs: u64,
    /// Legs that were hung up on.
    pub hung_up: u64,
    /// Connections to backends that were opened.
    pub connections_opened: u64,
    /// Uses of a connection beyond its first.
    pub connections_reused: u64,
}

impl Counters {
    /// Counts the legs of a race that is over.
    pub fn add(&self, legs: &[LegEntry]) {
        let hung_up = legs.iter().filter(|leg| leg.outcome == Some(&Outcome::Cancelled)).count();
        self.legs.fetch_add(legs.len() as u64, Ordering::Relaxed);
        self.hung_up.fetch_add(hung_up as u64, Ordering::Relaxed);
    }

    /// The costs counted here, together with the pools' counts of connections.
    pub fn totals(&self, connections_opened: u64, connections_reused: u64) -> Totals {
        let (legs, hung_up) = (self.legs.load(Ordering::Relaxed), self.hung_up.load(Ordering::Relaxed));
        Totals { legs, hung_up, connections_opened, connections_reused }
    }
}
