//! The meaning of a connection's errors for their leg.

use std::io;

use crate::message::Outcome;
use crate::upstream::connect::tls_error::sentence_of;

/// Turns an error of an established connection into the outcome of its leg.
pub(crate) fn outcome_of_io(error: &io::Error) -> Outcome {
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
