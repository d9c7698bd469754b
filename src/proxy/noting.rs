//! What an exchange tells the state that a backend keeps from race to race: its breaker, its look, its counts. And the lines that say
//! that a backend hangs, or answers again.

use std::time::{Duration, Instant, SystemTime};

use super::exchange::Exchange;
use super::leg::Leg;
use crate::message::Timestamp;

impl Exchange {
    /// Notes that a leg's backend has given an answer that counts, so long after the race's begin.
    pub(super) fn note_success(&self, leg: usize, after: Duration, now: Instant) {
        let backend = &self.legs[leg].backend;
        backend.look().note_success(now);
        backend.stats().note_success(SystemTime::now());
        self.note_first_success(leg, after);
    }

    /// Tells the breaker that the leg's backend has answered.
    pub(super) fn note_answer(&self, leg: usize, now: Instant) {
        if self.legs[leg].backend.breaker().note_answer(self.path, now) {
            self.tell_answers(leg);
        }
    }

    /// Tells the breaker that the leg's backend has begun an answer.
    pub(super) fn note_head(&self, leg: usize) {
        if self.legs[leg].backend.breaker().note_head() {
            self.tell_answers(leg);
        }
    }

    /// Tells the breaker that the leg has waited to its timeout.
    pub(super) fn note_timeout(&self, leg: usize) {
        let Leg { backend, started, .. } = &self.legs[leg];
        let waited = self.elapsed().saturating_sub(started.get().copied().unwrap_or_default());
        if let Some(since) = Instant::now().checked_sub(waited) {
            backend.breaker().note_timeout(since);
        }
    }

    /// Tells that a leg's backend hangs: from now on it is asked less.
    pub(super) fn tell_hang(&self, leg: usize, now: Instant) {
        let backend = &self.legs[leg].backend;
        let answered = backend.breaker().last_answer();
        let answered = answered.and_then(|at| SystemTime::now().checked_sub(now.saturating_duration_since(at)));
        let since = Timestamp(answered.unwrap_or_else(|| backend.stats().listed()));
        let (name, address, max) = (backend.full_name(), backend.address(), self.context.config.max_unanswered.get());
        match backend.after() {
            None => log::warn!("{name} {address} hangs since {since}: asked once a second"),
            Some(_) => log::warn!("{name} {address} hangs since {since}: asked while fewer than {max} wait there"),
        }
    }

    /// Tells that a leg's backend hangs no more.
    fn tell_answers(&self, leg: usize) {
        log::info!("{} {} answers again", self.legs[leg].backend.full_name(), self.legs[leg].backend.address());
    }
}
