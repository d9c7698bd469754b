//! What an error of ureq's or of a socket means for its leg. Knows nothing of connections.

use std::io;

use ureq::Error;

use super::tls_failure::sentence_of;
use crate::message::Outcome;

/// What an error of ureq's means.
pub(super) fn outcome_of(error: Error) -> Outcome {
    match error {
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

/// What an error of a connection means that has been made.
pub(super) fn outcome_of_io(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Outcome::Reset,
        io::ErrorKind::UnexpectedEof => Outcome::Closed,
        // The peer acknowledged nothing for too long.
        io::ErrorKind::TimedOut => Outcome::Timeout,
        // TLS wraps its errors in this kind.
        io::ErrorKind::InvalidData => Outcome::Tls(sentence_of(error)),
        _ => Outcome::Protocol(error.to_string()),
    }
}
