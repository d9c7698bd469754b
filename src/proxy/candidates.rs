//! Answers that would do if nothing better came: to a request that asks for an upgrade, any success but the switch itself. They
//! wait without a thread, bodies unread, while a leg may still do better.

use std::sync::Arc;
use std::time::Duration;

use super::exchange::Exchange;
use crate::message::Outcome;
use crate::upstream::{Answer, Prospect};

impl Exchange {
    /// Holds the answer until the race says what becomes of it. Doesn't block.
    pub(super) fn hold(self: &Arc<Self>, leg: usize, answer: Answer, after: Duration) {
        // Before the race knows of it: another leg may decide at once.
        self.legs[leg].hold(answer, after);
        match self.race.hold(leg) {
            Some(next) => self.act_on(next),
            None => self.lose_all(&[leg]),
        }
    }

    /// Chooses a winner, since no leg can do better any more: the first whose connection is alive, or else the first of which
    /// enough may have been received before the end.
    pub(super) fn choose(self: &Arc<Self>, legs: &[usize]) {
        let mut best: Option<(usize, Answer, Duration, Prospect)> = None;
        for &leg in legs {
            let Some((answer, after)) = self.legs[leg].take_candidate() else { continue };
            let prospect = answer.body.prospect();
            if let Prospect::Broken(outcome) = prospect {
                self.end(leg, outcome, self.elapsed());
                continue;
            }
            let is_better =
                best.as_ref().is_none_or(|(.., of_best)| *of_best == Prospect::Ended && prospect == Prospect::Alive);
            let candidate = (leg, answer, after, prospect);
            let loser = if is_better { best.replace(candidate) } else { Some(candidate) };
            if let Some((leg, answer, after, _)) = loser {
                self.lose_answer(leg, answer, after);
            }
        }
        let Some((leg, answer, after, _)) = best else { return };
        match self.race.claim(leg) {
            Some(won) => self.win(leg, answer, won, after),
            None => self.lose_answer(leg, answer, after),
        }
    }

    /// Ends legs that have lost to a better answer, and frees their connections.
    pub(super) fn lose_all(self: &Arc<Self>, legs: &[usize]) {
        for &leg in legs {
            if let Some((answer, after)) = self.legs[leg].take_candidate() {
                self.lose_answer(leg, answer, after);
            }
        }
    }

    /// Ends legs whose client has left.
    pub(super) fn cancel_all(self: &Arc<Self>, legs: &[usize]) {
        for &leg in legs {
            drop(self.legs[leg].take_candidate());
            self.end(leg, Outcome::Cancelled, self.elapsed());
        }
    }
}
