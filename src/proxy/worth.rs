//! What an answer is worth to its request: README's table of the answers that win.

use http::StatusCode;

use super::exchange::Exchange;
use crate::message::{Outcome, headers};
use crate::upstream::Answer;

/// What an answer is worth to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It wins, if it is the first.
    Success,
    /// It wins if no leg does better.
    SecondBest,
    Nothing,
}

impl Exchange {
    /// How a leg with this answer has ended.
    pub(super) fn outcome_of(&self, answer: &Answer) -> Outcome {
        if answer.status == StatusCode::LOOP_DETECTED && self.proxy.via.is_in(&answer.headers) {
            return Outcome::Loop;
        }
        if answer.status == StatusCode::SWITCHING_PROTOCOLS && self.worth(answer) == Worth::Nothing {
            return Outcome::Protocol("it switches to a protocol that the request didn't ask for".to_owned());
        }
        Outcome::Status(answer.status)
    }

    pub(super) fn worth(&self, answer: &Answer) -> Worth {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            let is_switch = answer.switched.is_some()
                && self.upgrade.as_ref().is_some_and(|protocols| headers::is_switch_to(&answer.headers, protocols));
            return if is_switch { Worth::Success } else { Worth::Nothing };
        }
        match self.may_win(answer.status) {
            true if self.upgrade.is_some() => Worth::SecondBest,
            true => Worth::Success,
            false => Worth::Nothing,
        }
    }

    /// Whether an answer with this status may win, but for a 101.
    pub(super) fn may_win(&self, status: StatusCode) -> bool {
        (status == StatusCode::NOT_MODIFIED && self.is_conditional) || self.proxy.rules.success.counts(status)
    }
}
