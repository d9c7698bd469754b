//! What a call that brought no answer means for its leg. Knows nothing of connections but their story.

use std::io;

use ureq::Error;

use super::story::Story;
use super::tls_failure::sentence_of;
use crate::message::Outcome;

/// Why a call brought no answer.
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// The line died without one byte of an answer, as one does that its backend closes just when it is used again.
    pub(super) died_unanswered: bool,
}

impl Failure {
    /// What an error of ureq's means, on a connection with this story.
    pub(super) fn new(error: Error, story: &Story) -> Failure {
        let outcome = match () {
            () if story.was_reset() => Outcome::Reset,
            () if story.has_timed_out() => Outcome::Timeout,
            () => outcome_of(error),
        };
        let died = matches!(outcome, Outcome::Reset | Outcome::Closed);
        Failure { outcome, died_unanswered: died && !story.was_answered() }
    }

    /// What has nothing to do with the connection.
    pub(super) fn other(outcome: Outcome) -> Failure {
        Failure { outcome, died_unanswered: false }
    }
}

fn outcome_of(error: Error) -> Outcome {
    match error {
        Error::Timeout(_) => Outcome::Timeout,
        Error::LargeResponseHeader(..) => Outcome::TooLarge,
        Error::Io(error) => outcome_of_io(&error),
        Error::Other(error) => match error.downcast_ref::<io::Error>() {
            Some(error) => outcome_of_io(error),
            None => Outcome::Protocol(error.to_string()),
        },
        Error::Protocol(error) => Outcome::Protocol(error.to_string()),
        other => Outcome::Protocol(other.to_string()),
    }
}

fn outcome_of_io(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Outcome::Reset,
        io::ErrorKind::UnexpectedEof => Outcome::Closed,
        // rustls wraps its errors in this kind.
        io::ErrorKind::InvalidData => Outcome::Tls(sentence_of(error)),
        _ => Outcome::Protocol(error.to_string()),
    }
}
