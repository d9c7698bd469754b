//! The class of an answer to its request: docs/races.md, "Which answers win". Knows nothing of the other legs.

use http::{HeaderValue, StatusCode};

use crate::config::{Config, OnFailure};
use crate::message::headers::{self, ViaId};
use crate::message::{Outcome, Request};
use crate::upstream::Answer;

/// The least rank of an answer about the request itself.
pub(super) const RANK_ABOUT_REQUEST: u8 = 3;

/// The class of an answer to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerClass {
    /// It wins, if it is the first.
    Success,
    /// It wins if no leg does better.
    Fallback,
    /// It is no success, but if it is the first to decide, the client gets it.
    Final,
    Failure,
}

/// The successes that a request asks for beside the statuses of the configuration.
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
    pub(super) fn outcome_of(&self, answer: &Answer, config: &Config, via: &ViaId) -> Outcome {
        if answer.status == StatusCode::LOOP_DETECTED && via.is_in(&answer.headers) {
            return Outcome::Loop;
        }
        if answer.status == StatusCode::SWITCHING_PROTOCOLS && self.class_of(answer, config) == AnswerClass::Failure {
            return Outcome::Protocol("it switches to a protocol that the request didn't ask for".to_owned());
        }
        Outcome::Status(answer.status)
    }

    /// How much a failure says, the more the higher, where the client may get it: an answer about the request says more than one
    /// about the backend.
    pub(super) fn rank_of(&self, answer: &Answer, config: &Config, via: &ViaId) -> Option<u8> {
        if config.on_failure == OnFailure::BadGateway {
            return None;
        }
        match self.outcome_of(answer, config, via) {
            // It says nothing to a client that has asked for no condition.
            Outcome::Status(StatusCode::NOT_MODIFIED) => None,
            Outcome::Status(status) => Some(match status.as_u16() {
                ..=299 => 4,
                // As for the bench it is about that backend: another may be about to succeed.
                429 => 2,
                400..=499 => RANK_ABOUT_REQUEST,
                300..=399 => 1,
                _ => 0,
            }),
            _ => None,
        }
    }

    /// The class of this answer.
    pub(super) fn class_of(&self, answer: &Answer, config: &Config) -> AnswerClass {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            let is_switch = answer.upgraded.is_some()
                && self.upgrade.as_ref().is_some_and(|protocols| headers::is_switch_to(&answer.headers, protocols));
            return if is_switch { AnswerClass::Success } else { AnswerClass::Failure };
        }
        match self.may_win(answer.status, config) {
            true if self.upgrade.is_some() => AnswerClass::Fallback,
            true => AnswerClass::Success,
            // A client that has asked for no condition can do nothing with a 304.
            false if answer.status != StatusCode::NOT_MODIFIED && config.definitive.counts(answer.status) => {
                AnswerClass::Final
            }
            false => AnswerClass::Failure,
        }
    }

    /// Whether a leg with this outcome had an answer that may win.
    pub(super) fn is_success(&self, outcome: &Outcome, config: &Config) -> bool {
        match outcome {
            // One that the request didn't ask for has another outcome.
            Outcome::Status(StatusCode::SWITCHING_PROTOCOLS) => true,
            Outcome::Status(status) => self.may_win(*status, config),
            _ => false,
        }
    }

    /// Whether an answer with this status may win, but for a 101.
    fn may_win(&self, status: StatusCode, config: &Config) -> bool {
        (status == StatusCode::NOT_MODIFIED && self.is_conditional) || config.success.counts(status)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::{HeaderMap, HeaderName, Method, Version};

    use super::super::scenario::request;
    use super::*;
    use crate::config::Statuses;
    use crate::upstream::scenario::{self, Scenario};
    use crate::upstream::{AnswerBody, Representation};

    fn answer(status: u16, fields: &[(&'static str, &str)]) -> Answer {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        let status = StatusCode::from_u16(status).expect("a status");
        Answer {
            status,
            version: Version::HTTP_11,
            headers: fields.iter().map(field).collect::<HeaderMap>(),
            length: None,
            body: AnswerBody::Whole(Vec::new()),
            upgraded: None,
            upload: None,
            representation: Representation::new(status, None, None, None),
            head_by: Instant::now(),
        }
    }

    #[test]
    fn a_status_wins_if_the_rules_or_the_request_say_so() {
        use AnswerClass::{Failure, Fallback, Final, Success as Wins};
        let statuses = |list: &str| Statuses::parse(list).expect("statuses");
        let (plain, conditional, upgrade) =
            (&[][..], &[("if-none-match", "\"a\"")][..], &[("connection", "upgrade"), ("upgrade", "x")][..]);
        let config = |list: &str| {
            let (success, definitive) = list.split_once('/').unwrap_or((list, ""));
            let definitive = if definitive.is_empty() { Statuses::NONE } else { statuses(definitive) };
            Config { success: statuses(success), definitive, ..Config::default() }
        };
        let rows = [
            ("200", plain, 200, "200-299", Wins),
            ("204", plain, 204, "200-299", Wins),
            ("404", plain, 404, "200-299", Failure),
            ("404 by the rules", plain, 404, "200-299,404", Wins),
            ("200 against the rules", plain, 200, "404", Failure),
            ("304 to nothing", plain, 304, "200-299", Failure),
            ("304 to a condition", conditional, 304, "200-299", Wins),
            ("200 to a condition", conditional, 200, "200-299", Wins),
            ("200 to an upgrade", upgrade, 200, "200-299", Fallback),
            ("503 to an upgrade", upgrade, 503, "200-299", Failure),
            ("404 that is final", plain, 404, "200-299/404", Final),
            ("200 beside it", plain, 200, "200-299/404", Wins),
            ("503 beside it", plain, 503, "200-299/404", Failure),
            ("a final 404 to an upgrade", upgrade, 404, "200-299/404", Final),
            ("304 to nothing, among final ones", plain, 304, "200-299/300-399", Failure),
            ("304 to a condition, among final ones", conditional, 304, "200-299/300-399", Wins),
            ("302 among final ones", conditional, 302, "200-299/300-399", Final),
            ("101 without a connection", upgrade, 101, "200-299", Failure),
        ];
        for (label, fields, status, list, expected) in rows {
            let wanted = Wanted::by(&request(Method::GET, fields, None));
            assert_eq!(wanted.class_of(&answer(status, &[]), &config(list)), expected, "{label}");
        }
    }

    #[test]
    fn a_switch_wins_only_to_a_protocol_that_was_asked_for() {
        let rows =
            [("x", "x", AnswerClass::Success), ("x, y", "y", AnswerClass::Success), ("x", "y", AnswerClass::Failure)];
        for (asked_for, given, expected) in rows {
            let scenario = Scenario::still();
            let (leg, mut backend) = scenario.leg(scenario::get());
            backend.sends(format!("HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: {given}\r\n\r\n"));
            let answer = leg.answer().expect("a switch");
            let mut request = request(Method::GET, &[("connection", "upgrade")], None);
            request.headers.insert("upgrade", asked_for.parse().expect("a value"));
            let wanted = Wanted::by(&request);
            assert_eq!(wanted.class_of(&answer, &Config::default()), expected, "{given} to {asked_for}");
            let outcome = wanted.outcome_of(&answer, &Config::default(), &ViaId::random(false));
            assert_eq!(matches!(outcome, Outcome::Protocol(_)), expected == AnswerClass::Failure);
        }
    }

    #[test]
    fn a_loop_is_one_only_if_the_answer_names_this_process() {
        let (via, other) = (ViaId::random(true), ViaId::random(true));
        let wanted = Wanted::by(&request(Method::GET, &[], None));
        let outcome = |status, by: &ViaId| {
            let mut answer = answer(status, &[]);
            by.append_to(&mut answer.headers, Version::HTTP_11);
            wanted.outcome_of(&answer, &Config::default(), &via)
        };
        assert_eq!(outcome(508, &via), Outcome::Loop);
        assert_eq!(outcome(508, &other), Outcome::Status(StatusCode::LOOP_DETECTED));
        assert_eq!(outcome(500, &via), Outcome::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
}
