//! How many lines there may be: the limit of descriptors bounds them, and the files that their legs keep open. Knows nothing
//! of what they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Lines, Upstream};
use crate::message::Outcome;

/// One of the lines that there may be.
pub(super) struct Permit {
    upstream: Arc<Upstream>,
    /// How many of them one backend has.
    own: Arc<AtomicUsize>,
}

impl Permit {
    /// A backend may have as many lines as are left for all others: one that hangs can't take the last from those that
    /// answer.
    pub(super) fn take(upstream: &Arc<Upstream>, own: &Arc<AtomicUsize>) -> Result<Permit, Outcome> {
        // Counted first, so that the bound holds whoever else counts.
        let (permit, all_before, own_before) = Permit::count(upstream, own);
        let left = upstream.reach.lines_max.saturating_sub(all_before);
        if own_before < left { Ok(permit) } else { Err(Outcome::NoSocket) }
    }

    /// One more, whether there may be one or not, and how many there were: in all, and of this backend.
    pub(super) fn count(upstream: &Arc<Upstream>, own: &Arc<AtomicUsize>) -> (Permit, usize, usize) {
        let permit = Permit { upstream: upstream.clone(), own: own.clone() };
        let all_before = upstream.lines.fetch_add(1, Ordering::Relaxed);
        (permit, all_before, own.fetch_add(1, Ordering::Relaxed))
    }
}

/// The place of a line that the file of a request's body takes, for the sake of one loser that still sends it: until the race
/// is decided the client's own place stands for the file, but then it may send another.
#[derive(Default)]
pub struct FilePlace(Mutex<Taken>);

#[derive(Default)]
enum Taken {
    #[default]
    NotYet,
    Now(#[expect(dead_code, reason = "it counts as long as it is there")] Permit),
    NoMore,
}

impl FilePlace {
    /// The race is decided, and this leg may not have ended. The file is there, so nobody is asked; but its backend has fewer
    /// lines meanwhile.
    pub fn take(&self, lines: &Lines) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*taken, Taken::NotYet) {
            *taken = Taken::Now(lines.counted_permit());
        }
    }

    /// The leg has ended.
    pub fn give_back(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Taken::NoMore;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.upstream.lines.fetch_sub(1, Ordering::Relaxed);
        self.own.fetch_sub(1, Ordering::Relaxed);
    }
}
