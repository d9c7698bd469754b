//! The class of an answer to its request: docs/races.md, "Which answers win". Knows nothing of the other legs.

use http::{HeaderValue, StatusCode};

use crate::config::{HostHeader, Success};
use crate::message::headers::{self, ViaId};
use crate::message::{Networks, Outcome, Request};
use crate::upstream::Answer;

/// The rules of the race.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The statuses that win.
    pub success: Success,
    /// The `Host` that backends get.
    pub host: HostHeader,
    /// Whether backends get `Via`.
    pub via: bool,
    /// Peers that are believed where a request came from.
    pub trusted_proxies: Networks,
    /// The most losers that may wait at one backend for an answer before legs to it are deferred.
    pub unanswered_max: usize,
    /// Whether clients are told where backends are.
    pub expose_backends: bool,
}

impl Default for Rules {
    /// Any 2xx wins, each backend gets its own name and no `Via`, no peer is believed, and no client is told where backends are.
    fn default() -> Rules {
        let (success, trusted_proxies) = (Success::default(), Networks::default());
        Rules {
            success,
            host: HostHeader::Backend,
            via: false,
            trusted_proxies,
            unanswered_max: 128,
            expose_backends: false,
        }
    }
}

/// The class of an answer to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerClass {
    /// It wins, if it is the first.
    Success,
    /// It wins if no leg does better.
    Fallback,
    Failure,
}

/// The successes that a request asks for beside the statuses of the rules.
pub(super) struct Wanted {
    is_conditional: bool,
    /// The protocols that the client would switch to.
    upgrade: Option<HeaderValue>,
}

impl Wanted {
    /// Reads from the request what it wants.
    pub(super) fn by(request: &Request) -> Wanted {
        Wanted { is_conditional: headers::is_conditional(request), upgrade: headers::upgrade_of(request) }
    }

    /// The outcome of a leg with this answer.
    pub(super) fn outcome_of(&self, answer: &Answer, rules: &Rules, via: &ViaId) -> Outcome {
        if answer.status == StatusCode::LOOP_DETECTED && via.is_in(&answer.headers) {
            return Outcome::Loop;
        }
        if answer.status == StatusCode::SWITCHING_PROTOCOLS && self.class_of(answer, rules) == AnswerClass::Failure {
            return Outcome::Protocol("it switches to a protocol that the request didn't ask for".to_owned());
        }
        Outcome::Status(answer.status)
    }

    /// The class of this answer.
    pub(super) fn class_of(&self, answer: &Answer, rules: &Rules) -> AnswerClass {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            let is_switch = answer.upgraded.is_some()
                && self.upgrade.as_ref().is_some_and(|protocols| headers::is_switch_to(&answer.headers, protocols));
            return if is_switch { AnswerClass::Success } else { AnswerClass::Failure };
        }
        match self.may_win(answer.status, rules) {
            true if self.upgrade.is_some() => AnswerClass::Fallback,
            true => AnswerClass::Success,
            false => AnswerClass::Failure,
        }
    }

    /// Whether a leg with this outcome had an answer that may win.
    pub(super) fn is_success(&self, outcome: &Outcome, rules: &Rules) -> bool {
        match outcome {
            // One that the request didn't ask for has another outcome.
            Outcome::Status(StatusCode::SWITCHING_PROTOCOLS) => true,
            Outcome::Status(status) => self.may_win(*status, rules),
            _ => false,
        }
    }

    /// Whether an answer with this status may win, but for a 101.
    fn may_win(&self, status: StatusCode, rules: &Rules) -> bool {
        (status == StatusCode::NOT_MODIFIED && self.is_conditional) || rules.success.counts(status)
    }
}
